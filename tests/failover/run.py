"""Failovers under load: two copies of the service over PostgreSQL with a synchronous standby (`make failover`).

    run.py [--rounds N] [--minutes M] [--kinds stop,kill,...] [--again] [--report]

FAILOVER_SERVICE names the release binary, FAILOVER_PARAMETERS what stands behind the database's address, such as
`?tcp_user_timeout=3000`. Each of the five kinds has N rounds (20). What was done is kept in target/failover/rounds.jsonl: a run that was stopped,
or is over its time, is gone on with by the next one; --again begins anew. After each round tests/failover/RESULT.md is
written. Needs root: all of it runs in namespaces of its own, on loopback, and ends with this program.
"""
import argparse, datetime, json, os, pathlib, shutil, sys, tempfile, time, traceback

import namespace

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEPT = ROOT / "target/failover"
ROUNDS = KEPT / "rounds.jsonl"
KINDS = ("stop", "kill", "freeze", "vanish", "switchover")
# Seconds between a failure and the order to promote: how long whoever promotes takes to notice. In turn.
NOTICED = (1, 2, 4, 8)
# Rounds of a kind before servers and service are made anew.
LEG = 5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("FAILOVER_ROUNDS", "20")))
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("FAILOVER_MINUTES", "150")))
    parser.add_argument("--kinds", default=os.environ.get("FAILOVER_KINDS", ",".join(KINDS)))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--report", action="store_true", help="only write RESULT.md")
    options = parser.parse_args()
    import report
    if options.report:
        return report.write(ROUNDS)
    namespace.enter("FAILOVER_INSIDE")
    KEPT.mkdir(parents=True, exist_ok=True)
    if options.again:
        ROUNDS.unlink(missing_ok=True)
    kinds = [kind for kind in KINDS if kind in options.kinds.split(",")]
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        left = {kind: options.rounds - report.done(ROUNDS).get(kind, 0) for kind in kinds}
        by_hand = [kind for kind in kinds if kind != "switchover" and left[kind] > 0]
        if not any(count > 0 for count in left.values()):
            break
        if by_hand:
            leg([kind for turn in range(LEG) for kind in by_hand if turn < left[kind]], end, report)
        if left.get("switchover", 0) > 0 and time.monotonic() < end:
            leg(["switchover"] * min(LEG, left["switchover"]), end, report)
    report.write(ROUNDS)
    return report.verdict(ROUNDS)


