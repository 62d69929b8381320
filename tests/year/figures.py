"""What the database holds, what it has written, and what it cost."""
import os, re

import servers

TICKS = os.sysconf("SC_CLK_TCK")
SIZES = """SELECT c.relname, t.relname, pg_relation_size(c.oid) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0)
    FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')"""
MOVED = "SELECT relname, n_dead_tup, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd, autovacuum_count FROM pg_stat_user_tables"
VACUUM = re.compile(
    r'automatic (?:aggressive )?vacuum of table "[^"]*\.public\.(\w+)".*?tuples: (\d+) removed.*?WAL usage:.*? (\d+) bytes'
    r".*?CPU: user: ([\d.]+) s, system: ([\d.]+) s, elapsed: ([\d.]+) s", re.DOTALL)
STATEMENTS = """SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 400), sum(calls)::bigint, sum(total_exec_time) / sum(calls)
    FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid WHERE d.datname = 'magic_link' GROUP BY 1 ORDER BY sum(total_exec_time) DESC LIMIT 80"""


def cpu(pid):
    """Seconds of a process and of all that came from it, those that have ended included."""
    ticks = 0
    for one in servers.family(pid):
        try:
            fields = open(f"/proc/{one}/stat").read().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        # What its children used counts once they have ended and were waited for.
        ticks += int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return ticks / TICKS


def resident(pid):
    """MiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) / 1024


def written(people):
    """Bytes of the write-ahead log, and whole pages in it."""
    return [int(number) for number in people.ask("SELECT pg_current_wal_insert_lsn() - '0/0', wal_fpi FROM pg_stat_wal")[0]]


def sizes(people):
    """Of each table: rows, bytes, and bytes of each of its indexes."""
    found = {}
    for name, table, size in people.ask(SIZES):
        entry = found.setdefault(table, {"bytes": 0, "indexes": {}})
        if name == table:
            entry["bytes"] = size
        else:
            entry["indexes"][name] = size
    for table, entry in found.items():
        entry["rows"] = people.ask(f"SELECT count(*) FROM {table}")[0][0]
    return found


def moved(people):
    """Of each table: dead rows now, and what was done to it so far."""
    names = ("dead", "inserted", "updated", "deleted", "hot", "vacuums")
    return {table: dict(zip(names, counts)) for table, *counts in people.ask(MOVED)}


def statements(server):
    """The statements of a month that took most of the database's time: how often, and milliseconds each."""
    found = {query: [calls, mean] for query, calls, mean in servers.ask(server.primary, STATEMENTS, seconds=60)}
    servers.ask(server.primary, "SELECT pg_stat_statements_reset()")
    return found


def vacuums(log):
    """Of each table: how often autovacuum came, rows it removed, bytes of WAL, seconds of CPU, seconds."""
    found = {}
    # Each entry of the log begins with a time; the lines below it belong to it.
    for entry in re.split(r"\n(?=\d{4}-)", open(log, errors="replace").read()):
        match = VACUUM.search(entry)
        if match:
            table, *figures = match.groups()
            removed, wal, user, system, elapsed = map(float, figures)
            sums = found.setdefault(table, [0, 0, 0, 0, 0])
            found[table] = [sums[0] + 1, sums[1] + removed, sums[2] + wal, sums[3] + user + system, sums[4] + elapsed]
    return found
