"""Lets the life of a link test each guard of `examples/` against the real service, and writes the table of `examples/README.md`.

Takes the service from GUARDS_SERVICE or builds it. Pinned packages go below target/guards. What cannot be had on this machine
is said as "not run"; with CI set that is a failure. `run.py NAME…` runs only those.
"""
import datetime, json, os, pathlib, re, shutil, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER, EXAMPLES, HERE = ROOT / "target/guards", ROOT / "examples", ROOT / "tests/guards"


DOTNET = f"DOTNET_ROOT={FOLDER}/dotnet/dotnet DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 exec {FOLDER}/dotnet/dotnet/dotnet"


class NotRun(Exception):
    """Why a guard cannot be run on this machine."""


def run(*words, **where):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **where)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words[:4]))}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return done.stdout.strip()


def need(program):
    if not shutil.which(program):
        raise NotRun(f"{program} is missing")


def copied(name):
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(EXAMPLES / name, folder, dirs_exist_ok=True)
    return folder


# Each makes its guard ready, and returns how to start it and what it runs on.

def fastapi():
    folder = copied("fastapi")
    if not (folder / "venv/bin/python").exists():
        run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv/bin/python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", folder / "requirements.txt")
    versions = dict(line.split("==") for line in run(python, "-m", "pip", "freeze").splitlines() if "==" in line)
    said = f"Python {run(python, '-c', 'import platform; print(platform.python_version())')}, FastAPI {versions['fastapi']}, uvicorn {versions['uvicorn']}, httpx {versions['httpx']}"
    return f"cd {folder} && exec venv/bin/python app.py", said


def express():
    need("node")
    need("npm")
    folder = copied("express")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", cwd=folder)
    run("npx", "tsc", cwd=folder)
    pinned = json.loads((folder / "package.json").read_text())
    said = f"Node {run('node', '--version')[1:]}, Express {pinned['dependencies']['express']}, TypeScript {pinned['devDependencies']['typescript']}"
    return f"cd {folder} && exec node build/app.js", said


def aspnetcore():
    folder = copied("aspnetcore")
    if shutil.which("dotnet") and run("dotnet", "--list-sdks"):
        run("dotnet", "build", "-o", folder / "build", cwd=folder)
        return f"cd {folder} && exec dotnet build/Portal.dll", f".NET SDK {run('dotnet', '--version')}"
    if sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("npm"):
        raise NotRun("there is no .NET SDK")
    assembled = FOLDER / "dotnet"
    run(sys.executable, HERE / "dotnet/assemble.py", assembled)
    (folder / "build").mkdir(exist_ok=True)
    sources = [*folder.glob("*.cs"), HERE / "dotnet/ImplicitUsings.cs"]
    compiler = [assembled / "bridge/bin/python", HERE / "dotnet/compile.py", assembled]
    run(*compiler, folder / "build/Portal.dll", *sources)
    run(*compiler, folder / "build/TryOffline.dll", folder / "Offline.cs", *(HERE / "dotnet").glob("*.cs"))
    version = next((assembled / "dotnet/shared/Microsoft.AspNetCore.App").iterdir()).name
    return f"cd {folder} && {DOTNET} build/Portal.dll", f"ASP.NET Core {version}, Roslyn 4.8 (no SDK here: put together from packages)"


def spring():
    need("java")
    need("javac")
    folder, jars = copied("spring"), os.environ.get("GUARDS_SPRING_JARS")
    if jars:
        libraries = pathlib.Path(jars).resolve()
    else:
        need("mvn")
        libraries = folder / "target/dependency"
        try:
            run("mvn", "-q", "-B", "dependency:copy-dependencies", cwd=folder, timeout=600)
        except (RuntimeError, subprocess.TimeoutExpired):
            raise NotRun("Maven does not reach its repository; see tests/guards/spring_jars.py")
    shutil.rmtree(folder / "classes", ignore_errors=True)
    run("javac", "-parameters", "-Xlint:all,-serial,-processing", "-Werror", "-d", folder / "classes", "-cp", libraries / "*", *folder.glob("*.java"), HERE / "TryOffline.java")
    version = {name: next(libraries.glob(f"{name}-[0-9]*.jar")).stem.rsplit("-", 1)[1] for name in ("spring-boot", "spring-security-web", "tomcat-embed-core")}
    said = f"Java {run('java', '--version').split()[1]}, Spring Boot {version['spring-boot']}, Spring Security {version['spring-security-web']}, Tomcat {version['tomcat-embed-core']}"
    return f"exec java -XX:TieredStopAtLevel=1 -cp '{folder}/classes:{libraries}/*' portal.App", said


def offline(name):
    """How to ask it for a token's validity without the service, where it can be asked."""
    if name == "aspnetcore" and (FOLDER / "aspnetcore/build/TryOffline.dll").exists():
        return ["--offline", f"{DOTNET} {FOLDER}/aspnetcore/build/TryOffline.dll"]
    if name == "spring":
        folder = FOLDER / "spring"
        libraries = os.environ.get("GUARDS_SPRING_JARS", folder / "target/dependency")
        return ["--offline", f"java -XX:TieredStopAtLevel=1 -cp '{folder}/classes:{libraries}/*' portal.TryOffline"]
    return []