def service():
    given = os.environ.get("FAILOVER_SERVICE")
    path = pathlib.Path(given or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/magic-link").resolve()
    if not path.exists():
        sys.exit("there is no release binary: `make release` first, or name one in FAILOVER_SERVICE")
    return str(path)


def leg(kinds, end, report):
    """Some rounds with one pair of servers and one pair of copies."""
    import load, servers
    folder = tempfile.mkdtemp(prefix="failover-")
    shutil.chown(folder, servers.ACCOUNT)
    os.chmod(folder, 0o755)
    binary = shutil.copy(service(), folder)
    pair = people = None
    odd = True
    try:
        pair = (servers.Patroni if kinds[0] == "switchover" else servers.ByHand)(folder)
        for query in ("CREATE ROLE magic_link LOGIN", "CREATE ROLE magic_link_run LOGIN",
                      "CREATE DATABASE magic_link OWNER magic_link", "CREATE DATABASE beside"):
            servers.ask(pair.primary, query)
        servers.ask(pair.primary, "CREATE TABLE written (at timestamptz)", "beside")
        hosts = ",".join(f"{host}:{servers.PORT}" for host in servers.HOSTS)
        more = os.environ.get("FAILOVER_PARAMETERS", "")
        people = load.Load(binary, folder, f"postgres://magic_link_run@{hosts}/magic_link{more}", f"postgres://magic_link@{hosts}/magic_link")
        odd = False
        version = servers.ask(pair.primary, "SHOW server_version")[0][0].split()[0]
        said = {"postgresql": version, "service": servers.run(binary, "--version").split()[-1], "tool": pair.tool,
                "parameters": more}
        time.sleep(5)
        for kind in kinds:
            if time.monotonic() > end:
                break
            number = report.done(ROUNDS).get(kind, 0)
            line = one_round(kind, number, pair, people, load, servers) | said
            odd = odd or bool(line["lost"] or line["stale"] or line["wrong"] or max(line["write"] + line["read"]) > 5)
            with open(ROUNDS, "a") as file:
                file.write(json.dumps(line) + "\n")
            report.write(ROUNDS)
            print(report.line(line), flush=True)
        verified = people.verify()
        with open(ROUNDS, "a") as file:
            file.write(json.dumps({"verified": verified.strip().split("\n")[-1], "refusals": people.refusals,
                                   "unanswered": people.unanswered, "answers": people.counted}) + "\n")
        print("audit verify:", verified.strip().replace("\n", " · "), dict(people.refusals), dict(people.counted), flush=True)
    except BaseException:
        odd = True
        traceback.print_exc()
        raise
    finally:
        if people:
            people.end()
        if pair:
            pair.end()
        servers.let_in_again()
        if odd:
            kept = KEPT / f"logs-{datetime.datetime.now():%H%M%S}"
            kept.mkdir()
            for file in pathlib.Path(folder).glob("*.log"):
                shutil.copy(file, kept)
            print(f"the logs are kept in {kept}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)


def one_round(kind, number, pair, people, load, servers):
    noticed = NOTICED[number % len(NOTICED)] if kind in ("kill", "freeze", "vanish") else 0
    # What hangs is fenced in two ways, in turn.
    exact = kind if kind != "freeze" else ("freeze, killed", "freeze, cut off")[number // len(NOTICED) % 2]
    with people.lock:
        people.answered.clear()
    people.slowest_ready = 0.0
    stale, wrong = len(people.stale), len(people.wrong)
    wall, failed = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    pair.fail(exact)
    time.sleep(noticed)
    pair.fence(exact)
    ordered = time.monotonic() if kind != "switchover" else failed
    pair.promote()
    # From the last write that the new primary refused on, who was answered was answered by it.
    refused = ordered
    while True:
        asked = time.monotonic()
        if servers.takes_writes(pair.primary):
            accepted = time.monotonic()
            break
        refused = asked
        if asked > ordered + 90:
            raise RuntimeError(f"{kind}: nobody was promoted")
        time.sleep(0.02)

    def first(copy, sort):
        with people.lock:
            ends = [end for number, what, _began, end in people.answered if (number, what) == (copy, sort) and end > refused]
        return max(0.0, min(ends) - accepted) if ends else None

    def all_back():
        return all(first(copy, sort) is not None for copy in range(2) for sort in ("write", "read"))
    limit = time.monotonic() + 90
    while not all_back() and time.monotonic() < limit:
        time.sleep(0.05)
    back = {sort: [round(90.0 if (value := first(copy, sort)) is None else value, 3) for copy in range(2)] for sort in ("write", "read")}
    mending = time.monotonic()
    pair.mend()
    mended = time.monotonic()
    time.sleep(1)
    people.look_at_all_that_ended()
    lost, known = people.lost(pair.primary)
    return {"kind": kind, "exact": exact, "at": wall.isoformat(timespec="seconds"), "noticed": noticed,
            "promotion": round(accepted - ordered, 3), "write": back["write"], "read": back["read"],
            "outage": round(accepted - failed + max(back["write"]), 3), "lost": lost, "stale": people.stale[stale:],
            "wrong": people.wrong[wrong:], "acknowledged": known, "ready": round(people.slowest_ready, 3),
            "mending": round(mended - mending, 1), "looking": round(time.monotonic() - mended, 1)}


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    sys.exit(main())
