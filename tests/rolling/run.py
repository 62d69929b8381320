"""Rolling upgrades under load, over two schema versions and back (`make rolling-upgrade`).

    run.py [--seconds S] [--rows N] [--note WORDS] [--report]

Two copies behind a balancer, over one PostgreSQL. Beside the older version the newer one migrates the database; then one copy
after the other is stopped and started as the newer version, as the older one again, and as the newer one for good. The same
once more with the next version. ROLLING_SERVICE names the newest binary, and the two older ones are built from the history;
or ROLLING_PROGRAMS names all three, the oldest first: `label=path label=path label=path`. S is how long each state lasts (8),
N how many old links lie in the database (100,000), WORDS what is to be said of the programs. Takes some five minutes, and writes tests/rolling/RESULT.md.

Needs root: all of it runs in namespaces of its own, on loopback, and ends with this program.
"""
import argparse, collections, datetime, json, os, pathlib, re, shutil, sys, tempfile, time, traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(ROOT / "tests/failover")]
KEPT = ROOT / "target/rolling"
LAST = KEPT / "last.json"
# All of it, whatever happens.
MINUTES = 20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("ROLLING_SECONDS", "8")))
    parser.add_argument("--rows", type=int, default=int(os.environ.get("ROLLING_ROWS", "100000")))
    parser.add_argument("--report", action="store_true", help="only write RESULT.md")
    parser.add_argument("--note", default=os.environ.get("ROLLING_NOTE", ""))
    options = parser.parse_args()
    import namespace, report
    if options.report:
        return report.write(json.loads(LAST.read_text()) | ({"note": options.note} if options.note else {}))
    if os.environ.get("ROLLING_INSIDE") != "1":
        import programs
        os.environ["ROLLING_GIVEN"] = os.environ.get("ROLLING_PROGRAMS", "")
        # Outside, because building may need a registry.
        os.environ["ROLLING_PROGRAMS"] = " ".join(f"{one.label}={one.path}" for one in programs.all_of_them())
    namespace.enter("ROLLING_INSIDE")
    KEPT.mkdir(parents=True, exist_ok=True)
    outcome = campaign(options)
    LAST.write_text(json.dumps(outcome, indent=1))
    report.write(outcome)
    print(pathlib.Path(report.RESULT).read_text())
    return report.verdict(outcome)


def campaign(options):
    import people, programs, servers
    folder = tempfile.mkdtemp(prefix="rolling-")
    shutil.chown(folder, servers.ACCOUNT)
    os.chmod(folder, 0o755)
    server = crowd = None
    whole = False
    end = time.monotonic() + 60 * MINUTES
    try:
        versions = programs.all_of_them()
        for number, one in enumerate(versions):
            one.path = shutil.copy(one.path, os.path.join(folder, f"magic-link-{number}"))
        server = servers.Alone(folder)
        host = server.primary
        for query in ("CREATE ROLE magic_link LOGIN", "CREATE ROLE magic_link_run LOGIN", "CREATE DATABASE magic_link OWNER magic_link",
                      "ALTER SYSTEM SET log_min_duration_statement = '500ms'", "SELECT pg_reload_conf()"):
            servers.ask(host, query)
        address = f"{host}:{servers.PORT}/magic_link"
        crowd = people.People(versions[0], folder, f"postgres://magic_link_run@{address}", f"postgres://magic_link@{address}")
        begun = datetime.datetime.now(datetime.timezone.utc)
        stays = steps(crowd, versions, server, options, end)
        with crowd.balancer.during("at the end"):
            crowd.pause()
        outcome = look(crowd, versions, server) | {
            "at": begun.isoformat(timespec="seconds"), "rows": options.rows, "stays": stays, "seconds": options.seconds,
            "cores": os.cpu_count(), "note": options.note or ("They were given by their paths." if os.environ.get("ROLLING_GIVEN") else "The last one is a release "
                "build, the others are development builds of older commits."), "postgresql": servers.ask(host, "SHOW server_version")[0][0].split()[0],
            "programs": [{"label": one.label, "version": one.version, "migrations": one.migrations} for one in versions]}
        whole = not any(outcome[what] for what in ("lost", "stale", "wrong", "refused", "unhealed", "errors"))
        return outcome
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        if crowd:
            crowd.end_all()
        if not whole:
            kept = KEPT / f"logs-{datetime.datetime.now():%H%M%S}"
            kept.mkdir(parents=True)
            for file in pathlib.Path(folder).glob("*.log"):
                shutil.copy(file, kept)
            print(f"the logs are kept in {kept}", flush=True)
        if server:
            server.end()
        shutil.rmtree(folder, ignore_errors=True)


