"""What people do that no event tells of: tables that commands write, whose rows the sinks chain soon after.

Each of these tables is append-only by itself, or has steps of which each is one entry. Whoever writes them has no key;
so a row is safe from the moment at which a sink has chained it, a second later while the platform runs.
"""

from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncCursor

from infra.postgres.audit_record import COMMANDS, Entry

_ROWS: Final = """
    SELECT source.ordinal, found.event_id, convert_to(to_jsonb(source)::text, 'UTF8')
    FROM {table} AS source, LATERAL (SELECT '{table}/' || {identity} AS event_id) AS found
    WHERE source.ordinal > %s
        AND NOT EXISTS (SELECT FROM audit_rows AS kept WHERE kept.stream = %s AND kept.event_id = found.event_id)
    ORDER BY source.ordinal LIMIT 1000
"""


@dataclass(frozen=True, slots=True)
class AuditedTable:
    """A table whose rows are chained. ``identity`` is SQL that names one entry; ``grows``: a row never changes."""

    table: str
    identity: str = "source.ordinal::text"
    grows: bool = True

    def query(self) -> bytes:
        """Return the SELECT of rows that are not chained yet, above an ordinal."""
        return _ROWS.format(table=self.table, identity=self.identity).encode()


AUDITED_TABLES: Final = (
    AuditedTable("commands"),
    AuditedTable("change_proposals"),
    AuditedTable("change_approvals"),
    AuditedTable("model_refusals"),
    AuditedTable("dead_letter_actions"),
    AuditedTable("topic_rescales", "source.ordinal || '/' || source.step", grows=False),
    AuditedTable("restores", "source.ordinal || '/' || source.step", grows=False),
)


class PeoplesTables:
    """Finds what is not chained yet. It remembers how far tables that only grow were found chained."""

    def __init__(self, tables: tuple[AuditedTable, ...] = AUDITED_TABLES) -> None:
        self._tables = tables
        self._through: dict[str, int] = {}
        self._found: dict[str, int] = {}

    async def new_entries(self, cursor: AsyncCursor[Any]) -> list[Entry]:
        """Return what is to be chained, in the order in which it was done in each table."""
        self._found = {}
        entries: list[Entry] = []
        for table in self._tables:
            await cursor.execute(table.query(), (self._through.get(table.table, 0), COMMANDS))
            for ordinal, event_id, content in await cursor.fetchall():
                entries.append(Entry(str(event_id), table.table, bytes(content)))
                if table.grows:
                    self._found[table.table] = int(ordinal)
        return entries

    def committed(self) -> None:
        """Remember what was found last: it is chained now."""
        self._through |= self._found
        self._found = {}
