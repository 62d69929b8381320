"""Runs the commands of docker/RUNBOOKS.md for what is lost, leaked or full, as they stand there (`make runbooks-test`).

`run.py [PART-OF-A-TITLE…]`; RUNBOOKS_SERVICE names the binary. Each runbook has a service of its own, on ports 6250 to 6259
of loopback. The full disk is a small file system in a file, which needs root; where it cannot be mounted, that is said.
"""
import json, os, pathlib, re, secrets, shutil, signal, subprocess, sys, tempfile, time, urllib.error, urllib.parse, urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/failover"))
from mails import Mails

PORT, SINK, NOBODY = 6250, 6251, 6259
BASE = f"http://127.0.0.1:{PORT}"
SCOPES = ("links:issue", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect", "audit:read")
PAGE = (ROOT / "docker/RUNBOOKS.md").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{PORT}")


def eventually(what, asked, seconds=30):
    end = time.monotonic() + seconds
    while not (found := asked()):
        assert time.monotonic() < end, f"in vain for {seconds} s: {what}"
        time.sleep(0.1)
    return found


class World:
    """A service in a folder, its mail server, and an operator at a shell."""

    def __init__(self, title, mails, more=""):
        self.title, self.mails, self.process = title, mails, None
        chapter = PAGE.split(f"\n### {title}\n")[1].split("\n### ")[0]
        self.blocks = re.findall(r"(?s)```sh\n(.*?)```", chapter)
        self.folder = tempfile.mkdtemp(prefix="runbook-")
        os.makedirs(self.folder + "/bin")
        os.makedirs(self.folder + "/outside")
        os.symlink(BINARY, self.folder + "/bin/magic-link")
        self.env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "LANG": "C.UTF-8"}
        self.configure(more or f"[mail]\nprovider = 'mailpit'\nmailpit_url = 'http://127.0.0.1:{SINK}'\nfrom = 'no-reply@links.runbook.in'\n")

    def configure(self, more):
        with open(self.folder + "/magic-link.toml", "w") as file:
            file.write(f"listen = '127.0.0.1:{PORT}'\nlimits.fresh_links_per_recipient_hour = 100\naudit.checkpoint_folder = 'outside'\naudit.checkpoint_minutes = 1\n{more}")

    def type(self, command, fails=False):
        done = subprocess.run(["sh", "-euc", command], cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout

    def start(self, ready=True):
        with open(self.folder + "/service.log", "ab") as log:
            self.process = subprocess.Popen([BINARY, "serve"], cwd=self.folder, env=self.env, stdout=log, stderr=log)
        eventually("the service answers", lambda: self.ask("GET", "/healthz")[0] == 200)
        if ready:
            eventually("the service is ready", lambda: self.ask("GET", "/readyz")[0] == 200)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def people(self):
        """A consultant and two clients, while nothing is wrong."""
        add = json.loads(self.type("magic-link consultant add --json --name 'Ravi Kumar' --email ravi.kumar@support.example"))
        self.consultant = add["id"]
        portal = self.client("Cloud portal", *SCOPES)
        self.key, self.env["CLIENT"] = portal["key"], portal["id"]
        self.env["AUDIT_KEY"] = self.client("Auditor", "audit:read")["key"]

    def client(self, name, *scopes):
        wanted = " ".join(f"--scope {scope}" for scope in scopes)
        return json.loads(self.type(f"magic-link client create --json --name '{name}' --tenant acme {wanted}"))

    def ask(self, method, path, body=None, form=None, key=None, again=None):
        headers = {"Authorization": f"Bearer {key or getattr(self, 'key', '')}"}
        data = None
        if form:
            data, headers["Content-Type"] = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if again:
            headers["Idempotency-Key"] = again
        try:
            with urllib.request.urlopen(urllib.request.Request(BASE + path, data, headers, method=method), timeout=40) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, {}

    def issue(self, again=None):
        again = again or secrets.token_hex(8)
        body = {"tenant_id": "acme", "portal": "cloud", "consultant_id": self.consultant, "access": "full", "reason": "Payroll run stops",
                "duration": {"value": 4, "unit": "hours"}, "profile": {"id": "emp-" + again, "name": "Asha Rao"},
                "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"}}
        return self.ask("POST", "/v1/magic-links", body, again=again)

    def redeem(self, token):
        status, going = self.ask("POST", "/l/continue", {"token": token})
        assert status == 200, going
        return self.ask("POST", "/v1/sessions", {"token": going["redirect_url"].split("code=")[1]})

    def visit(self):
        """A link, and the session that it opened."""
        status, link = self.issue()
        assert status == 201, link
        status, session = self.redeem(self.mails.token(link["id"], 20))
        assert status == 201, session
        assert self.is_active(session)
        return link, session

    def is_active(self, session, key=None):
        status, answer = self.ask("POST", "/v1/introspect", form={"token": session["access_token"]}, key=key)
        return answer["active"] if status == 200 else status

    def verify(self):
        self.type("magic-link audit checkpoint --tenant acme > whole.checkpoint; magic-link audit export --tenant acme > whole.ndjson; magic-link "
                  "audit verify whole.ndjson --checkpoint whole.checkpoint --key \"$(magic-link audit verifier-key --tenant acme)\"")


