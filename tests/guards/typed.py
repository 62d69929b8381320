"""To a guarded page with the commands as the pages print them: `typed.py SERVICE NAME PAGE [STAND_IN]`.

PAGE is `README.md` (the make-believe portal of each guard) or `FROM_SCRATCH.md` (a page of one's own). Ports are others than
those printed, and lines with `…` are what the reader fills in. STAND_IN is a program that this machine lacks, out of `stand-ins`.
"""
import json, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time
from types import SimpleNamespace

from world import Browser, eventually, free_port, request, Service

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES, SCRATCH = ROOT / "examples", "FROM_SCRATCH.md"
CHAPTERS = {"aspnetcore": "ASP.NET Core", "spring": "Spring Security", "express": "Express, TypeScript", "fastapi": "FastAPI"}
# Words and characters a minute of somebody who reads and types slowly.
READS, TYPES = 200, 200


def chapter(text, heading):
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def path(name):
    """What somebody reads who follows the links from the first page, and what they type."""
    front, examples, scratch = ((ROOT / page).read_text() for page in ("README.md", "examples/README.md", f"examples/{SCRATCH}"))
    read = [front.split("\n## ")[0], chapter(front, "Where to read on"), examples.split("\n## ")[0], scratch.split("\n## ")[0]]
    chapters = [chapter(scratch, heading) for heading in ("The service", CHAPTERS[name], "Grant, visit, revoke")]
    words = sum(len(re.findall(r"\w+", re.sub(r"(?s)```.*?```", "", text))) for text in read + chapters)
    return words, sum(len(block) for text in chapters for block in re.findall(r"(?s)```sh\n(.*?)```", text))


