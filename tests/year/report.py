"""What the year showed: the section of benches/RESULTS.md."""
import pathlib, statistics

RESULTS = pathlib.Path(__file__).resolve().parents[2] / "benches/RESULTS.md"
# `make bench` keeps what follows.
HEADING = "\n# A simulated year, by `make year`\n"
KIB, MIB = 2**10, 2**20
WAITS = (("issue", 0), ("issue", 1), ("commit", 0), ("check", 0), ("check", 1), ("empty", 0))
LEAVES = ("audit_events", "audit_event_principals")


def size(month, *tables, indexes=True):
    """Bytes of tables, all of them where none is named."""
    held = month["sizes"]
    return sum(held[name]["bytes"] + (sum(held[name]["indexes"].values()) if indexes else 0) for name in tables or held)


def links(month):
    return month["sizes"]["magic_links"]["rows"]


def figures(year):
    """What a link takes, leaves and costs."""
    months = year["months"]
    # The last month in which nothing was erased yet, and those in which as much is erased as comes.
    before = [one for one in months if not one["erased"].get("links")][-1]
    settled = next((one for one in months if one["days"] >= year["retention"] + 45), months[-1])
    last, since = months[-1], months[months.index(settled):]

    def grown(*tables):
        """Median over the months; a snapshot's month makes room that is used again."""
        return statistics.median((size(one, *tables) - size(early, *tables)) / (links(one) - links(early)) for early, one in zip(since, since[1:])) if since[1:] else 0.0
    erased = sum(one["erased"].get("links", 0) for one in months)
    # Of a thousand links, and of a day on which nothing was due.
    spent = [statistics.median(1000 * one["erasing"][place] / one["erased"]["links"] for one in since[1:] if not one["snapshot"]) if since[1:] else 0.0
             for place in range(4)]
    idle = [one["erasing"][0] / (one["days"] / number) for number, one in enumerate(months, 1) if not one["erased"].get("links")]
    return {
        "before": size(before) / links(before), "at": before, "settled": settled,
        "after": grown(), "leaves": grown(*LEAVES), "erased": erased, "spent": spent, "idle": statistics.median(idle),
        "wal": sum(one["used"]["wal"] for one in months) / links(last), "pages": sum(one["used"]["pages"] for one in months) / links(last)}


def by_month(year):
    rows = []
    for number, one in enumerate(year["months"], 1):
        count = one["days"] * year["links"] - (year["months"][number - 2]["days"] * year["links"] if number > 1 else 0)
        waits = " | ".join(f"{one['waits'][what][place]:.2f}" for what, place in WAITS)
        rows.append(
            f"| {number}{', snapshot' if one['snapshot'] else ''} | {links(one)} | {one['kept']} | {size(one) / MIB:.0f} | "
            f"{size(one, 'audit_payloads') / MIB:.0f} | {size(one, 'mail_jobs') / MIB:.0f} | {size(one, 'magic_links', 'sessions') / MIB:.0f} | "
            f"{size(one, *LEAVES) / MIB:.0f} | {sum(moved['dead'] for moved in one['moved'].values())} | {one['used']['wal'] / count / KIB:.0f} | "
            f"{1000 * one['used']['service'] / count:.1f} + {1000 * one['used']['database'] / count:.1f} | {waits} |")
    return "\n".join(rows)


def by_table(year):
    at = [one for one in year["months"] if one is year["months"][-1] or year["months"].index(one) + 1 in (6, 12, 18)]
    last, whole, rows, rest = at[-1], size(at[-1]), [], [0] * len(at)
    for table in sorted(last["sizes"], key=lambda name: -size(last, name)):
        if size(last, table) < whole / 400:
            rest = [sum_ + size(one, table) for sum_, one in zip(rest, at)]
            continue
        entry, moved = last["sizes"][table], last["moved"][table]
        rows.append(f"| `{table}` | " + " | ".join(f"{one['sizes'][table]['rows']}" for one in at)
                    + " | " + " | ".join(f"{size(one, table) / MIB:.1f}" for one in at)
                    + f" | {size(last, table) / max(1, entry['rows']):.0f} | {moved['dead']} | {moved['vacuums']} |")
        for name, _bytes in sorted(entry["indexes"].items(), key=lambda one: -one[1]):
            if entry["indexes"][name] > whole / 200:
                rows.append(f"| · `{name}` | " + " | " * (len(at) - 1) + " | "
                            + " | ".join(f"{one['sizes'][table]['indexes'][name] / MIB:.1f}" for one in at)
                            + f" | {entry['indexes'][name] / max(1, entry['rows']):.0f} | | |")
    rows.append("| all others | " + " | " * (len(at) - 1) + " | " + " | ".join(f"{bytes_ / MIB:.1f}" for bytes_ in rest) + " | | | |")
    names = [str(year["months"].index(one) + 1) for one in at]
    head = "| table, index | " + " | ".join(f"rows, month {name}" for name in names) + " | " + " | ".join(f"MiB, {name}" for name in names)
    return head + " | bytes a row | dead rows | vacuums |\n|" + " --- |" + " ---: |" * (2 * len(at) + 3) + "\n" + "\n".join(rows)


