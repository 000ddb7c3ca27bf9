"""Writes batches of events to their tables: one transaction per batch, and twice is the same as once."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from infra.postgres.audit_chain import AuditChain
from infra.postgres.projection_list import NOT_KEPT, PROJECTIONS
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade, VenueBar
from schemas.values import NS_PER_S

_NS_PER_DAY: Final = 86_400 * NS_PER_S
_DAYS_MAX: Final = 366 * 250
_MARKET_TYPES: Final = (BookSnapshot, DepthUpdate, Quote, Trade, VenueBar)
_STATEMENTS: Final = {
    record: tuple(projection.statement() for projection in projections) for record, projections in PROJECTIONS.items()
}
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """One record of a dead-letter topic: where it lies, where it came from, and why it is there.

    ``partition`` and ``offset`` are those of the refused record on ``topic``; null when its headers do not say.
    ``raw_headers`` are all headers in their order, to the byte; ``held_since`` and ``held_number`` say behind which
    record, and as the how many-th, a quarantine held it back.
    """

    dlq_topic: str
    dlq_partition: int
    dlq_offset: int
    topic: str
    partition: int | None
    offset: int | None
    reason: str
    detail: str
    recorded_at_ns: int
    headers: dict[str, str]
    key: bytes | None
    value: bytes | None
    raw_headers: Sequence[tuple[str, bytes | None]] = ()
    stage: str = ""
    held_since: str | None = None
    held_number: int | None = None


class Projections:
    """The writer of one connection. It remembers which days of market data it has made room for.

    With ``audit`` what belongs to the audit is chained in the same transaction.
    """

    def __init__(self, connection: Connection, audit: AuditChain | None = None) -> None:
        self._connection = connection
        self._audit = audit
        self._days: set[int] = set()
        self._encoder = msgspec.json.Encoder()

    async def write(self, events: Sequence[Event], dead_letters: Sequence[DeadLetterRow] = ()) -> int:
        """Write a batch in one transaction; return the rows it added or renewed.

        An event that is already there changes nothing, and one older than what a table of newest rows holds
        neither. Raises KeyError for a type that has no projection, AuditBroken, and psycopg.Error, after which
        nothing of the batch is written.
        """
        grouped = _grouped(events)
        await self._make_days(grouped)
        rows = 0
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            for record, listed in grouped.items():
                payload = self._encode(listed)
                for statement in _STATEMENTS[record]:
                    await cursor.execute(statement, (payload,))
                    rows += cursor.rowcount
            if dead_letters:
                await cursor.executemany(_DEAD_LETTER, [_dead_letter_values(row) for row in dead_letters])
                rows += cursor.rowcount
            if self._audit is not None:
                await self._audit.append(cursor, events)
        if self._audit is not None:
            self._audit.committed()
        return rows

    def _encode(self, events: Sequence[Event]) -> str:
        payload = self._encoder.encode(events)
        if b"\\u0000" in payload:
            # Postgres text cannot hold a NUL; a foreign name may, and one name must not stop the record of all.
            payload = _NUL.sub(rb"\1\\ufffd", payload)
        return payload.decode()

    async def _make_days(self, grouped: dict[type[Event], list[Event]]) -> None:
        days = {
            event.available_at_ns // _NS_PER_DAY for record in _MARKET_TYPES for event in grouped.get(record, ())
        } - self._days
        for day in sorted(day for day in days if 0 <= day < _DAYS_MAX):
            await _make_day(self._connection, day)
        self._days |= days


async def drop_market_days(connection: Connection, before_ns: int) -> list[str]:
    """Drop every whole day of market data before ``before_ns``; return the names of what was dropped."""
    last_kept = before_ns // _NS_PER_DAY
    async with connection.transaction():
        found = await connection.execute(
            "SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid"
            " WHERE inhparent = 'market_data'::regclass AND relname ~ '^market_data_[0-9]{8}$' AND relname < %s"
            " ORDER BY relname",
            (_day_table(last_kept),),
        )
        names = [str(row[0]) for row in await found.fetchall()]
        for name in names:
            await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    return names


async def make_market_days(connection: Connection, *, days: int) -> None:
    """Make the tables of market data of today (UTC) and the days after it, where they are not there."""
    today = (datetime.now(UTC) - _EPOCH).days
    for day in range(today, today + days):
        await _make_day(connection, day)


async def _make_day(connection: Connection, day: int) -> None:
    name = _day_table(day)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('market_data'), %s)", (day,))
        found = await connection.execute("SELECT to_regclass(%s) IS NULL", (name,))
        row = await found.fetchone()
        if row is not None and row[0]:
            await connection.execute(
                "SELECT make_market_day(%s, %s, %s)", (name, day * _NS_PER_DAY, (day + 1) * _NS_PER_DAY)
            )


def _day_table(day: int) -> str:
    return f"market_data_{_EPOCH + timedelta(days=day):%Y%m%d}"


def _grouped(events: Iterable[Event]) -> dict[type[Event], list[Event]]:
    grouped: dict[type[Event], list[Event]] = {}
    for event in events:
        grouped.setdefault(type(event), []).append(event)
    for record in NOT_KEPT:
        grouped.pop(record, None)
    return grouped


_DEAD_LETTER: Final = (
    'INSERT INTO dead_letters (dlq_topic, dlq_partition, dlq_offset, topic, partition, "offset", reason, detail,'
    " recorded_at_ns, headers, key, value, raw_headers, stage, held_since, held_number)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)


def _dead_letter_values(row: DeadLetterRow) -> tuple[Any, ...]:
    headers = msgspec.json.encode({_text(name): _text(value) for name, value in row.headers.items()}).decode()
    return (
        row.dlq_topic,
        row.dlq_partition,
        row.dlq_offset,
        _text(row.topic),
        row.partition,
        row.offset,
        _text(row.reason),
        _text(row.detail),
        row.recorded_at_ns,
        headers,
        row.key,
        row.value,
        msgspec.msgpack.encode(list(row.raw_headers)),
        _text(row.stage),
        None if row.held_since is None else _text(row.held_since),
        row.held_number,
    )


def _text(value: str) -> str:
    return value.replace("\0", "\ufffd")
