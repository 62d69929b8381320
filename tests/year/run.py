"""A simulated year and a second one: rows and bytes, what erasing costs, and whether anything becomes slow (`make year`).

    run.py [--days N] [--links N] [--retention DAYS] [--minutes M] [--note WORDS] [--report]

YEAR_SERVICE names the release binary. One copy of the service, as a sandbox whose clock moves on, over one PostgreSQL whose
autovacuum is on. On each of N days (730) N links (50) of fifty tenants are issued, mailed, visited, reported about with 20
events each, and ended; at its end `magic-link maintain` erases what is older than DAYS (366, the least): two years, because
nothing can be erased in the first one. Through the 17th month of 24 somebody holds a snapshot open. Stops with what it has after
M minutes (90), and writes its section of benches/RESULTS.md. Needs root: all of it runs in namespaces of its own, on loopback,
and ends with this program.
"""
import argparse, collections, datetime, json, os, pathlib, re, shutil, statistics, subprocess, sys, tempfile, time, traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(ROOT / "tests/rolling"), str(ROOT / "tests/failover")]
LAST = ROOT / "target/year/last.json"
MONTHS, SNAPSHOT = 24, 17
# Links whose acts are measured by themselves at the end.
ACTS = 40


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("days", 730), ("links", 50), ("retention", 366), ("minutes", 90)):
        parser.add_argument(f"--{name}", type=int, default=int(os.environ.get(f"YEAR_{name.upper()}", default)))
    parser.add_argument("--note", default=os.environ.get("YEAR_NOTE", ""), help="what is to be said of the run")
    parser.add_argument("--report", action="store_true", help="only write the section")
    options = parser.parse_args()
    import namespace, report
    if options.report:
        return report.write(json.loads(LAST.read_text()) | ({"note": options.note} if options.note else {}))
    namespace.enter("YEAR_INSIDE")
    LAST.parent.mkdir(parents=True, exist_ok=True)
    outcome = campaign(options)
    LAST.write_text(json.dumps(outcome, indent=1))
    report.write(outcome)
    return report.verdict(outcome)


def campaign(options):
    import people, servers
    path = pathlib.Path(os.environ.get("YEAR_SERVICE") or ROOT / "target/release/magic-link").resolve()
    if not path.exists():
        sys.exit("there is no release binary: `make release` first, or name one in YEAR_SERVICE")
    folder = tempfile.mkdtemp(prefix="year-")
    shutil.chown(folder, servers.ACCOUNT)
    os.chmod(folder, 0o755)
    # A year takes an hour: so that autovacuum comes as often in a day as it would.
    servers.SETTINGS |= {"shared_buffers": "256MB", "autovacuum": "on", "autovacuum_naptime": "1s", "log_autovacuum_min_duration": "0",
                         "log_min_duration_statement": "500ms", "shared_preload_libraries": "pg_stat_statements"}
    server = crowd = None
    try:
        server = servers.Alone(folder)
        for query in ("CREATE ROLE magic_link LOGIN", "CREATE ROLE magic_link_run LOGIN", "CREATE ROLE magic_link_janitor LOGIN",
                      "CREATE DATABASE magic_link OWNER magic_link", "CREATE EXTENSION pg_stat_statements"):
            servers.ask(server.primary, query)
        crowd = people.People(shutil.copy(path, folder), folder, f"{server.primary}:{servers.PORT}/magic_link", options.retention)
        return year(crowd, server, options) | {
            "cores": os.cpu_count(), "note": options.note, "links": options.links, "retention": options.retention,
            "service": servers.run(path, "--version").split()[-1], "postgresql": servers.ask(server.primary, "SHOW server_version")[0][0].split()[0]}
    except BaseException:
        traceback.print_exc()
        kept = LAST.parent / f"logs-{datetime.datetime.now():%H%M%S}"
        kept.mkdir(parents=True)
        for file in pathlib.Path(folder).glob("*.log"):
            shutil.copy(file, kept)
        print(f"the logs are kept in {kept}", flush=True)
        raise
    finally:
        if crowd:
            crowd.leave()
        if server:
            server.end()
        shutil.rmtree(folder, ignore_errors=True)


def year(crowd, server, options):
    import figures, psycopg2, servers
    begun = datetime.datetime.now(datetime.timezone.utc)
    end, postmaster, midnight = time.monotonic() + 60 * options.minutes, server.postmaster(server.primary), begun.replace(
        hour=0, minute=0, second=0, microsecond=0)
    months, done, snapshot, log = [], 0, None, server.data[server.primary] + ".log"
    for month in range(1, MONTHS + 1):
        last, began, mark = round(options.days * month / MONTHS), time.monotonic(), meters(crowd, postmaster)
        erasing, erased = [0.0, 0.0, 0.0, 0.0], collections.Counter()
        if month == SNAPSHOT:
            snapshot = psycopg2.connect(servers.address(server.primary, database="magic_link"))
            snapshot.set_session(isolation_level="REPEATABLE READ", readonly=True)
            snapshot.cursor().execute("SELECT count(*) FROM magic_links")
        first = done
        while done < last and time.monotonic() < end:
            done += 1
            crowd.day(midnight + datetime.timedelta(days=done), options.links)
            database, wal = figures.cpu(postmaster), figures.written(crowd)[0]
            seconds, cpu, said = crowd.maintain()
            erased.update({what: count for what, count in said.items() if isinstance(count, int)})
            for place, figure in enumerate((seconds, cpu, figures.cpu(postmaster) - database, figures.written(crowd)[0] - wal)):
                erasing[place] += figure
        if done == first:
            break
        time.sleep(2)  # Counts of the database are a second late.
        now = meters(crowd, postmaster)
        months.append({
            "days": done, "taken": time.monotonic() - began, "erasing": erasing, "erased": erased, "snapshot": bool(snapshot), "sizes": figures.sizes(crowd),
            "moved": figures.moved(crowd), "statements": figures.statements(server), "used": {name: now[name] - mark[name] for name in mark}, "resident": figures.resident(crowd.copy.process.pid),
            "connections": crowd.ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'magic_link_run'")[0][0],
            "kept": crowd.ask("SELECT count(*) FROM magic_links WHERE erased_at IS NULL")[0][0],
            "waits": {what: [centile(waits, share) * 1000 for share in (0.5, 0.99)] for what, waits in crowd.waits.items()}})
        if snapshot:
            snapshot.close()
            snapshot = None
        for waits in crowd.waits.values():
            waits.clear()
        print(line(month, months[-1]), flush=True)
    looked = look(crowd)
    return {"at": begun.isoformat(timespec="seconds"), "months": months, "vacuums": figures.vacuums(log), **looked,
            "acts": acts(crowd, server), "messages": crowd.messages, "forged": crowd.hooks.forged,
            "slow": len(re.findall(r"duration: [\d.]+ ms", open(log, errors="replace").read())), "wrong": crowd.wrong}


