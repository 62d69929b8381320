"""Two copies of the service, a mail server, and people at work: what was acknowledged is remembered."""
import base64, collections, http.client, json, os, random, secrets, subprocess, threading, time, uuid
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import servers
from mails import Mails

FIRST_PORT, SINK = 6230, 6240
TENANT = "acme"
# Acts of one kind that one copy is asked for in a second.
LIVES, READS = 4, 10
# How long an act whose outcome is unknown is repeated.
PATIENCE = 60


class Copy:
    """One copy of the service."""

    def __init__(self, number, binary, env, folder):
        self.number, self.port = number, FIRST_PORT + number
        self.log = os.path.join(folder, f"copy-{number}.log")
        self.lines = threading.local()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([binary, "serve"], env=env | {"MAGIC_LINK_LISTEN": f"127.0.0.1:{self.port}"},
                                            cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        servers.eventually(f"copy {number} is ready", lambda: self.call("GET", "/readyz")[0] == 200)

    def call(self, method, path, body=None, headers=None):
        """Status and body; status 0 where there was no answer."""
        line = getattr(self.lines, "line", None)
        if line is None:
            line = self.lines.line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            line.request(method, path, body, headers or {})
            answer = line.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] == b"{" else {}
        except (OSError, http.client.HTTPException):
            line.close()
            self.lines.line = None
            return 0, {}


class Session:
    """One that was acknowledged, and what was done about its end."""

    def __init__(self, token):
        self.token, self.end_began, self.end_answered = token, None, None