def steps(crowd, versions, server, options, end):
    """All states that copies and database are in, one after the other; how long each start and stop took."""
    stays = []

    def rest(seconds=options.seconds):
        if time.monotonic() > end:
            raise RuntimeError(f"not done after {MINUTES} minutes")
        time.sleep(seconds)

    def replace(number, program):
        copy = crowd.copies[number]
        before = copy.program
        stopped = copy.stop()
        stays.append({"from": before.label, "to": program.label, "stopped": round(stopped, 2), "ready": round(copy.start(program), 2)})
        print(stays[-1], flush=True)

    oldest = versions[0]
    during = crowd.balancer.during
    with during(f"{oldest} alone"):
        for copy in crowd.copies:
            copy.start(oldest)
        crowd.begin()
        rest()
        fill(server, options.rows)
        rest()
    for older, newer in zip(versions, versions[1:]):
        with during(f"{newer} migrates beside {older}") as phase:
            began = time.monotonic()
            phase["applied"] = crowd.migrate(newer)
            phase["migrating"] = time.monotonic() - began
            print(f"{phase['name']}: {phase['migrating']:.1f} s, {phase['applied']}", flush=True)
            rest(2)
        with during(f"{older} on the schema of {newer}"):
            rest()
        for forth, (gone, come) in enumerate(((older, newer), (newer, older), (older, newer))):
            # On the way back a balancer that does not look: who calls meets a copy that has gone, and has to ask again.
            crowd.balancer.is_blind = forth == 1
            with during(f"{gone} → {come}" + ("", ", unseen", ", for good")[forth]) as phase:
                replace(0, come)
                rest()
                phase["verified"] = exports(crowd, newer)
                replace(1, come)
                rest(options.seconds / 2)
                crowd.balancer.is_blind = False
    with during(f"{versions[-1]} alone"):
        rest()
    return stays


def exports(crowd, newer):
    """The log as either copy exports it, of which one is of another version: the newer program verifies both."""
    said = []
    for copy in crowd.copies:
        def export(copy=copy):
            return crowd.get("/v1/audit-events/export?tenant_id=acme", first=copy)["text"].decode()
        try:
            said.append(f"of {copy.program}: " + crowd.verify(newer, f"over-http-{copy.number}", export))
        except (RuntimeError, TypeError) as error:
            crowd.balancer.wrong.append(f"export of {copy.program}: {error}"[:400])
    return said


def fill(server, rows):
    """Old links and mails, as many as make an index take its time: copies of one that has ended, and hundred days older."""
    import servers
    for table, letters, ended, times, more in (
            ("magic_links", "mlk", "revoked_at", ("created_at", "starts_at", "revoked_at"),
             "'profile_id', 'old-' || n, 'expires_at', (one).expires_at + interval '20 days' + n * interval '1 second'"),
            ("mail_jobs", "mjb", "finished_at", ("created_at", "next_attempt_at", "finished_at"),
             "'dedup_key', 'old-' || n, 'magic_link_id', 'mlk_00' || substr(md5(n::text), 1, 24), 'recipient', 'hr-' || n || '@acme.rolling.in'")):
        ago = ", ".join(f"'{one}', (one).{one} - interval '100 days'" for one in times)
        servers.ask(server.primary, f"""INSERT INTO {table} SELECT made.* FROM generate_series(1, {rows}) n,
            (SELECT {table} AS one FROM {table} WHERE {ended} IS NOT NULL LIMIT 1) kept, LATERAL jsonb_populate_record(one,
            jsonb_build_object('id', '{letters}_00' || substr(md5(n::text), 1, 24), {ago}, {more})) made""", "magic_link", seconds=120)
    servers.ask(server.primary, "ANALYZE", "magic_link", seconds=60)


def look(crowd, versions, server):
    """What is found when all has come to its end."""
    balancer, host = crowd.balancer, server.primary
    messages = crowd.messages(host)
    balancer.wrong += crowd.bits()
    verified = crowd.verify(versions[-1], "at-the-end")
    phases = []
    for phase in balancer.phases:
        gap = {}
        for sort in ("2xx", "writes"):
            times = [phase["began"], *sorted(phase[sort]), phase["ended"]]
            gap[sort] = round(max(after - before for before, after in zip(times, times[1:])), 3)
        phases.append({"name": phase["name"], "seconds": round(phase["ended"] - phase["began"], 1), "calls": phase["calls"],
                       "retried": dict(phase["retried"]), "retried_calls": phase["retried_calls"], "gap": gap["2xx"],
                       "write_gap": gap["writes"], "unread": phase["unread"], "slowest": round(phase["slowest"], 3), "applied": phase.get("applied"),
                       "migrating": phase.get("migrating"), "verified": phase.get("verified")})
    kinds = collections.Counter(kind for kind, _ in crowd.acknowledged)
    return {"lost": crowd.lost(host), "stale": balancer.stale, "wrong": balancer.wrong, "refused": balancer.refused,
            "unhealed": balancer.unhealed, "phases": phases, "acknowledged": dict(kinds), "lives": crowd.lives,
            "across": dict(crowd.across), "messages": messages, "verified": verified, "errors": errors(crowd)}


def errors(crowd):
    """Lines of the copies' logs that tell of errors, each kind once."""
    found = collections.Counter()
    for copy in crowd.copies:
        for line in open(copy.log, errors="replace"):
            if '"ERROR"' in line or "panicked" in line:
                found[re.sub(r"[a-z]{3}_[0-9a-z]{26}|[0-9a-f]{32}|\d{4}-\d\d-\d\dT[\d:.]+Z", "…", line.strip())[:600]] += 1
    return dict(found)


if __name__ == "__main__":
    sys.exit(main())