def lost_master_key(w):
    w.start()
    w.people()
    _, session = w.visit()
    shutil.move(w.folder + "/data/master.key", w.folder + "/found.key")
    w.type("umask 077; openssl rand -base64 32 > candidate.key")
    said = w.type(w.blocks[0], fails=True)
    assert "is sealed under" in said and "this one is" in said, said
    assert w.is_active(session) is True, "the running copy has it"
    shutil.copy(w.folder + "/found.key", w.folder + "/candidate.key")
    assert w.type(w.blocks[0]).count("+") >= 2
    w.type(w.blocks[1])
    assert w.is_active(session) is False and w.issue()[0] == 409
    w.stop()
    refused = w.type("magic-link serve", fails=True)
    assert "is sealed under" in refused, refused
    # An empty database under a new key.
    shutil.move(w.folder + "/data", w.folder + "/put-away")
    for file in pathlib.Path(w.folder, "outside").iterdir():
        file.unlink()
    w.start()
    w.people()
    w.visit()


def leaked_api_key(w):
    w.start()
    w.people()
    link, session = w.visit()
    leaked = w.key
    said = w.type(w.blocks[0])
    w.key = re.search(r"mlsk_\S+", said)[0]
    assert "LAST USED" in said and w.is_active(session, key=leaked) == 401 and w.is_active(session) is True
    assert w.issue()[0] == 409
    assert link["id"] in w.type(w.blocks[1]) and w.issue()[0] == 201
    w.type(w.blocks[2])
    assert w.is_active(session) == 401
    assert json.loads(w.type("magic-link link list --json --tenant acme"))["items"][0]["state"] == "revoked"


def leaked_signing_key(w):
    w.start()
    w.people()
    link, session = w.visit()
    w.env["KID"] = json.loads(w.type("magic-link key list --json"))["items"][0]["kid"]
    said = w.type(w.blocks[0])
    assert "active" in said.split("revoked:")[1], said
    assert w.is_active(session) is False
    status, renewed = w.redeem(w.mails.token(link["id"], 60))
    assert status == 201 and w.is_active(renewed) is True, renewed


def wrong_restore(w):
    w.start()
    w.people()
    w.visit()
    w.type("magic-link backup magic-link.backup.db")
    kept = lambda: {file.name: file.read_bytes() for file in pathlib.Path(w.folder, "outside").iterdir()}
    before = kept()
    link, session = w.visit()
    eventually("a newer checkpoint is outside", lambda: any("acme" in name and before.get(name) != text for name, text in kept().items()), 150)
    w.stop()
    w.type("rm -f data/magic-link.db-wal data/magic-link.db-shm; cp data/magic-link.db right.db; cp magic-link.backup.db data/magic-link.db")
    w.start(ready=False)
    status, said = w.ask("GET", "/readyz")
    assert (status, said["code"]) == (503, "restore_required"), said
    w.stop()
    # The right one was still there.
    w.type("rm -f data/magic-link.db-wal data/magic-link.db-shm; cp data/magic-link.db wrong.db; cp right.db data/magic-link.db")
    w.start()
    assert w.is_active(session) is True
    w.stop()
    # It was not.
    w.type("rm -f data/magic-link.db-wal data/magic-link.db-shm; cp wrong.db data/magic-link.db")
    w.type(w.blocks[0])
    w.start()
    w.type("magic-link unfreeze")
    assert w.is_active(session) is False
    w.visit()
    w.verify()


