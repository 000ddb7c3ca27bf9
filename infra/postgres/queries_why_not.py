"""Why there was no trade in an instrument at a time: what was decided last, what was in force, what was refused."""

from typing import Any, Final

from infra.postgres.queries import Connection, NotInRecord, Row, chain_of, json_ready
from schemas.values import NS_PER_S, Level

_SILENT_NS: Final = 3_600 * NS_PER_S
"""A strategy that has decided nothing for so long before the newest decision is no longer asked about."""
_NEWEST: Final = """
    SELECT max(available_at_ns) AS at_ns FROM decisions
    WHERE instrument = %(instrument)s AND available_at_ns <= %(at_ns)s AND outcome <> 'ADVICE'
"""
_OF_EACH: Final = """
    SELECT DISTINCT ON (account, strategy) event_id FROM decisions
    WHERE instrument = %(instrument)s AND available_at_ns BETWEEN %(since_ns)s AND %(at_ns)s AND outcome <> 'ADVICE'
        AND policy_stage <> 'SHADOW'
        AND (%(account)s::text IS NULL OR account = %(account)s)
        AND (%(strategy)s::text IS NULL OR strategy = %(strategy)s)
    ORDER BY account, strategy, available_at_ns DESC, event_id
"""
_LEVELS: Final = """
    SELECT DISTINCT ON (scope, target) scope, target, level, author, reason, time FROM command_events AS heard
    WHERE action = 'SET_LEVEL' AND NOT EXISTS (SELECT FROM control_outcomes AS told
            WHERE told.command_id = heard.command_id AND told.outcome = 'REFUSED')
        AND available_at_ns <= %(at_ns)s AND (scope = 'GLOBAL'
        OR (scope, target) IN (('ACCOUNT', %(account)s), ('STRATEGY', %(strategy)s), ('INSTRUMENT', %(instrument)s)))
    ORDER BY scope, target, available_at_ns DESC, event_id DESC
"""
_ALERT: Final = """
    SELECT level, kind, score, detail, time FROM alerts
    WHERE instrument = %(instrument)s AND available_at_ns <= %(at_ns)s ORDER BY available_at_ns DESC LIMIT 1
"""
_RESTORE: Final = """
    SELECT ordinal, author, why AS reason, finished_at AS time FROM restores
    WHERE report -> 'reducing' ? %(account)s AND finished_at <= ns_to_time(%(at_ns)s)
        AND NOT EXISTS (SELECT FROM command_events AS heard WHERE action = 'SET_LEVEL' AND scope = 'ACCOUNT'
            AND NOT EXISTS (SELECT FROM control_outcomes AS told
                WHERE told.command_id = heard.command_id AND told.outcome = 'REFUSED')
            AND target = %(account)s AND time BETWEEN finished_at AND ns_to_time(%(at_ns)s))
    ORDER BY ordinal DESC LIMIT 1
"""
_SEVERITY: Final = {
    level.value: severity for severity, level in enumerate((Level.ACTIVE, Level.REDUCING, Level.HALTED))
}


def why_not(
    connection: Connection, instrument: str, at_ns: int, account: str | None = None, strategy: str | None = None
) -> list[Row]:
    """Return, for each (account, strategy) of an instrument, why it had no trade at ``at_ns``: JSON-ready.

    ``chain``: the newest decision at or before, with its tally, votes, verdicts, orders and fills. ``level``: the
    strictest in force, and ``levels``: what set it. ``age_ns``: how old the decision was. ``because``: one sentence.
    Raises NotInRecord when nothing was decided by then.
    """
    asked = {"instrument": instrument, "at_ns": at_ns, "account": account, "strategy": strategy}
    newest = connection.execute(_NEWEST, asked).fetchone()
    if newest is None or newest["at_ns"] is None:
        raise NotInRecord(f"The record has no decision on {instrument!r} at or before that time.")
    since_ns = newest["at_ns"] - _SILENT_NS
    found = connection.execute(_OF_EACH, asked | {"since_ns": since_ns}).fetchall()
    if not found:
        raise NotInRecord(f"Nobody who was asked for decided on {instrument!r} within an hour before that time.")
    return [_slot(connection, str(row["event_id"]), at_ns) for row in found]


