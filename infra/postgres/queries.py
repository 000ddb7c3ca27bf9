"""Why a decision was what it was: its chain from features to feedback, as the record has it."""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
_CANDIDATES_MAX: Final = 5
_PREFIX_MIN: Final = 4
_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


class NotInRecord(Exception):
    """What was asked for is not in the record, or not one thing: one sentence."""


class RecordUnreachable(Exception):
    """There is no database to ask, or it holds no record of ours: one sentence."""


def open_record(dsn: str) -> Connection:
    """Return a read-only connection. Raises RecordUnreachable."""
    try:
        connection = psycopg.connect(dsn, autocommit=True, connect_timeout=5, row_factory=dict_row)
        connection.execute("SET default_transaction_read_only = on")
        held = connection.execute("SELECT to_regclass('decisions') IS NOT NULL AS held").fetchone()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[-1]
        raise RecordUnreachable(f"The database cannot be reached: {reason}") from error
    if held is None or not held["held"]:
        connection.close()
        raise RecordUnreachable("The database holds no TraderMind record; has a run been started on it?")
    return connection


def find_decision(connection: Connection, asked: str) -> str:
    """Return the id of the decision that ``asked`` names: its id, an order's id, or the unique beginning of one.

    Raises NotInRecord.
    """
    if not _ID.fullmatch(asked):
        raise NotInRecord(f"{asked!r} is not an id.")
    exact = _ids(connection, "SELECT event_id AS id FROM decisions WHERE event_id = %s", (asked,))
    if exact:
        return exact[0]
    if len(asked) < _PREFIX_MIN:
        raise NotInRecord(f"{asked!r} is too short: give at least {_PREFIX_MIN} characters of a decision's id.")
    bounds = (asked, asked + "\U0010ffff", _CANDIDATES_MAX)
    by_prefix = "SELECT event_id AS id FROM decisions WHERE event_id >= %s AND event_id < %s ORDER BY 1 LIMIT %s"
    by_order = (
        "SELECT DISTINCT decision_id AS id FROM order_verdicts WHERE order_id >= %s AND order_id < %s"
        " ORDER BY 1 LIMIT %s"
    )
    found = _ids(connection, by_prefix, bounds) or _ids(connection, by_order, bounds)
    if not found:
        raise NotInRecord(f"No decision or order in the record begins with {asked!r}.")
    if len(found) > 1:
        more = ", ..." if len(found) == _CANDIDATES_MAX else ""
        raise NotInRecord(f"{asked!r} is not unique: it could be {', '.join(found)}{more}.")
    return found[0]


def chain_of(connection: Connection, decision_id: str) -> Row:
    """Return the whole chain of a decision: JSON-ready, money as text.

    ``snapshot`` and ``tally`` are null, and lists empty, where the record does not hold them (yet).
    """
    decision = _one(connection, "SELECT * FROM decisions WHERE event_id = %s", decision_id)
    if decision is None:
        raise NotInRecord(f"The decision {decision_id!r} is not in the record.")
    tally = _one(connection, "SELECT * FROM tallies WHERE event_id = %s", decision["tally_id"])
    snapshot_id = tally["snapshot_id"] if tally else ""
    votes = "SELECT * FROM votes WHERE ballot_id = %s ORDER BY expert, available_at_ns"
    closed = "SELECT * FROM trade_feedback WHERE entry_decision_id = %s OR exit_decision_id = %s"
    # A decision made an order, or changed one that another had made.
    orders = "SELECT * FROM orders WHERE decision_id = %s OR order_id IN (SELECT amends {of_change})"
    events = "SELECT * FROM order_events WHERE decision_id = %s OR amend_id IN (SELECT order_id {of_change})"
    changed = {"of_change": "FROM order_verdicts WHERE decision_id = %s AND amends IS NOT NULL"}
    twice = (decision_id, decision_id)
    return {
        "decision": decision,
        "snapshot": _one(connection, "SELECT * FROM feature_snapshots WHERE event_id = %s", snapshot_id),
        "votes": _all(connection, votes, decision["ballot_id"]),
        "tally": tally,
        "verdicts": _all(
            connection, "SELECT * FROM order_verdicts WHERE decision_id = %s ORDER BY available_at_ns", decision_id
        ),
        "orders": _all(connection, f"{orders.format(**changed)} ORDER BY order_id", *twice),
        "order_events": _all(connection, f"{events.format(**changed)} ORDER BY order_id, generation, seq", *twice),
        "fills": _all(connection, "SELECT * FROM fills WHERE decision_id = %s ORDER BY generation, seq", decision_id),
        "feedback": _all(connection, f"{closed} ORDER BY available_at_ns, event_id", decision_id, decision_id),
        "experience": _all(connection, "SELECT * FROM experience WHERE decision_id = %s", decision_id),
        "scores": _all(connection, "SELECT * FROM scores WHERE ballot_id = %s ORDER BY expert", decision["ballot_id"]),
        "voided": _all(connection, "SELECT * FROM ballots_voided WHERE ballot_id = %s", decision["ballot_id"]),
        "outcomes": _all(connection, "SELECT * FROM outcomes WHERE decision_id = %s ORDER BY event_id", decision_id),
    }


def json_ready(row: Row) -> Row:
    """Return a row as JSON can hold it: numbers that are exact as text, times in ISO form."""
    return {name: _ready(value) for name, value in row.items()}


def _ready(value: Any) -> Any:
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def _ids(connection: Connection, query: str, values: Sequence[Any]) -> list[str]:
    return [str(row["id"]) for row in connection.execute(query, values).fetchall()]


def _one(connection: Connection, query: str, *values: Any) -> Row | None:
    row = connection.execute(query, values).fetchone()
    return None if row is None else json_ready(row)


def _all(connection: Connection, query: str, *values: Any) -> list[Row]:
    return [json_ready(row) for row in connection.execute(query, values).fetchall()]
