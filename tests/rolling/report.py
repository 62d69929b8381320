"""What the upgrades showed: tests/rolling/RESULT.md."""
import collections, pathlib

RESULT = pathlib.Path(__file__).parent / "RESULT.md"
BAD = ("lost", "stale", "wrong", "refused", "unhealed")


def bad(outcome):
    """Texts of all that should not be."""
    return [text for what in BAD for text in outcome[what]] + outcome["messages"]["missing"] + outcome["messages"]["disorder"]


def figures(counts):
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or "none"


def short(migration):
    number, _, name = migration.partition("_")
    return f"`{name}`" if name else number


def write(outcome):
    programs, phases, messages = outcome["programs"], outcome["phases"], outcome["messages"]
    known = []
    for before, one in zip([None, *programs], programs):
        more = [name for name in one["migrations"] if before and name not in before["migrations"]]
        known.append(f"- **{one['label']}** ({one['version']}) knows {len(one['migrations'])} migrations"
                     + (f", with {', '.join(map(short, more))} after those of {before['label']}." if before else "."))
    # At the end no new work begins: nobody waits for a 2xx.
    rows = [f"| {one['name']} | {one['seconds']:.0f} | {one['calls']} | {one['retried_calls']} | {one['gap']:.2f} | "
            f"{one['write_gap']:.2f} | {one['slowest']:.2f} |" for one in phases[:-1]]
    retried = sum((collections.Counter(one["retried"]) for one in phases), collections.Counter())
    calls, healed = sum(one["calls"] for one in phases), sum(one["retried_calls"] for one in phases)
    took = [f"{one['migrating']:.1f} s for {len(one['applied'])}" for one in phases if one["applied"] is not None]
    stays = outcome["stays"]
    exports = sum(len(one["verified"] or []) for one in phases)
    unpromised = unread = ""
    if messages["unpromised"]:
        unpromised = f" While a version was running that does not promise it yet, {messages['unpromised']} messages about ends overtook others about ends."
    if any(one["unread"] for one in phases):
        unread = (f" They are about {sum(one['unread'] for one in phases)} calls, counted nowhere else, that read the log of the system where a newer version had "
                  "recorded events of a type that the older one does not know: it answers 500. Versions from now on hand such events on.")
    found = collections.Counter(text.split(" (")[0][:160] for text in bad(outcome))
    RESULT.write_text(f"""# Rolling upgrades under load, as `make rolling-upgrade` saw them last

On {outcome['at'][:10]}, {outcome['cores']} cores shared with load, server and both copies; PostgreSQL {outcome['postgresql']}, {outcome['rows']} old links and mails in the database.

{chr(10).join(known)}

{outcome['note']}

| state of copies and database | s | calls | of them retried | longest time without a 2xx | without a write's 2xx | longest call |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Seconds. A call ends with its 2xx, whatever it took: who gets no answer, a 5xx, or no connection asks the other copy with the same `Idempotency-Key`. The balancer asks `/readyz` four times a second; where a copy is replaced unseen it does not look, and calls go to copies that have gone.

- **Errors that no repeat healed: {len(outcome['unhealed'])}**; calls that were refused (4xx): {len(outcome['refused'])}. Of {calls} calls {healed} were retried, for {figures(retried)}.
- **Acknowledged acts that are lost: {len(outcome['lost'])}** of {sum(outcome['acknowledged'].values())} ({figures(outcome['acknowledged'])}): all were looked for in their rows and in the audit log, in {outcome['lives']} lives of links.
- **Stale answers: {len(outcome['stale'])}**: of sessions whose end was answered before, asked for at both copies at once. Wrong answers of any other kind: {len(outcome['wrong'])}. {figures(outcome['across'])}.
- **Webhook messages: {messages['came']} came**, of {len(messages['kinds'])} kinds, {messages['repeated']} of them more than once; missing {len(messages['missing'])}, out of order {len(messages['disorder'])}, forged {messages['forged']}.{unpromised}
- Migrating took {' and '.join(took)} migrations. A copy took {max(one['stopped'] for one in stays):.1f} s at most from SIGTERM to its end (with `shutdown_delay_seconds` of 2), and {max(one['ready'] for one in stays):.1f} s from its start until it was ready; {len(stays)} were replaced.
- `audit verify` of the newer version, of {exports} exports over HTTP from copies of either version, and of one at the end beside a checkpoint: {'valid' if 'export' not in ' '.join(outcome['wrong']) else 'see below'}.
- Errors in the logs of the copies: {sum(outcome['errors'].values())}.{unread}
{''.join(chr(10) + f'- {count} × {text}' for text, count in found.items())}
How it is done: [`run.py`](run.py). The load is {' '.join(LOAD.split())}
""")


LOAD = """four lives of links a second: issued, mailed, pressed, redeemed, introspected, reported about, some of them extended, and ended in
one of five ways; each creation once more with its key at the other copy; fifteen introspections and three lists a second,
whose second page comes from the other copy. The copies run under the role of the service, with `migrate_at_start = false`."""


def verdict(outcome):
    return 1 if bad(outcome) or outcome["messages"]["forged"] else 0