def _slot(connection: Connection, decision_id: str, at_ns: int) -> Row:
    chain = _as_of(chain_of(connection, decision_id), at_ns)
    decision = chain["decision"]
    levels = _levels(connection, decision, at_ns)
    level = max((entry["level"] for entry in levels), key=_SEVERITY.__getitem__, default=Level.ACTIVE.value)
    slot = {
        "account": decision["account"],
        "strategy": decision["strategy"],
        "instrument": decision["instrument"],
        "traded": bool(chain["fills"]),
        "age_ns": at_ns - decision["available_at_ns"],
        "stale": at_ns > decision["expires_at_ns"],
        "level": level,
        "levels": levels,
        "chain": chain,
    }
    return slot | {"because": _because(slot)}


def _as_of(chain: Row, at_ns: int) -> Row:
    """Return a chain without what came after the time that is asked about."""
    return {
        name: [row for row in part if row.get("available_at_ns", at_ns) <= at_ns]
        if isinstance(part, list) and name != "orders"
        else part
        for name, part in chain.items()
    }


def _levels(connection: Connection, decision: Row, at_ns: int) -> list[Row]:
    """Return what restricted a line at a time: commands of people, an alert, a restore."""
    asked = {name: decision[name] for name in ("account", "strategy", "instrument")} | {"at_ns": at_ns}
    levels = [json_ready(row) for row in connection.execute(_LEVELS, asked).fetchall()]
    alert = connection.execute(_ALERT, asked).fetchone()
    if alert is not None and alert["level"] == "HIGH":
        shown = json_ready(alert)
        levels.append(
            {
                "scope": "ALERT",
                "target": decision["instrument"],
                "level": Level.REDUCING.value,
                "author": "the platform",
            }
            | {"reason": f"{shown['kind']} {shown['detail']}".strip(), "time": shown["time"]}
        )
    restore = connection.execute(_RESTORE, asked).fetchone()
    if restore is not None:
        shown = json_ready(restore)
        levels.append(
            {"scope": "RESTORE", "target": decision["account"], "level": Level.REDUCING.value}
            | {name: shown[name] for name in ("author", "reason", "time")}
        )
    return levels


def _because(slot: Row) -> str:
    chain = slot["chain"]
    decision = chain["decision"]
    if slot["traded"]:
        return f"There was a trade: {len(chain['fills'])} fills came of the decision {decision['event_id']}."
    if decision["outcome"] == "NO_TRADE":
        sentence = f"The decider wanted none: {decision['reason']}."
    elif not chain["verdicts"]:
        sentence = "The decider wanted a trade; risk made no order of it: the target was no whole lot away, or not yet."
    else:
        sentence = _of_orders(chain)
    return sentence + _restricted(slot)


def _of_orders(chain: Row) -> str:
    denied = sorted({reason for verdict in chain["verdicts"] for reason in verdict["reasons"]})
    if denied:
        return f"Risk denied the order: {', '.join(denied)}."
    if not chain["order_events"]:
        return "Risk approved an order that execution had not taken up by then."
    last = max(chain["order_events"], key=lambda event: (event["generation"], event["seq"]))
    reasons = ", ".join(last["deny_reasons"]) or last["reason"]
    return f"The order {last['order_id']} was {last['status']}" + (f": {reasons}." if reasons else ".")


def _restricted(slot: Row) -> str:
    parts: list[Any] = [f"The level in force was {slot['level']}." if slot["level"] != Level.ACTIVE else ""]
    if slot["stale"]:
        parts.append(
            f"By then the decision was {slot['age_ns'] / NS_PER_S:.1f} s old, and no later one is in the record."
        )
    return "".join(f" {part}" for part in parts if part)
