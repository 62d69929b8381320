"""The programs of three schema versions: given, or built from the history of this repository."""
import json, os, pathlib, re, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TREE = "migrations/postgres"
# How long building one of them may take.
MINUTES = 30
# What older versions did not promise yet, and the first version that does, by the newest migration that it knows: that messages
# about ends keep their order among themselves, and that a log is read in which a newer version has recorded events.
SINCE = {"order of ends": "20261128050000", "newer events": "20261128080000"}


class Program:
    """A binary, and the migrations that it knows."""

    def __init__(self, path, label):
        self.path, self.label = str(path), label
        with tempfile.TemporaryDirectory() as folder:
            env = {"PATH": os.environ["PATH"], "MAGIC_LINK_DATABASE_URL": f"sqlite://{folder}/none.db"}
            checked = subprocess.run([self.path, "migrate", "--check", "--json"], env=env, cwd=folder, capture_output=True, text=True)
        # Of a database that is not there, all are pending.
        self.migrations = json.loads(checked.stdout.strip().split("\n")[-1])["pending"]
        said = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True)
        self.version = said.stdout.split()[-1]

    def promises(self, what):
        return self.migrations[-1][:14] >= SINCE[what]

    def __str__(self):
        return self.label


def git(*words):
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


def known(commit):
    return git("ls-tree", "--name-only", commit, TREE + "/").split("\n")


def older(count):
    """The last commits, the newest first, each of which knew fewer migrations than the one that came after it, and can work
    beside it."""
    found, newest = [], known("HEAD")
    for commit in git("log", "--first-parent", "--format=%h", "HEAD", "--", TREE).split("\n"):
        before = git("rev-parse", "--short", commit + "^")
        added = [name for name in newest if name not in known(before)]
        for name in added:
            said = git("show", f"HEAD:{name}/up.sql")
            since = re.search(r"INTO tolerated_migrations \(version, known_since\) VALUES \('\d+', '(\d+)'\)", said)
            if not since or not any(f"/{since[1]}_" in one for one in known(before)):
                sys.exit(f"{before} cannot work beside {name}: there are no {count} steps in this history")
        if added:
            found.append(before)
            newest = known(before)
        if len(found) == count:
            return found
    sys.exit(f"there are no {count} steps in this history")


def built(commit):
    """The development build of a commit; kept for the next time."""
    place = ROOT / "target/rolling" / commit
    binary = place / "magic-link"
    if not binary.exists():
        source = place / "source"
        source.mkdir(parents=True, exist_ok=True)
        print(f"building {commit}", flush=True)
        archive = subprocess.Popen(["git", "-C", str(ROOT), "archive", commit], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(source)], stdin=archive.stdout, check=True)
        # One folder for all of them: what they have in common is built once.
        env = os.environ | {"CARGO_TARGET_DIR": str(ROOT / "target/rolling/build")}
        cargo = os.environ.get("CARGO", "cargo").split()
        subprocess.run([*cargo, "build", "--locked", "--bin", "magic-link"], cwd=source, env=env, check=True, timeout=60 * MINUTES)
        os.replace(ROOT / "target/rolling/build/debug/magic-link", binary)
        subprocess.run(["rm", "-r", str(source)], check=True)
    return binary


def all_of_them():
    """Three programs, the oldest first."""
    given = os.environ.get("ROLLING_PROGRAMS")
    if given:
        named = [one.rpartition("=")[::2] for one in given.split()]
        programs = [Program(pathlib.Path(path).resolve(), label or f"version {number}") for number, (label, path) in enumerate(named, 1)]
    else:
        newest = pathlib.Path(os.environ["ROLLING_SERVICE"]).resolve()
        if not newest.exists():
            sys.exit("there is no release binary: `make release` first, or name three programs in ROLLING_PROGRAMS")
        programs = [Program(built(commit), commit) for commit in reversed(older(2))] + [Program(newest, git("rev-parse", "--short", "HEAD"))]
    for one, next_one in zip(programs, programs[1:]):
        if not set(one.migrations) < set(next_one.migrations):
            sys.exit(f"{next_one} knows no more migrations than {one}")
    return programs
