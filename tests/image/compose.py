"""Starts docker/compose.yaml as it stands with the image of `make image-test`, and prints what it saw as lines of RESULT.md.

Needs what run.sh needs, docker-compose, netavark, aardvark-dns and iproute2. A network namespace of its own keeps the ports
of the file free. Images that no registry gives are made of Debian's packages, and the lines say so.
"""
import atexit, ctypes, functools, json, os, pathlib, re, socket, subprocess, threading, time, urllib.error, urllib.request

os.chdir(pathlib.Path(__file__).resolve().parents[2])
WORK = pathlib.Path("target/image").resolve()
COMPOSE = ["docker-compose", "--project-name", "docker", "--file", "docker/compose.yaml"]
SERVICE, MAILPIT = "http://127.0.0.1:8080", "http://127.0.0.1:8025"
STORE = ["--root", f"{WORK}/storage", "--runroot", f"{WORK}/run", "--storage-driver", "vfs", "--runtime", "runc"]
# Limits of its own, because not every machine may raise those of podman.
(WORK / "containers.conf").write_text(f"""[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "{WORK}/networks"
""")
(WORK / "networks").mkdir(exist_ok=True)
os.environ |= {"CONTAINERS_CONF": f"{WORK}/containers.conf", "DOCKER_HOST": f"unix://{WORK}/docker.sock", "TMPDIR": str(WORK)}
LOG = open(WORK / "compose.log", "w")


def run(*command, fails=False, timeout=300):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=LOG, text=True, timeout=timeout)
    assert fails or done.returncode == 0, f"{' '.join(command)}: {done.returncode}, see {LOG.name}"
    return done.stdout if done.returncode == 0 else None


def podman(*arguments, **more):
    return run("podman", *STORE, *arguments, **more)


def compose(*arguments):
    return run(*COMPOSE, *arguments)


@functools.cache
def root():
    """Of both stand-ins; made once, and kept for the next run."""
    file = f"{WORK}/stand-ins.tar"
    if not os.path.exists(file):
        run("mmdebstrap", "--quiet", "--variant=minbase", "--include=postgresql,python3", "bookworm", file, timeout=1200)
    run("tar", "--delete", "--file", file, "stand-ins", fails=True)
    run("tar", "--append", "--file", file, "--directory", "tests/image", "stand-ins")
    return file


def image(name, made_of, entrypoint, stops="SIGTERM"):
    """The published image, or its stand-in, under the name that the file asks for."""
    full = f"docker.io/{name if '/' in name else 'library/' + name}"
    if podman("pull", "--quiet", full, fails=True, timeout=60):
        return f"the published `{name}`"
    changes = ["--change", f"ENTRYPOINT {json.dumps(entrypoint)}", "--change", f"STOPSIGNAL {stops}"]
    podman("import", "--quiet", *changes, root(), full)
    return f"a stand-in of `{name}` ({made_of})"


def ask(path, body=None, key=None, base=SERVICE):
    headers = {"Content-Type": "application/json", "Idempotency-Key": "compose", "Authorization": f"Bearer {key}"}
    data = body and json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(base + path, data, headers), timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, {}
    except OSError:
        return 0, {}


def eventually(what, asked, seconds=120):
    end = time.monotonic() + seconds
    while not (found := asked()):
        assert time.monotonic() < end, f"in vain for {seconds} s: {what}"
        time.sleep(0.2)
    return found


def ask_for_health():
    """What systemd's timers do for podman, for machines that systemd does not run."""
    while True:
        for container in (podman("ps", "--quiet", fails=True) or "").split():
            podman("healthcheck", "run", container, fails=True)
        time.sleep(1)


def clean():
    run(*COMPOSE, "down", "--volumes", "--timeout", "5", fails=True)
    podman("rm", "--force", "--all", "--time", "5", fails=True)
    server.terminate()
    server.wait(30)


bases = [
    image("postgres:17", "Debian's PostgreSQL 15", ["/stand-ins/postgres.sh"], "SIGINT"),
    image("axllent/mailpit:v1.21", "a script that takes and shows mail", ["python3", "/stand-ins/mailpit.py"]),
]
# As the first and the second Docker Compose name what they build.
podman("tag", "localhost/magic-link", "localhost/docker_magic-link", "localhost/docker-magic-link")

