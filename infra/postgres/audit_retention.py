"""How long what is kept, and what is past that: the one table of retention classes.

Orders, and what decided them, are kept for seven years. RTS 6 (Art. 28) wants five for orders of high-frequency
trading, MiFID II (Art. 16(7)) up to seven when a regulator asks. Nothing here deletes a row: market data goes by whole
days, everything else only by hand, after an export that was verified.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql
from psycopg.rows import tuple_row

from infra.postgres.audit_record import COMMANDS, DECISIONS, ORDERS
from infra.postgres.queries import Connection
from schemas.values import NS_PER_S

_DAY_S: Final = 86_400
_YEARS_5: Final = 1_827
_YEARS_7: Final = 2_557


@dataclass(frozen=True, slots=True)
class RetentionClass:
    """One class: kept ``days``, and by law at least ``least_days``. ``tables`` are named with their time columns."""

    name: str
    days: int
    least_days: int
    why: str
    tables: tuple[tuple[str, str], ...]
    streams: tuple[str, ...] = ()


def _by_event(tables: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "available_at_ns") for name in tables.split())


CLASSES: Final = (
    RetentionClass(
        "orders",
        *(_YEARS_7, _YEARS_5),
        "Orders, fills and the books: RTS 6 Art. 28 (5 years), MiFID II Art. 16(7) (up to 7).",
        _by_event(
            "order_verdicts order_events orders fills ledger positions position_events account_marks trade_feedback"
        ),
        (ORDERS,),
    ),
    RetentionClass(
        "decisions",
        *(_YEARS_7, _YEARS_5),
        "What was decided, and on which answer: as long as the orders that came of it.",
        _by_event("decisions tallies"),
        (DECISIONS,),
    ),
    RetentionClass(
        "commands",
        *(_YEARS_7, _YEARS_5),
        "What people ordered and changed.",
        (
            *_by_event("command_events control_outcomes model_releases"),
            *(
                (name, "created_at")
                for name in (
                    "commands",
                    "change_proposals",
                    "change_approvals",
                    "model_refusals",
                    "dead_letter_actions",
                )
            ),
            *((name, "started_at") for name in ("topic_rescales", "restores")),
        ),
        (COMMANDS,),
    ),
    RetentionClass(
        "evidence",
        *(730, 0),
        "What experts and policies saw and said, and how it was scored.",
        _by_event(
            "feature_snapshots votes alerts ballot_requests scores ballots_voided outcomes experience bars"
            " market_marks quality_events instruments"
        ),
    ),
    RetentionClass("letters", 365, 0, "Records that could not be used.", (("dead_letters", "recorded_at_ns"),)),
    RetentionClass("market", 30, 0, "Market data, which captures and venues have as well.", _by_event("market_data")),
)
"""Every table of the record, with how long it is kept."""
NOT_BY_TIME: Final = frozenset(
    {
        *("shard", "shard_state", "shard_journal", "shard_outbox", "shard_snapshot", "shard_version", "shard_pruned"),
        *("worker_status", "order_latencies", "weights", "audit_rows", "audit_heads"),
    }
)
"""The engine's own tables, which workers and ``tradermind prune`` keep small, and the audit, kept by its streams."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one table or stream holds that is past its retention: rows, and from when the oldest is (ns)."""

    retention_class: str
    what: str
    days: int
    rows: int
    oldest_ns: int | None


def past_retention(connection: Connection, now_ns: int) -> list[Kept]:
    """Return every table and stream with what is past its retention at ``now_ns``, in the order of the classes."""
    return [
        kept
        for listed in CLASSES
        for kept in (*_of_tables(connection, listed, now_ns), *_of_streams(connection, listed, now_ns))
    ]


def cutoff_ns(listed: RetentionClass, now_ns: int) -> int:
    """Return the time before which a class's rows are past their retention."""
    return now_ns - listed.days * _DAY_S * NS_PER_S


def _of_tables(connection: Connection, listed: RetentionClass, now_ns: int) -> Iterator[Kept]:
    for table, column in listed.tables:
        moment = sql.SQL("%s" if column.endswith("_ns") else "ns_to_time(%s)")
        oldest = "min({})" if column.endswith("_ns") else "(extract(epoch FROM min({})) * 1000000)::bigint * 1000"
        query = sql.SQL("SELECT count(*), {} FROM {} WHERE {} < {}").format(
            sql.SQL(oldest).format(sql.Identifier(column)), sql.Identifier(table), sql.Identifier(column), moment
        )
        yield _kept(connection, listed, table, query, (cutoff_ns(listed, now_ns),))


def _of_streams(connection: Connection, listed: RetentionClass, now_ns: int) -> Iterator[Kept]:
    query = sql.SQL("SELECT count(*), min(created_at_ns) FROM audit_rows WHERE stream = %s AND created_at_ns < %s")
    for stream in listed.streams:
        yield _kept(connection, listed, f"audit {stream}", query, (stream, cutoff_ns(listed, now_ns)))


def _kept(
    connection: Connection, listed: RetentionClass, what: str, query: sql.SQL | sql.Composed, values: tuple[Any, ...]
) -> Kept:
    row = connection.cursor(row_factory=tuple_row).execute(query, values).fetchone()
    assert row is not None
    return Kept(listed.name, what, listed.days, int(row[0]), None if row[1] is None else int(row[1]))
