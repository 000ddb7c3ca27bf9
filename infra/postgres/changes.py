"""Proposals of changes and their approvals as rows, which are only ever added; and what became of them.

A row proves nothing: whoever acts on a change holds the signatures against the list of people itself. Refused attempts
are rows, too, so that the audit has them.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import dict_row

from schemas.changes import Change, canonical_text, change_id
from schemas.control import Approval

_STATE: Final = "SELECT key, value FROM shard_state WHERE stage = %s AND shard = %s AND key = ANY(%s)"
_PENDING: Final = """
    SELECT p.change_id, p.author, p.reason, p.content, p.created_at,
        ARRAY(SELECT a.author FROM change_approvals a WHERE a.change_id = p.change_id AND a.refusal IS NULL
            ORDER BY a.ordinal) AS approved_by,
        newest.outcome, newest.refusal
    FROM change_proposals p LEFT JOIN LATERAL (
        SELECT o.outcome, o.refusal FROM (
            SELECT outcome, refusal, available_at_ns FROM control_outcomes WHERE change_id = p.change_id
            UNION ALL
            SELECT CASE WHEN refusal IS NULL THEN 'APPLIED' ELSE 'REFUSED' END, refusal, available_at_ns
            FROM command_events WHERE change = p.content AND action = 'RELEASE_MODEL') o
        ORDER BY o.outcome = 'APPLIED' DESC, o.available_at_ns DESC LIMIT 1) newest ON true
    ORDER BY p.ordinal DESC LIMIT %s
"""
_HISTORY: Final = """
    SELECT time, outcome, action, scope, target, level, "values", loosens, base, version, author, reason, approved_by,
        until_ns, refusal, detail, change_id, command_id
    FROM control_outcomes WHERE %s::text IS NULL OR outcome <> %s ORDER BY available_at_ns DESC, seq DESC LIMIT %s
"""


_OUTCOME: Final = """
    SELECT outcome, refusal, detail, version, loosens, approved_by FROM control_outcomes WHERE command_id = %s
    UNION ALL
    SELECT CASE WHEN refusal IS NULL THEN 'APPLIED' ELSE 'REFUSED' END, refusal, '', '',
        ARRAY[]::text[], ARRAY[]::text[]
    FROM command_events WHERE command_id = %s AND action = 'RELEASE_MODEL'
"""


class StoredChange(NamedTuple):
    """A proposal: its id, its canonical text, and when it was made."""

    change_id: str
    text: str


def insert_proposal(dsn: str, change: Change) -> str:
    """Store a proposal and return its id. Raises psycopg.Error."""
    text = canonical_text(change)
    name = change_id(text)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO change_proposals (change_id, author, reason, content) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (change_id) DO NOTHING",
            (name, change.owner, change.reason, text),
        )
    return name


def find_changes(dsn: str, prefix: str) -> list[StoredChange]:
    """Return the proposals whose id begins like this, two at most."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT change_id, content FROM change_proposals WHERE starts_with(change_id, %s) ORDER BY ordinal LIMIT 2",
            (prefix,),
        ).fetchall()
    return [StoredChange(str(name), str(text)) for name, text in rows]


def insert_approval(dsn: str, name: str, approval: Approval, refusal: str | None) -> None:
    """Store an attempt to approve a change, with why it does not count. Raises psycopg.Error."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO change_approvals (change_id, author, signature, refusal) VALUES (%s, %s, %s, %s)",
            (name, approval.person, approval.signature, refusal),
        )


def approvals_of(dsn: str, name: str) -> tuple[Approval, ...]:
    """Return the approvals of a change that were not refused, in the order in which they were given."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT author, signature FROM change_approvals WHERE change_id = %s AND refusal IS NULL ORDER BY ordinal",
            (name,),
        ).fetchall()
    return tuple(Approval(person=str(person), signature=str(signature)) for person, signature in rows)


def newest_command(dsn: str) -> int:
    """Return the number of the newest command; 0 when there is none."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT coalesce(max(ordinal), 0) FROM commands").fetchone()
    assert row is not None
    return int(row[0])


def read_state(dsn: str, place: tuple[str, str], keys: Sequence[str]) -> dict[str, bytes]:
    """Return what a shard (stage, shard) has kept under these keys, of those that it has."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(_STATE, (*place, list(keys))).fetchall()
    return {str(key): bytes(value) for key, value in rows}


def recent_changes(dsn: str, limit: int) -> list[dict[str, Any]]:
    """Return the newest proposals, newest first, with who approved each and what came of it."""
    return _rows(dsn, _PENDING, (limit,))


def recent_outcomes(dsn: str, limit: int, *, without: str | None = None) -> list[dict[str, Any]]:
    """Return what execution said of changes, newest first, but for one kind of outcome."""
    return _rows(dsn, _HISTORY, (without, without, limit))


def outcome_of(dsn: str, command_id: str) -> dict[str, Any] | None:
    """Return what became of the change that a command carried, or None while nothing is known."""
    found = _rows(dsn, _OUTCOME, (command_id, command_id))
    return found[0] if found else None


def _rows(dsn: str, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(query.encode(), tuple(values)).fetchall()