def snapshots(year):
    """Each month with an open snapshot, beside the one before."""
    found = []
    for before, one in zip(year["months"], year["months"][1:]):
        if one["snapshot"]:
            waits = {what: [month["waits"][what][0] for month in (before, one)] for what in one["waits"]}
            found.append({"month": year["months"].index(one) + 1, "days": one["days"] - before["days"], "waits": waits,
                          "ratio": {what: waits[what][1] / waits[what][0] for what in waits}, "updates": {
                              table: one["moved"][table]["updated"] - before["moved"][table]["updated"] for table in ("audit_logs", "access_epoch")}})
    return found


def slower(year):
    """Statements that take a hundredth of the database's time in the last month without a snapshot, and twice as long as in the second one."""
    early, late = year["months"][1]["statements"], [one for one in year["months"] if not one["snapshot"]][-1]["statements"]
    whole = sum(calls * mean for calls, mean in late.values())
    return [f"`{query[:110].replace(chr(34), '')} …`: {early[query][1]:.3f} → {mean:.3f} ms, {calls * mean / whole:.0%} of the time" for query, (calls, mean) in late.items()
            if query in early and mean > 2 * early[query][1] and calls * mean > whole / 100]


def projected(found, links_a_day):
    """GiB after a year, and after three with a retention of 366 days."""
    kept = 366 * links_a_day
    return kept * found["before"] / 2**30, (kept * found["before"] + 2 * kept * found["after"]) / 2**30


