"""From an empty folder to a guarded page, with the commands as the READMEs print them: `typed.py SERVICE NAME [FILE]`.

Ports are others than those printed, and lines with `…` are what the reader fills in.
"""
import json, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time
from types import SimpleNamespace

from world import Browser, eventually, free_port, request, Service

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


class Reader(Service):
    """Somebody who copies commands from a page into a shell; the rest is that of a service."""

    def __init__(self, binary):
        self.folder = tempfile.mkdtemp(prefix="typed-")
        self.port, self.portal_port = free_port(), free_port()
        self.base, self.key, self.running = f"http://127.0.0.1:{self.port}", None, []
        os.makedirs(f"{self.folder}/bin")
        os.symlink(os.path.abspath(binary), f"{self.folder}/bin/magic-link")
        portal = f"http://127.0.0.1:{self.portal_port}"
        self.env = dict(
            os.environ, PATH=f"{self.folder}/bin:{os.environ['PATH']}", GUARDS=str(EXAMPLES), MAGIC_LINK_LISTEN=f"127.0.0.1:{self.port}",
            MAGIC_LINK_PORTALS__CLOUD__CALLBACK_URL=portal + "/{tenant_id}/cloud/callback", MAGIC_LINK_PORTALS__CLOUD__AUDIENCE=portal + "/cloud",
            PORTAL_LISTEN=f"127.0.0.1:{self.portal_port}", PORTAL_SERVICE_URL=self.base, PORTAL_PUBLIC_URL=portal)

    def blocks(self, page):
        text = (EXAMPLES / page).read_text().replace("127.0.0.1:8080", f"127.0.0.1:{self.port}").replace("127.0.0.1:8081", f"127.0.0.1:{self.portal_port}")
        shown = re.findall(r"(?s)```sh\n(.*?)```", text)
        return ["".join(line for line in block.splitlines(True) if "…" not in line and not line.startswith("cargo ")) for block in shown]

    def type(self, block):
        done = subprocess.run(["bash", "-euc", block], cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def leave_running(self, block):
        with open(f"{self.folder}/log", "ab") as log:
            self.running.append(subprocess.Popen(["bash", "-euc", block + "\nwait"], cwd=self.folder, env=self.env, stdout=log, stderr=log, start_new_session=True))

    def listens(self):
        assert all(one.poll() is None for one in self.running), open(f"{self.folder}/log").read()[-3000:]
        try:
            return request(self.portal_port, "GET", "/acme/cloud/", timeout=5)[0] == 403
        except OSError:
            return False

    def end(self):
        for one in self.running:
            os.killpg(one.pid, signal.SIGTERM)
            one.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    name, began = sys.argv[2], time.monotonic()
    reader = Reader(sys.argv[1])
    try:
        serve, set_up, endpoint, grant = reader.blocks("README.md")
        reader.leave_running(serve)
        eventually("the service is ready", reader.is_ready)
        said = reader.type(set_up)
        reader.env["CONSULTANT"], reader.env["PORTAL_CLOUD_KEY"] = re.search(r"con_\w+", said)[0], re.search(r"mlsk_\S+", said)[0]
        reader.env["PORTAL_WEBHOOK_SECRET"] = json.loads(reader.type(endpoint))["secret"]
        reader.leave_running(reader.blocks(f"{name}/README.md")[0])
        eventually("the portal listens", reader.listens, 600)
        link = json.loads(reader.type(grant))
        browser = Browser(SimpleNamespace(port=reader.portal_port, base=reader.env["PORTAL_PUBLIC_URL"]))
        home = browser.arrive(reader.click(link))
        page = browser.go(home + "employees/emp-9")
        assert page.status == 200 and "Asha Rao" in page.text and "not included: bank account" in page.text.lower(), page
        assert browser.post(home + "done").page == "goodbye" and browser.go(home).status == 403
    finally:
        reader.end()
    print(f"a page is guarded in {time.monotonic() - began:.0f} s")


main()