assert ctypes.CDLL(None).unshare(0x40000000) == 0, "a network namespace of its own (CLONE_NEWNET) needs root"
run("ip", "link", "set", "lo", "up")
if not os.path.exists("/dev/log"):
    # The name server of the containers does not start without a system log.
    system_log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    system_log.bind("/dev/log")
    atexit.register(os.unlink, "/dev/log")
    threading.Thread(target=lambda: [LOG.write(str(system_log.recv(8192)) + "\n") for _ in iter(int, 1)], daemon=True).start()
(WORK / "docker.sock").unlink(missing_ok=True)
server = subprocess.Popen(["podman", *STORE, "system", "service", "--time", "0", os.environ["DOCKER_HOST"]], stdout=LOG, stderr=LOG)
eventually("podman answers", lambda: os.path.exists(WORK / "docker.sock"))
atexit.register(clean)
if not os.path.exists("/run/systemd/system"):
    threading.Thread(target=ask_for_health, daemon=True).start()

began = time.monotonic()
compose("up", "--detach", "--no-build")
eventually("it is ready", lambda: ask("/readyz")[0] == 200)
started = time.monotonic() - began
restarts = podman("inspect", "--format", "{{.RestartCount}}", compose("ps", "--quiet", "magic-link").strip()).strip()
assert restarts == "0", f"the service had to be restarted {restarts} times"


def type_in(*arguments):
    return json.loads(compose("exec", "-T", "magic-link", "magic-link", *arguments, "--json"))


consultant = type_in("consultant", "add", "--name", "Neha Joshi", "--email", "neha.joshi@support.example")["id"]
key = type_in("client", "create", "--name", "Cloud portal", "--portal", "cloud", "--tenant", "acme", "--scope", "links:issue", "--scope", "links:read")["key"]
status, link = ask("/v1/magic-links", key=key, body={
    "tenant_id": "acme", "portal": "cloud", "consultant_id": consultant, "access": "full", "reason": "Payroll run stops",
    "duration": {"value": 4, "unit": "hours"}, "profile": {"id": "emp-1042", "name": "Asha Rao"},
    "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"}})
assert status == 201, (status, link)


def mail():
    listed = ask("/api/v1/messages", base=MAILPIT)[1].get("messages", [])
    return next((message for message in listed if message["To"][0]["Address"] == "neha.joshi@support.example"), None)


text = json.dumps(ask(f"/api/v1/message/{eventually('the mail', mail)['ID']}", base=MAILPIT)[1])
token = re.search(re.escape(SERVICE) + r"/l#([\w.-]+)", text)[1]
assert ask("/l/continue", {"token": token})[0] == 200, "the link in the mail"


def ended():
    """The exit codes of what ran, by the containers' names."""
    lines = podman("ps", "--all", "--format", "{{.Names}} {{.ExitCode}}").splitlines()
    return {name.split("docker")[1].strip("_-")[:-2]: int(code) for name, code in map(str.split, lines) if "docker" in name}


def link_is_there():
    return ask(f"/v1/magic-links/{link['id']}", key=key)[0] == 200


compose("stop")
assert ended() == {"magic-link": 0, "postgres": 0, "mailpit": ended()["mailpit"], "master-key": 0}, ended()
compose("start")
eventually("the link is there after a stop", link_is_there)
compose("down")
compose("up", "--detach", "--no-build")
eventually("the link is there in new containers", link_is_there)
compose("down", "--volumes")
assert not ended() and not podman("volume", "list", "--quiet", "--filter", "name=docker_"), "something is left"

version = run("docker-compose", "version", "--short").strip()
print(f"- `docker/compose.yaml`, unchanged, by docker-compose {version} over podman, with {bases[0]} and {bases[1]}:"
      f" ready after {started:.0f} s without a restart, consultant and client made by `exec`, a link issued, its mail seen and"
      " opened. The link was there after `stop` (service and database: exit code 0) and `start`, and after `down` and `up`;"
      " `down --volumes` left nothing.")