def meters(crowd, postmaster):
    import figures
    wal, pages = figures.written(crowd)
    return {"wal": wal, "pages": pages, "service": figures.cpu(crowd.copy.process.pid), "database": figures.cpu(postmaster)}


def centile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def line(month, one):
    total = sum(table["bytes"] + sum(table["indexes"].values()) for table in one["sizes"].values())
    return (f"month {month}: {one['taken']:.0f} s, {one['sizes']['magic_links']['rows']} links, {one['kept']} kept, {total / 2**20:.0f} MiB, "
            f"WAL {one['used']['wal'] / 2**20:.0f} MiB, erasing {one['erasing'][0]:.1f} s, "
            + ", ".join(f"{what} {p50:.2f}, p99 {p99:.2f} ms" for what, (p50, p99) in one["waits"].items()))


def look(crowd):
    """What is found at the end: logs that verify, and nothing that was erased."""
    verified = {tenant: crowd.verify(tenant) for tenant in (crowd.tenants[0], crowd.tenants[24], crowd.tenants[-1], "_system")}
    shown = []
    for link, session, erased in crowd.ask("""(SELECT l.id, s.id, true FROM magic_links l JOIN sessions s ON s.magic_link_id = l.id
            WHERE l.erased_at IS NOT NULL ORDER BY random() LIMIT 100) UNION ALL (SELECT l.id, s.id, false FROM magic_links l
            JOIN sessions s ON s.magic_link_id = l.id WHERE l.erased_at IS NULL ORDER BY random() LIMIT 100)"""):
        for path in (f"/v1/magic-links/{link}", f"/v1/sessions/{session}"):
            answer = crowd.call("GET", path)
            names = [name for name in ("reason", "ticket") if name in answer] + re.findall(r"case-\d+\.", json.dumps(answer))
            if erased == bool(names) or erased != ("erased_at" in answer):
                crowd.wrong.append(f"{path} is {'erased' if erased else 'kept'}, and shows {sorted(set(names))}")
            shown.append(erased)
    kinds = dict(crowd.ask("SELECT event_type, count(*) FROM audit_events GROUP BY event_type"))
    return {"kinds": kinds, "verified": verified, "shown": {"erased": sum(shown), "kept": len(shown) - sum(shown)}, "found": names_in_all(crowd)}


def names_in_all(crowd):
    """Texts about erased links that stand anywhere in the database, and about how many kept ones some do. What was recorded in the
    days after a link's end goes as many days after the rest."""
    gone = {row[0] for row in crowd.ask(f"SELECT profile_id FROM magic_links WHERE erased_at < timestamp '{crowd.now:%Y-%m-%d}' - interval '7 days'")}
    import servers
    dump = subprocess.Popen([f"{servers.BINARIES}/pg_dump", "--data-only", crowd.of("postgres")], stdout=subprocess.PIPE, text=True, errors="replace")
    seen, table, left = set(), None, {}
    for row in dump.stdout:
        if row.startswith("COPY "):
            table = row.split()[1]
        for number in re.findall(r"case-(\d+)\.", row):
            seen.add("emp-" + number)
            if "emp-" + number in gone:
                left[table] = left.get(table, 0) + 1
    dump.wait()
    return {"erased": len(gone), "left": left, "kept": len(seen - gone)}


def acts(crowd, server):
    """Bytes of WAL of an act, with the mails and messages that follow: without whole pages, as when each page is changed many times
    between two checkpoints, and with one checkpoint before each, as when links are few."""
    import figures, servers
    costs = {}
    for way, count in (("many", ACTS), ("few", ACTS // 8)):
        servers.ask(server.primary, f"ALTER SYSTEM SET full_page_writes = {'off' if way == 'many' else 'on'}")
        servers.ask(server.primary, "SELECT pg_reload_conf()")
        things = [None] * count
        for name, act in (("issue", lambda _: crowd.issue()), ("visit", crowd.visit), ("report", lambda session: crowd.report(session, count=20)), ("end", crowd.done)):
            spent, following = [], []
            for some in ([things] if way == "many" else [[thing] for thing in things]):
                servers.ask(server.primary, "CHECKPOINT", seconds=60)
                before = figures.written(crowd)[0]
                following += [act(thing) or thing for thing in some]
                crowd.rest()
                spent.append((figures.written(crowd)[0] - before) / len(some))
            costs.setdefault(way, {})[name], things = statistics.median(spent), following
    return costs


if __name__ == "__main__":
    sys.exit(main())