def stand_in(name):
    """The program that the pages call and this machine lacks."""
    if name == "aspnetcore" and not (shutil.which("dotnet") and run("dotnet", "--list-sdks")):
        return "dotnet"
    return "mvn" if name == "spring" and os.environ.get("GUARDS_SPRING_JARS") else None


def typed(name, service, page):
    """What became of a page's commands, and what was said about them."""
    if name == "portal":
        return "not offered", ""
    missing = stand_in(name)
    env = dict(os.environ, GUARDS_DOTNET=str(FOLDER / "dotnet"), GUARDS_SPRING_JARS=os.path.abspath(os.environ.get("GUARDS_SPRING_JARS", "")))
    words = [sys.executable, HERE / "typed.py", service, name, page, *([missing] if missing else [])]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    print(done.stdout + done.stderr, end="", flush=True)
    return "failed" if done.returncode else "ok, stand-in" if missing else "ok", done.stdout.strip()


def portal():
    return f"exec {binary('example-portal')}", "the example portal, in Rust"


GUARDS = {"aspnetcore": ("ASP.NET Core", aspnetcore), "spring": ("Spring Security", spring), "express": ("Express", express),
          "fastapi": ("FastAPI", fastapi), "portal": ("Example portal", portal)}
TYPED = {}
# What the example portal has no use for; its fields take no long values. Neither it nor Spring Boot listens on a Unix socket.
# How long a body may take is the server's to say where the guard asks again before an act.
WITHOUT = {"portal": "webhook,export,late,claims,unix,long", "spring": "unix,slow", "express": "slow"}


def binary(name):
    given = os.environ.get("GUARDS_" + ("SERVICE" if name == "magic-link" else "PORTAL"))
    path = pathlib.Path(given or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / name).resolve()
    if not given:
        package = ["--package", "example-portal"] if name == "example-portal" else ["--bin", name]
        subprocess.run([os.environ.get("CARGO", "cargo"), "build", "--locked", *package], cwd=ROOT, check=True)
    return path


def life(name, service):
    """What became of each step, and what it ran on."""
    try:
        start, said = GUARDS[name][1]()
    except NotRun as why:
        return {}, f"not run: {why}"
    result = FOLDER / f"{name}.json"
    result.unlink(missing_ok=True)
    subprocess.run([sys.executable, HERE / "life.py", "--binary", service, "--portal", start, "--without", WITHOUT.get(name, ""), "--json", result, *offline(name)], check=False)
    steps = json.loads(result.read_text()) if result.exists() else {"the portal starts": "failed"}
    readme, _ = typed(name, service, "README.md")
    scratch, TYPED[name] = typed(name, service, "FROM_SCRATCH.md")
    return steps | {"a page is guarded as its README prints it": readme, "a page of one's own is guarded from an empty folder": scratch}, said


def table(results, service):
    names = list(results)
    steps = list(dict.fromkeys(step for steps, _ in results.values() for step in steps))
    lines = ["| step | " + " | ".join(GUARDS[name][0] for name in names) + " |", "| --- |" + " --- |" * len(names)]
    lines += [f"| {step} | " + " | ".join(results[name][0].get(step, "not run") for name in names) + " |" for step in steps]
    version = run(service, "--version").split()[-1]
    lines += ["", f"Run on {datetime.date.today()} against version {version} of the service, on SQLite:", ""]
    return "\n".join(lines + [f"- {GUARDS[name][0]}: {said}" for name, (_, said) in results.items()]) + "\n"


def written(page, name, found):
    """Puts what was found between the marks of a page."""
    page = EXAMPLES / page
    page.write_text(re.sub(rf"(?s)(<!-- generated: {name} -->\n).*(<!-- end generated -->)", lambda kept: kept[1] + found + kept[2], page.read_text()))


def main():
    chosen, service = sys.argv[1:] or list(GUARDS), binary("magic-link")
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in chosen:
        print(f"--- {GUARDS[name][0]}", flush=True)
        results[name] = life(name, service)
        print(results[name][1], flush=True)
    found = table(results, service)
    print(found)
    if chosen == list(GUARDS):
        written("README.md", "guards", found)
        lines = [f"- {GUARDS[name][0]}: {TYPED.get(name) or 'not run'}" for name in chosen if name != "portal"]
        written("FROM_SCRATCH.md", "from scratch", "\n".join([f"On {datetime.date.today()}:", "", *lines]) + "\n")
    outcomes = [outcome for steps, _ in results.values() for outcome in steps.values()]
    skipped = [name for name, (steps, _) in results.items() if not steps]
    failed = outcomes.count("failed") + (len(skipped) if os.environ.get("CI") else 0)
    print(f"{sum(outcome.startswith('ok') for outcome in outcomes)} passed, {failed} failed, {len(skipped)} guards not run")
    sys.exit(1 if failed else 0)


main()