def write(year):
    found, held, months = figures(year), snapshots(year), year["months"]
    last, spent = months[-1], found["spent"]
    vacuumed = [sum(sums[place] for sums in year["vacuums"].values()) for place in range(5)]
    most = sorted(year["vacuums"].items(), key=lambda one: -one[1][2])[:4]
    acts = "\n".join(f"| {name} | {year['acts']['many'][name] / KIB:.0f} | {year['acts']['few'][name] / KIB:.0f} |" for name in year["acts"]["many"])
    waits = "; ".join(f"month {number}: " + ", ".join(f"{word} {months[number - 1]['waits'][what][0]:.2f} ms, p99 {months[number - 1]['waits'][what][1]:.2f} ms"
                      for what, word in (("issue", "issue p50"), ("commit", "a commit"), ("check", "introspect p50"))) for number in sorted({1, 12, len(months)}) if number <= len(months))
    sizes = "; ".join(f"{count} links a day: {projected(found, count)[0]:.0f} GiB after a year, {projected(found, count)[1]:.0f} GiB after three" for count in (100, 1000, 10000))
    beside = "".join(
        f"- **Beside a snapshot that is open for {one['days']} days** (month {one['month']}), with the month before it: "
        + ", ".join(f"{word} {one['waits'][what][0]:.2f} → {one['waits'][what][1]:.2f} ms ({one['ratio'][what]:.2f} ×)" for what, word in (
            ("issue", "p50 of issue"), ("commit", "a bare commit"), ("check", "introspect"), ("empty", "`/healthz`")))
        + f"; {one['updates']['audit_logs']} versions of the heads of logs and {one['updates']['access_epoch']} of the epoch's row came meanwhile.\n" for one in held)
    text = f"""{HEADING}
On {year['at'][:10]}, {year['cores']} cores shared with load and server; Magic Link {year['service']}, PostgreSQL {year['postgresql']} (256 MiB of shared buffers, `autovacuum_naptime` 1 s because a day takes seconds, everything else as it comes), one copy of the service.

{links(last)} links in {last['days']} days, {year['links']} a day, of 50 tenants, of which the first has a fifth: each is issued with a key, mailed, opened, redeemed, introspected twice, reported about in two reports of 10 events (views, and every third a change of two fields), and ended by its consultant (70 %), revoked (15 %) or left to expire; {last['sizes']['mail_jobs']['rows'] / max(1, last['kept']):.1f} mails and {year['messages'] / links(last):.1f} webhook messages each. Retention {year['retention']} days, which is the least: what a log erases sooner does not verify. So it takes two years until as much is erased as comes; these are as many links as a year of {year['links'] * last['days'] // 365} a day. Four times a day the clock moves, once a day `magic-link maintain` runs under the role of its own. {year.get('note', '')}

| month | links | kept | MiB | payloads | mails | links, sessions | leaves | dead rows | WAL KiB a link | CPU ms a link, service + database | issue p50 ms | p99 | a commit | introspect p50 ms | p99 | `/healthz` |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{by_month(year)}

MiB with indexes; leaves are `audit_events` and `audit_event_principals`, which stay for ever. Times are those of a lone caller, in Python: ten issues and thirty introspections a day, and in turns with them, as a measure of the machine, the commit of one row and an empty answer (p50). A sandbox makes one more statement for each request.

{by_table(year)}

- **A link with all of its life takes {found['before'] / KIB:.1f} KiB** while nothing is erased ({links(found['at'])} links), **and leaves {found['after'] / KIB:.1f} KiB for ever**: so much does the database grow by each link once as much is erased as comes (median of the months from day {found['settled']['days']} on); {found['leaves'] / KIB:.1f} KiB of that are leaves.
- **In full size**, with this life of a link and 366 days: {sizes}. Computed from the two figures.
- **Latency**: {waits}.
{beside}- **Erasing** a thousand links, by daily runs, takes {spent[0]:.0f} s: {spent[1]:.1f} s of CPU in the command and {spent[2]:.1f} s in the database, autovacuum beside it included, and {spent[3] / 1000 / KIB:.0f} KiB of WAL a link (medians of the months from day {found['settled']['days']} on). A run that finds nothing takes {found['idle']:.2f} s. {found['erased']} links were erased in all.
- **WAL**: {found['wal'] / KIB:.0f} KiB a link, vacuum and erasing included, with {found['pages']:.1f} whole pages. It hangs on how many links come between two checkpoints of PostgreSQL:

| act, with its mails and messages | WAL KiB, without whole pages | WAL KiB, a checkpoint before it |
| --- | ---: | ---: |
{acts}

- **Autovacuum** came {vacuumed[0]:.0f} times, removed {vacuumed[1]:.0f} rows, and wrote {vacuumed[2] / MIB:.0f} MiB of WAL in {vacuumed[4]:.0f} s ({vacuumed[3]:.0f} s of CPU): {', '.join(f'`{table}` {sums[0]:.0f} times, {sums[2] / MIB:.0f} MiB' for table, sums in most)}.
- **Statements** that take at least a hundredth of the database's time in the last month without a snapshot, and more than twice as long as in the second one: {'; '.join(slower(year)) or 'none'}. Those that took more than half a second: {year['slow']}.
- {last['resident']:.0f} MiB resident, {last['connections']} connections open at the end.
- **At the end** `audit verify` of exports says: {'; '.join(dict.fromkeys(year['verified'].values()))}. {year['shown']['erased']} answers of `GET` about erased links and sessions leave names, reasons and tickets out, {year['shown']['kept']} about kept ones show them. In a dump of the whole database the names, addresses, reasons and tickets of {year['found']['erased']} erased links stand nowhere{'' if not year['found']['left'] else ' but in ' + str(year['found']['left'])}, those of {year['found']['kept']} kept ones do.
- What failed: {len(year['wrong']) or 'nothing'}{''.join(chr(10) + '  - ' + text for text in sorted(set(year['wrong']))[:10])}
"""
    kept = RESULTS.read_text().split(HEADING)[0].rstrip("\n") + "\n"
    RESULTS.write_text(kept + text)
    print(text)


def verdict(year):
    bad = year["wrong"] or year["forged"] or year["found"]["left"] or any(
        max(one["ratio"]["issue"], one["ratio"]["check"]) >= 2 for one in snapshots(year))
    return 1 if bad else 0