def full_disk(w):
    os.makedirs(w.folder + "/data")
    w.type("truncate -s 12M disk.img && mkfs.ext4 -q -F disk.img")
    if subprocess.run(["mount", "-o", "loop", w.folder + "/disk.img", w.folder + "/data"], capture_output=True).returncode:
        return print("not run: nobody may mount here")
    try:
        w.start()
        w.people()
        _, session = w.visit()
        w.type("dd if=/dev/zero of=data/filler bs=4k 2>/dev/null || true")
        done, refused = [], None
        for _ in range(3000):  # Until the write-ahead log cannot grow any more.
            key = secrets.token_hex(8)
            status, answer = w.issue(key)
            if status != 201:
                refused = (status, answer["code"])
                break
            done.append(answer["id"])
        assert refused and refused[0] in (500, 503), refused
        print(f"    {len(done)} links after the disk was full, then {refused}")
        # What was tried last is told for some seconds.
        ready = eventually("it is not ready", lambda: (answer := w.ask("GET", "/readyz"))[0] != 200 and answer, 20)
        said = w.type(w.blocks[0])
        print(f"    readyz: {ready[0]} {ready[1].get('code')} {ready[1].get('detail')}; introspection: {w.is_active(session)}")
        assert "100%" in said and ready[0] in (500, 503) and w.is_active(session) is True, said
        w.type("rm data/filler")
        eventually("it goes on", lambda: w.ask("GET", "/readyz")[0] == 200, 20)
        status, answer = w.issue(key)
        assert status == 201, answer
        there = {link["id"] for link in pages(w)}
        assert set(done) <= there, "lost"
        w.verify()
    finally:
        w.stop()
        subprocess.run(["umount", w.folder + "/data"], check=True)


def pages(w):
    cursor = ""
    while cursor is not None:
        _, page = w.ask("GET", f"/v1/magic-links?page_size=200{cursor}")
        yield from page["items"]
        cursor = f"&cursor={urllib.parse.quote(page['next_cursor'])}" if "next_cursor" in page else None


def dead_provider(w):
    dead = f"postmark_url = 'http://127.0.0.1:{NOBODY}'\npostmark_server_token = 'not-a-token'\n"
    w.configure(f"[mail]\nprovider = 'postmark'\nfrom = 'no-reply@links.runbook.in'\n{dead}")
    w.start()
    w.people()
    links = [w.issue()[1]["id"] for _ in range(3)]
    eventually("the error is listed", lambda: "postmark" in w.type(w.blocks[0]).lower())
    print("    " + w.type(w.blocks[0]).split("\n")[1])
    w.stop()
    w.configure(f"[mail]\nprovider = 'postmark'\nfallback_provider = 'mailpit'\nmailpit_url = 'http://127.0.0.1:{SINK}'\nfrom = 'no-reply@links.runbook.in'\n{dead}")
    w.start()
    began = time.monotonic()
    for link in links:
        assert w.mails.token(link, 400), f"no mail about {link}"
    print(f"    the mails arrived {time.monotonic() - began:.0f} s after the restart")


RUNBOOKS = {"A lost master key": lost_master_key, "A leaked API key": leaked_api_key, "A leaked signing key": leaked_signing_key,
            "A wrong restore": wrong_restore, "A full disk": full_disk, "A dead provider": dead_provider}
BINARY = os.path.abspath(os.environ.get("RUNBOOKS_SERVICE", ROOT / "target/release/magic-link"))


def main():
    mails, failed = Mails(SINK), 0
    for title, run in RUNBOOKS.items():
        if sys.argv[1:] and not any(part in title for part in sys.argv[1:]):
            continue
        world, began = World(title, mails), time.monotonic()
        try:
            run(world)
            print(f"ok      {title} ({time.monotonic() - began:.0f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"failed  {title}: {error!r}\n{''.join(open(world.folder + '/service.log').readlines()[-5:])}", flush=True)
            if os.environ.get("RUNBOOKS_TRACE"):
                raise
        finally:
            world.stop()
            shutil.rmtree(world.folder, ignore_errors=True)
    return 1 if failed else 0


sys.exit(main())