class Load:
    """Issues, redemptions, introspections and revocations at both copies, all the time."""

    def __init__(self, binary, folder, database, migrator):
        self.folder, self.binary = folder, binary
        self.env = {
            "PATH": os.environ["PATH"], "MAGIC_LINK_DATABASE_URL": migrator,
            "MAGIC_LINK_PUBLIC_URL": f"http://127.0.0.1:{FIRST_PORT}",
            "MAGIC_LINK_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "MAGIC_LINK_MAIL__PROVIDER": "mailpit", "MAGIC_LINK_MAIL__MAILPIT_URL": f"http://127.0.0.1:{SINK}",
            "MAGIC_LINK_MAIL__FROM": "no-reply@links.failover.in", "MAGIC_LINK_LOG__LEVEL": "info",
            "MAGIC_LINK_AUDIT__CHECKPOINT_FOLDER": os.path.join(folder, "checkpoints"),
            "MAGIC_LINK_AUDIT__CHECKPOINT_MINUTES": "1", "MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE": "100000"}
        for limit in ("MAILS_PER_CLIENT_MINUTE", "MAILS_PER_TENANT_DAY", "MAILS_PER_RECIPIENT_HOUR"):
            self.env[f"MAGIC_LINK_LIMITS__{limit}"] = "1000000"
        os.makedirs(os.path.join(folder, "checkpoints"), exist_ok=True)
        # As the docs ask: one role owns the tables, another one runs the service.
        self.command("migrate", "--grant-to", "magic_link_run")
        self.env["MAGIC_LINK_DATABASE_URL"] = database
        self.consultant = json.loads(self.command("consultant", "add", "--json", "--name", "Ravi Kumar", "--email", "ravi.kumar@support.failover.in"))["id"]
        scopes = ("links:issue", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect")
        wanted = [word for scope in scopes for word in ("--scope", scope)]
        created = json.loads(self.command("client", "create", "--json", "--name", "Portal", "--portal", "cloud", "--tenant", TENANT, *wanted))
        self.headers = {"Authorization": f"Bearer {created['key']}"}
        self.mails = Mails(SINK)
        self.copies = [Copy(number, binary, self.env, folder) for number in range(2)]
        self.lock, self.over = threading.Lock(), threading.Event()
        # What was acknowledged: kind, id, time.
        self.acknowledged = []
        self.live, self.ended = collections.deque(maxlen=300), collections.deque(maxlen=600)
        # Answers with 2xx since the last failure: copy, kind ("write" or "read"), when it began and when it was there.
        self.answered = []
        self.stale, self.wrong, self.unanswered, self.refusals = [], [], 0, collections.Counter()
        self.counted = collections.Counter()
        self.slowest_ready = 0.0
        self.pools = []
        for copy in self.copies:
            self.begin(copy, self.life, LIVES, 96)
            self.begin(copy, self.read, READS, 96)
            self.begin(copy, self.ready, 1, 8)

    def command(self, *words):
        return servers.run(self.binary, *words, env=self.env, cwd=self.folder)

    def begin(self, copy, what, per_second, most):
        """Asks at a steady rate, whether answers come or not; what fails is no reason to stop."""
        pool, at_work = ThreadPoolExecutor(most), threading.Semaphore(most)
        self.pools.append(pool)

        def once():
            try:
                what(copy)
            except Exception as error:  # Said, and counted as a refusal.
                self.refusals[f"{what.__name__}: {error!r}"[:200]] += 1
            finally:
                at_work.release()

        def ticks():
            while not self.over.wait(random.uniform(0.7, 1.3) / per_second):
                if at_work.acquire(blocking=False) and not self.over.is_set():
                    pool.submit(once)
        threading.Thread(target=ticks, daemon=True).start()

    def call(self, copy, kind, method, path, body=None, key=None, form=None):
        headers = dict(self.headers)
        if form:
            body = urllib.parse.urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif body is not None:
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        began = time.monotonic()
        status, answer = copy.call(method, path, body, headers)
        now = time.monotonic()
        with self.lock:
            self.counted["2xx" if 200 <= status < 300 else str(status)] += 1
            if 200 <= status < 300 and kind:
                self.answered.append((copy.number, kind, began, now))
        return status, answer, began, now

    def act(self, copy, kind, *call, **more):
        """Repeats a call whose outcome is unknown, as a client should, until it is known."""
        end = time.monotonic() + PATIENCE
        while True:
            status, answer, _began, now = self.call(copy, kind, *call, **more)
            if 200 <= status < 300:
                return answer, now
            if 0 < status < 500 and answer.get("code") != "idempotency_key_in_flight":
                self.refusals[f"{status} {answer.get('code')} {call[1].split('?')[0][:20]}"] += 1
                return None, now
            if time.monotonic() > end or self.over.is_set():
                self.unanswered += 1
                return None, now
            time.sleep(0.4)

    def remember(self, what, name, at):
        with self.lock:
            self.acknowledged.append((what, name, at))

    def life(self, copy):
        """A link is issued, opened, looked at and revoked."""
        request = {"tenant_id": TENANT, "portal": "cloud", "consultant_id": self.consultant, "access": "full",
                   "reason": "Payroll run stops at step 3", "duration": {"value": 4, "unit": "hours"},
                   "profile": {"id": "emp-" + uuid.uuid4().hex, "name": "Asha Rao"},
                   "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.failover.in"}}
        link, at = self.act(copy, "write", "POST", "/v1/magic-links", request, key=uuid.uuid4().hex)
        if not link:
            return
        self.remember("issued", link["id"], at)
        token = self.mails.token(link["id"], 2 * PATIENCE)
        if not token:
            if not self.over.is_set():
                self.wrong.append(f"no mail about {link['id']}")
            return
        opened = None
        for _ in range(3):  # A code lives a minute: afterwards the button is pressed again.
            going, _ = self.act(copy, None, "POST", "/l/continue", {"token": token})
            if not going:
                return
            code = going["redirect_url"].split("code=")[1]
            opened, at = self.act(copy, "write", "POST", "/v1/sessions", {"token": code}, key=uuid.uuid4().hex)
            if opened:
                break
        if not opened:
            return
        self.remember("opened", opened["id"], at)
        session = Session(opened["access_token"])
        with self.lock:
            self.live.append(session)
        time.sleep(random.uniform(0, 2))
        session.end_began = time.monotonic()
        if random.random() < 0.5:
            path = f"/v1/magic-links/{link['id']}/revoke"
            done, at = self.act(copy, "write", "POST", path, {"reason": "The work is done"})
            what, name = "revoked", link["id"]
        else:
            done, at = self.act(copy, "write", "POST", f"/v1/sessions/{opened['id']}/revoke", {"reason": "The work is done"})
            what, name = "ended", opened["id"]
        if done is not None:
            self.remember(what, name, at)
            with self.lock:
                session.end_answered = at
                self.ended.append(session)

    def read(self, copy):
        """Asks about a session; one that ended before must not be active, one that nobody ended must be."""
        with self.lock:
            choice = random.choice((self.live, self.ended))
            # The newest are the ones that a failover might forget.
            session = choice[-1 - min(int(random.expovariate(0.1)), len(choice) - 1)] if choice else None
        if session:
            self.introspect(copy, session)

    def introspect(self, copy, session):
        status, answer, began, _now = self.call(copy, "read", "POST", "/v1/introspect", form={"token": session.token})
        if status != 200:
            return None
        if answer["active"] and session.end_answered and session.end_answered < began:
            self.stale.append(f"copy {copy.number}: active {began - session.end_answered:.1f} s after the revocation was answered")
        if not answer["active"] and session.end_began is None:
            self.wrong.append(f"copy {copy.number}: a session that was opened and not ended is not active")
        return status

    def ready(self, copy):
        began = time.monotonic()
        copy.call("GET", "/readyz")
        self.slowest_ready = max(self.slowest_ready, time.monotonic() - began)

    def look_at_all_that_ended(self):
        """Asks both copies about the sessions that ended last."""
        with self.lock:
            sessions = list(self.ended)[-60:]
        for copy in self.copies:
            for session in sessions:
                servers.eventually("introspection answers", lambda: self.introspect(copy, session), 30, 0.2)

    def lost(self, primary):
        """Acknowledged acts that the database, or its audit log, does not have."""
        with self.lock:
            known = list(self.acknowledged)
        queries = {
            "issued": ("SELECT id FROM magic_links", "magic_link_id", "magic_link.issued"),
            "opened": ("SELECT id FROM sessions", "session_id", "session.opened"),
            "revoked": ("SELECT id FROM magic_links WHERE revoked_at IS NOT NULL", "magic_link_id", "magic_link.revoked"),
            "ended": ("SELECT id FROM sessions WHERE ended_at IS NOT NULL", "session_id", "session.ended")}
        missing = []
        for what, (rows, column, event) in queries.items():
            names = {name for kind, name, _ in known if kind == what}
            there = {row[0] for row in servers.ask(primary, rows, "magic_link", seconds=30)}
            logged = {row[0] for row in servers.ask(
                primary, f"SELECT {column} FROM audit_events WHERE event_type = '{event}'", "magic_link", seconds=30)}
            missing += [f"{what} {name}: no row" for name in names - there]
            missing += [f"{what} {name}: not in the audit log" for name in names - logged]
        return missing, len(known)

    def verify(self):
        """What `audit verify` says about an export of the log, beside a checkpoint that was kept outside."""
        key = self.command("audit", "verifier-key", "--tenant", TENANT).strip()
        checkpoint, export = (os.path.join(self.folder, name) for name in ("checkpoint", "export"))
        for file, words in ((checkpoint, ("audit", "checkpoint")), (export, ("audit", "export"))):
            with open(file, "w") as out:
                out.write(self.command(*words, "--tenant", TENANT))
        return self.command("audit", "verify", "--key", key, "--checkpoint", checkpoint, export)

    def end(self):
        self.over.set()
        time.sleep(0.5)
        for pool in self.pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for copy in self.copies:
            copy.process.terminate()
        for copy in self.copies:
            try:
                copy.process.wait(40)
            except subprocess.TimeoutExpired:
                copy.process.kill()
        self.mails.shutdown()
        self.mails.server_close()
