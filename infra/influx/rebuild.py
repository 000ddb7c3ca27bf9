"""The points of InfluxDB made again from the record: the same measurement, tags, fields and time as the sink's.

The sink turns an event into points; here a row takes the event's place, and the code that makes the points is the same.
A point that is written again replaces itself, so a rebuild may run beside the sink, be broken off, and run twice.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from infra.influx.points import PointMaker
from infra.influx.schema import ENTRY_FIELDS, MEASUREMENTS, attributes_of
from infra.influx.target import PointTarget
from infra.influx.writer import LINES_MAX, LinesWriter
from infra.postgres.projection_list import PROJECTIONS
from infra.postgres.projection_table import Projection
from infra.unit_fields import UNIT_FIELDS
from schemas.event import Event
from schemas.opinions import VoteTally
from schemas.values import NS_PER_S

Connection = psycopg.Connection[Any]
NS_PER_DAY: Final = 86_400 * NS_PER_S
FAILURES_MAX: Final = 8
"""So often in a row the target may be away, nearly a minute and a half, before a rebuild ends."""
_ROWS: Final = 2_000
_CONSTANTS: Final = ("kind", "verdict")
"""Columns that tell two event types of one table apart."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of one event type lie, and how they are read as what an event has."""

    kind: type[Event]
    table: str
    columns: str
    where: str

    def select(self) -> str:
        """Return the SELECT of a stretch of ``available_at_ns``: from the first parameter on, before the second."""
        return self._asked(self.columns)

    def count(self) -> str:
        """Return the SELECT of how many rows, and how many points, that stretch has."""
        points = "coalesce(sum(1 + jsonb_array_length(entries)), 0)" if self.kind is VoteTally else "count(*)"
        return self._asked(f"count(*) AS rows, {points} AS points")

    def span(self) -> str:
        """Return the SELECT of the first and the last time of that stretch."""
        return self._asked("min(available_at_ns) AS first, max(available_at_ns) AS last")

    def _asked(self, what: str) -> str:
        return " ".join(("SELECT", what, "FROM", self.table, "WHERE", self.where))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of one measurement: rows read, points written (or that would be), points refused."""

    measurement: str
    rows: int
    points: int
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when on, and before when, in ns of ``available_at_ns``."""

    from_ns: int = 0
    to_ns: int = 2**63 - 1


def sources() -> dict[str, Source]:
    """Return measurement -> where its points come from; nothing that the sink writes is left out."""
    return {name: _source(kind) for kind, name in MEASUREMENTS.items()}


def count_rows(connection: Connection, source: Source, stretch: Stretch) -> Rebuilt:
    """Return what a rebuild would read and write."""
    found = _one(connection, source.count(), (stretch.from_ns, stretch.to_ns))
    return Rebuilt(MEASUREMENTS[source.kind], int(found["rows"]), int(found["points"]))


class Rebuild:
    """Writes the points of rows to a target, no more than ``points_per_s`` of them.

    A target that is away is waited for; Unwritten is raised when it stays away.
    """

    def __init__(self, connection: Connection, target: PointTarget, points_per_s: float) -> None:
        self._connection = connection
        self._writer = LinesWriter(target, threading.Event(), failures_max=FAILURES_MAX)
        self._maker = PointMaker()
        self._pace = _Pace(points_per_s)

    def run(self, source: Source, stretch: Stretch, progress: Callable[[int], object]) -> Rebuilt:
        """Write one measurement's points; ``progress`` is told of rows read. Raises Unwritten and psycopg.Error."""
        rows, written, refused = 0, self._writer.written, self._writer.refused
        for batch in self._batches(source, stretch):
            lines = [line for row in batch for line in self._maker.lines_of(source.kind, row)]
            for start in range(0, len(lines), LINES_MAX):
                part = lines[start : start + LINES_MAX]
                self._pace.wait_for(len(part))
                self._writer.write(part)
            rows += len(batch)
            progress(len(batch))
        measurement = MEASUREMENTS[source.kind]
        return Rebuilt(measurement, rows, self._writer.written - written, self._writer.refused - refused)

    def _batches(self, source: Source, stretch: Stretch) -> Iterator[list[SimpleNamespace]]:
        """Yield rows a day at a time: one transaction over years would keep Postgres from cleaning up."""
        span = _one(self._connection, source.span(), (stretch.from_ns, stretch.to_ns))
        start_ns, last_ns = span["first"], span["last"]
        while start_ns is not None and start_ns <= last_ns:
            end_ns = min((start_ns // NS_PER_DAY + 1) * NS_PER_DAY, last_ns + 1)
            with (
                self._connection.transaction(),
                self._connection.cursor("rebuild", row_factory=dict_row) as cursor,
            ):
                cursor.execute(source.select().encode(), (start_ns, end_ns))
                while found := cursor.fetchmany(_ROWS):
                    yield [_as_event(row) for row in found]
            start_ns = end_ns


class _Pace:
    """Lets through so many a second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._free_at_s = time.monotonic()

    def wait_for(self, count: int) -> None:
        now_s = time.monotonic()
        time.sleep(max(0.0, self._free_at_s - now_s))
        self._free_at_s = max(self._free_at_s, now_s) + count / self._per_s


def _source(kind: type[Event]) -> Source:
    projection = next(one for one in PROJECTIONS[kind] if not one.newest_of and not one.lateral)
    columns = ", ".join(_column(projection, name) for name in attributes_of(kind))
    apart = [f"{name} = {projection.expressions[name]}" for name in _CONSTANTS if _is_constant(projection, name)]
    where = " AND ".join(["available_at_ns >= %s", "available_at_ns < %s", *apart])
    return Source(kind, projection.table, columns, where)


def _is_constant(projection: Projection, name: str) -> bool:
    return projection.expressions.get(name, "").startswith("'")


def _column(projection: Projection, attribute: str) -> str:
    """Return the SQL of an attribute of the event; a price or quantity as the integer that it was."""
    renamed = {expression: column for column, expression in projection.expressions.items()}
    column = renamed.get(f"r.{attribute}", attribute)
    assert column in projection.columns.split(), f"{projection.table} does not keep {attribute}"
    return f"({column} * 100000000)::bigint AS {attribute}" if column in UNIT_FIELDS else f"{column} AS {attribute}"


def _as_event(row: Mapping[str, Any]) -> SimpleNamespace:
    event = SimpleNamespace(**row)
    if "entries" in row:
        absent = dict.fromkeys(ENTRY_FIELDS)
        event.entries = [SimpleNamespace(**(absent | entry)) for entry in row["entries"]]
    return event


def _one(connection: Connection, query: str, parameters: Sequence[int]) -> Mapping[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(query.encode(), parameters).fetchone()
    assert found is not None
    return found