class Reader(Service):
    """Somebody who copies commands from a page into a shell; the rest is that of a service."""

    def __init__(self, binary, stand_in):
        self.folder = tempfile.mkdtemp(prefix="typed-")
        self.port, self.portal_port = free_port(), free_port()
        self.base, self.key, self.running = f"http://127.0.0.1:{self.port}", None, []
        for folder in ("bin", "built/debug", "repository"):
            os.makedirs(f"{self.folder}/{folder}")
        for place in ("bin", "built/debug"):
            os.symlink(os.path.abspath(binary), f"{self.folder}/{place}/magic-link")
        if stand_in:
            shutil.copytree(HERE / "stand-ins", f"{self.folder}/guards/stand-ins", ignore=lambda _, names: set(names) - {stand_in})
            os.symlink(HERE / "dotnet", f"{self.folder}/guards/dotnet")
        # `make` with nothing to build, and demo data that are nobody else's.
        for name in ("Makefile", "examples"):
            os.symlink(ROOT / name, f"{self.folder}/repository/{name}")
        portal = f"http://127.0.0.1:{self.portal_port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        self.env = dict(
            kept, PATH=f"{self.folder}/bin:{self.folder}/guards/stand-ins:{os.environ['PATH']}", GUARDS=str(EXAMPLES),
            MAGIC_LINK_LISTEN=f"127.0.0.1:{self.port}", CARGO="true", CARGO_TARGET_DIR=f"{self.folder}/built",
            DEMO_PORT=str(self.port), DEMO_PORTAL_PORT=str(self.portal_port),
            MAGIC_LINK_PORTALS__CLOUD__CALLBACK_URL=portal + "/{tenant_id}/cloud/callback", MAGIC_LINK_PORTALS__CLOUD__AUDIENCE=portal + "/cloud",
            PORTAL_LISTEN=f"127.0.0.1:{self.portal_port}", PORTAL_SERVICE_URL=self.base, PORTAL_PUBLIC_URL=portal)
        self.at = self.folder

    def blocks(self, page, heading=None):
        text = (EXAMPLES / page).read_text()
        text = chapter(text, heading) if heading else text
        text = re.sub(r"\b8081\b", str(self.portal_port), re.sub(r"\b8080\b", str(self.port), text))
        shown = re.findall(r"(?s)```sh\n(.*?)```", text)
        return ["".join(line for line in block.splitlines(True) if "…" not in line and not line.startswith("cargo ")) for block in shown]

    def type(self, block):
        done = subprocess.run(["bash", "-euc", block], cwd=self.at, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def enter(self, block):
        """Types what changes folder and environment."""
        self.at, *variables = self.type(block + "\npwd\nenv -0").split("\n", 1)
        self.env = dict(one.split("=", 1) for one in variables[0].split("\0") if "=" in one)

    def leave_running(self, block):
        with open(f"{self.folder}/log", "ab") as log:
            self.running.append(subprocess.Popen(["bash", "-euc", block + "\nwait"], cwd=self.at, env=self.env, stdout=log, stderr=log, start_new_session=True))

    def listens(self):
        assert all(one.poll() is None for one in self.running), open(f"{self.folder}/log").read()[-3000:]
        try:
            return request(self.portal_port, "GET", "/acme/cloud/", timeout=5)[0] == 403
        except OSError:
            return False

    def browser(self):
        return Browser(SimpleNamespace(port=self.portal_port, base=self.env["PORTAL_PUBLIC_URL"]))

    def end(self):
        for one in reversed(self.running):
            os.killpg(one.pid, signal.SIGTERM)
            one.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def follow_readme(reader, name):
    serve, set_up, endpoint, grant, revoke = reader.blocks("README.md")
    reader.leave_running(serve)
    eventually("the service is ready", reader.is_ready)
    # The reader comes from the first page, whose commands filled the same database.
    reader.type(reader.blocks("../README.md", "The life of a link")[0])
    said = reader.type(set_up)
    reader.env["CONSULTANT"], reader.env["PORTAL_CLOUD_KEY"] = re.search(r"con_\w+", said)[0], re.search(r"mlsk_\S+", said)[0]
    reader.env["PORTAL_WEBHOOK_SECRET"] = json.loads(reader.type(endpoint))["secret"]
    reader.leave_running(reader.blocks(f"{name}/README.md")[0])
    eventually("the portal listens", reader.listens, 600)
    link = json.loads(reader.type(grant))
    reader.env["LINK"] = link["id"]
    browser = reader.browser()
    home = browser.arrive(reader.click(link))
    page = browser.go(home + "employees/emp-9")
    assert page.status == 200 and "Asha Rao" in page.text and "not included: bank account" in page.text.lower(), page
    assert json.loads(reader.type(revoke))["state"] == "revoked" and browser.go(home).status == 403


def start_from_scratch(reader, name):
    serve, enter = reader.blocks(SCRATCH, "The service")
    grant, recorded, revoke = reader.blocks(SCRATCH, "Grant, visit, revoke")
    reader.at = f"{reader.folder}/repository"
    reader.leave_running(serve)
    eventually("the service is ready", reader.is_ready)
    reader.enter(enter)
    assert os.listdir(reader.at) == [], "the folder is not empty"
    reader.leave_running(reader.blocks(SCRATCH, CHAPTERS[name])[0])
    eventually("the portal listens", reader.listens, 600)
    link = json.loads(reader.type(grant))
    reader.env["LINK"] = link["id"]
    browser = reader.browser()
    home = browser.arrive(reader.click(link))
    page = browser.go(home)
    assert page.status == 200 and "Stopped at step 3" in page.text and "Ravi Kumar" in page.text and "Asha Rao" in page.text, page
    assert len(json.loads(reader.type(recorded))["items"]) == 1
    assert json.loads(reader.type(revoke))["state"] == "revoked"
    refused = browser.go(home)
    assert refused.status == 403 and "Stopped at step 3" not in refused.text, refused


def main():
    binary, name, page, *stand_in = sys.argv[1:]
    began = time.monotonic()
    reader = Reader(binary, *(stand_in or [None]))
    try:
        (start_from_scratch if page == SCRATCH else follow_readme)(reader, name)
    finally:
        reader.end()
    took = f"the commands took {time.monotonic() - began:.0f} s"
    if page == SCRATCH:
        words, characters = path(name)
        minutes = words / READS + characters / TYPES
        assert minutes < 15, f"{minutes:.1f} minutes of reading and typing"
        took = f"{words} words to read, {characters} characters to type: {minutes:.1f} minutes; {took}"
    print(took)


main()
