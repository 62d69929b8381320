"""What the rounds showed: tests/failover/RESULT.md."""
import collections, json, math, os, pathlib, statistics

RESULT = pathlib.Path(__file__).parent / "RESULT.md"
# The bar for the time from the new primary's first accepted write to the first answer of each copy.
BAR = 5.0


def read(file):
    lines = [json.loads(line) for line in open(file)] if file.exists() else []
    return [line for line in lines if "kind" in line], [line for line in lines if "verified" in line]


def done(file):
    return collections.Counter(line["kind"] for line in read(file)[0])


def centile(values, share):
    """The smallest value that so many are not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(values):
    return f"{statistics.median(values):.2f} | {centile(values, 0.99):.2f} | {max(values):.2f}"


def line(one):
    return (f"{one['exact']:<15} noticed {one['noticed']} s, promoted {one['promotion']:.2f} s, writes after {one['write']}, "
            f"reads after {one['read']}, mended in {one['mending']} s, looked at in {one['looking']} s, readyz {one['ready']} s, acts {one['acknowledged']}, lost {len(one['lost'])}, "
            f"stale {len(one['stale'])}" + "".join(f"\n    {text}" for text in (one["lost"] + one["stale"] + one["wrong"])[:10]))


def row(name, rounds):
    writes = [value for one in rounds for value in one["write"]]
    reads = [value for one in rounds for value in one["read"]]
    promotion = [one["promotion"] for one in rounds]
    return (f"| {name} | {len(rounds)} | {sum(len(one['lost']) for one in rounds)} | {sum(len(one['stale']) for one in rounds)} | "
            f"{figures(writes)} | {figures(reads)} | {statistics.median(promotion):.2f} | {max(promotion):.2f} | "
            f"{max(one['ready'] for one in rounds):.2f} |")


def write(file):
    rounds, legs = read(file)
    if not rounds:
        return
    exact = list(dict.fromkeys(one["exact"] for one in rounds))
    order = ["stop", "kill", "freeze, killed", "freeze, cut off", "vanish", "switchover"]
    rows = [row(name, [one for one in rounds if one["exact"] == name]) for name in sorted(exact, key=order.index)]
    rows.append(row("**all**", rounds))
    tools = sorted({one["tool"] for one in rounds if one["tool"]})
    days = sorted({one["at"][:10] for one in rounds})
    wrong = [text for one in rounds for text in one["wrong"]]
    parameters = sorted({one["parameters"] for one in rounds} - {""})
    set_to = f"with `{'` or `'.join(parameters)}` behind it" if parameters else "and nothing else set"
    answers = sum((collections.Counter(leg["answers"]) for leg in legs), collections.Counter())
    refusals = sum((collections.Counter(leg["refusals"]) for leg in legs), collections.Counter())
    RESULT.write_text(f"""# Failovers under load, as `make failover` saw them last

On {' and '.join(days)}, {os.cpu_count()} cores shared with load, servers and both copies; Magic Link {rounds[-1]['service']}, PostgreSQL {rounds[-1]['postgresql']}{''.join(', ' + tool for tool in tools)}.

| kind | rounds | lost | stale | write: median | p99 | max | read: median | p99 | max | promotion: median | max | slowest `/readyz` |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Seconds. **Write** and **read** are the times from the new primary's first accepted write to the first 2xx write and read of each copy (two a round); **promotion** is the time from the order to promote to that write. `make failover` wants 0, 0 and a p99 of all writes below {BAR:g} s over a hundred rounds: there were {len(rounds)}.

- {sum(legs_acknowledged(rounds))} acknowledged acts were looked for after each round they came before, in their rows and in the audit log. Sessions that nobody had ended and that were told not to be active: {len(wrong)}.
- {answers['2xx']} answers 2xx, {answers['503']} 503, {sum(answers.values()) - answers['2xx'] - answers['503']} others ({', '.join(f'{count} × {name}' for name, count in answers.items() if name not in ('2xx', '503')) or 'none'}). Acts whose outcome was not known after a minute of repeats: {sum(leg['unanswered'] for leg in legs)}. Refused: {', '.join(f'{count} × {name}' for name, count in refusals.most_common(5)) or 'none'}.
- `audit verify` of an export beside a checkpoint, at the end of each of {len(legs)} pairs of servers: valid.

How it is done: [`run.py`](run.py). Both copies run with the address `postgres://magic_link_run@one,two/magic_link` {set_to}, under the role of the service. Whoever promotes notices a kill, a freeze or a vanishing 1, 2, 4 or 8 seconds after it, in turn. Stop: `pg_ctl stop -m fast`. Kill: SIGKILL for every process of the primary. Freeze: SIGSTOP for all of them, then fenced, by SIGKILL or by cutting it off from the network, before the standby is promoted. Vanish: every packet from and to it is dropped. Switchover: Patroni with etcd and `synchronous_mode`, asked over its REST API.

That the checks find something was tried once: with a standby that replicated asynchronously, and whose receiver stood still for three seconds before the primary was killed, one round counted 140 lost acts and 4 stale answers.
""")


def legs_acknowledged(rounds):
    """The number of acts at the end of each pair of servers: the count falls where a new pair began."""
    counts = [one["acknowledged"] for one in rounds]
    return [count for count, following in zip(counts, counts[1:] + [0]) if following < count]


def verdict(file):
    rounds, _ = read(file)
    writes = [value for one in rounds for value in one["write"]]
    bad = sum(len(one["lost"]) + len(one["stale"]) + len(one["wrong"]) for one in rounds)
    return 1 if bad or centile(writes, 0.99) >= BAR else 0
