"""Which event goes to which table, as SQL over the events' own JSON.

A batch is encoded once, by msgspec, and taken apart by Postgres (``json_to_recordset``), so no Python runs per row.
The source columns follow from the event type's fields; an expression is written only where a column is not simply
the field of its name.
"""

import enum
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec

from infra.unit_fields import UNIT_FIELDS
from schemas.event import Event

_SQL_TYPES: Final[dict[Any, str]] = {
    int: "bigint",
    float: "double precision",
    str: "text",
    bool: "boolean",
    Decimal: "numeric",
}
NEWEST: Final = "(t.generation, t.seq) <= (excluded.generation, excluded.seq)"
"""The guard of a table that keeps the newest event of a key: an older one changes nothing."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One event type into one table.

    ``columns`` are the table's columns that are filled; a column that is not a field of the event has its SQL in
    ``expressions``, where ``r`` is the event's row. With ``newest_of`` the table keeps one row per those columns.
    ``lateral`` adds a FROM item, for the lines inside an event.
    """

    record: type[Event]
    table: str
    columns: str
    expressions: Mapping[str, str] = field(default_factory=dict)
    newest_of: str = ""
    guard: str = NEWEST
    lateral: str = ""
    conflict: str = "event_id"

    def statement(self) -> str:
        """Return the INSERT that takes a JSON array of events as its one parameter."""
        columns = self.columns.split()
        rows = f"ROWS FROM (json_to_recordset(%s) AS ({recordset(self.record)}))"
        values = ", ".join(self._value(column) for column in columns)
        source = f"{rows} WITH ORDINALITY AS r({', '.join(self.record.__struct_fields__)}, ordinal) {self.lateral}"
        distinct, order = "", ""
        if self.newest_of:
            keys = ", ".join(self._value(column) for column in self.newest_of.split())
            distinct = f"DISTINCT ON ({keys}) "
            order = f" ORDER BY {keys}, r.generation DESC, r.seq DESC, r.ordinal DESC"
        insert = f"INSERT INTO {self.table} AS t ({', '.join(columns)})"
        return " ".join((insert, f"SELECT {distinct}{values}", f"FROM {source}{order}", self._on_conflict(columns)))

    def _on_conflict(self, columns: list[str]) -> str:
        if not self.newest_of:
            return f"ON CONFLICT ({self.conflict}) DO NOTHING"
        keys = self.newest_of.split()
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in keys)
        return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes} WHERE {self.guard}"

    def _value(self, column: str) -> str:
        if column in self.expressions:
            return self.expressions[column]
        assert column in self.record.__struct_fields__, f"{self.table}.{column} is no field of {self.record.__name__}"
        return f"r.{column} * 1e-8" if column in UNIT_FIELDS else f"r.{column}"


def recordset(record: type[msgspec.Struct]) -> str:
    """Return the column definitions under which Postgres reads the JSON of an event type."""
    hints = typing.get_type_hints(record)
    return ", ".join(f"{name} {_sql_type(hints[name])}" for name in record.__struct_fields__)


def _sql_type(hint: Any) -> str:
    if typing.get_origin(hint) is types.UnionType:
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if hint in _SQL_TYPES:
        return _SQL_TYPES[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "text"
    if typing.get_origin(hint) is tuple:
        item = _sql_type(typing.get_args(hint)[0])
        return "jsonb" if item == "jsonb" else f"{item}[]"
    return "jsonb"


def by_record(projections: Iterable[Projection]) -> dict[type[Event], tuple[Projection, ...]]:
    """Return event type -> its projections, in the order given."""
    grouped: dict[type[Event], list[Projection]] = {}
    for projection in projections:
        grouped.setdefault(projection.record, []).append(projection)
    return {record: tuple(listed) for record, listed in grouped.items()}
