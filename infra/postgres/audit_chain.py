"""The writer of the audit: chains what is not chained yet, in the transaction that writes the record itself.

A stream's head is locked while rows are added to it, so that any number of sinks write one chain; what is chained
already is recognised by its id, after the lock is held, so that a batch which comes again adds nothing. Heads are
locked last in a transaction and in the order of their names, so that no two writers wait for each other.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import psycopg
from psycopg import AsyncCursor

from infra.audit_keys import AuditKeys, load_keys
from infra.postgres.audit_anchors import AnchorFile
from infra.postgres.audit_record import (
    COMMANDS,
    START,
    STREAM_OF,
    STREAMS,
    AuditRow,
    Entry,
    Head,
    entry_of,
    is_sealed,
    sealed_head,
    signed_row,
)
from infra.postgres.audit_tables import PeoplesTables
from infra.settings_audit import AuditSettings
from infra.settings_sources import SettingsError
from schemas.event import Event

_SWEEP_S: Final = 1.0
_LOCK_HEAD: Final = "SELECT ordinal, mac, key_id, seal FROM audit_heads WHERE stream = %s FOR UPDATE"
_MAKE_HEAD: Final = """
    INSERT INTO audit_heads (stream, ordinal, mac, key_id, seal)
    SELECT %s, %s, %s, %s, %s WHERE NOT EXISTS (SELECT FROM audit_rows WHERE stream = %s)
    ON CONFLICT (stream) DO NOTHING
"""
_KNOWN: Final = "SELECT event_id, kind FROM audit_rows WHERE stream = %s AND event_id = ANY(%s)"
_ADD: Final = """
    WITH added AS (
        INSERT INTO audit_rows (stream, ordinal, event_id, kind, content, created_at_ns, key_id, previous, mac)
        SELECT %s, item.* FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::text[],
            %s::bytea[], %s::bytea[]) AS item)
    UPDATE audit_heads SET ordinal = %s, mac = %s, key_id = %s, seal = %s, updated_at = clock_timestamp()
    WHERE stream = %s
"""


class AuditBroken(Exception):
    """The chain that is there is not the one that was written; nothing is added to it: one sentence."""


class AuditChain:
    """The chains of all streams, for one sink. ``anchors`` None: none are written.

    ``rows_added`` counts what was committed; ``broken``: the chain that is there was found not to be ours.
    """

    def __init__(self, keys: AuditKeys, anchors: AnchorFile | None = None, people: PeoplesTables | None = None) -> None:
        self._keys = keys
        self._anchors = anchors
        self._people = PeoplesTables() if people is None else people
        self._heads: dict[str, Head] = {}
        self._pending: dict[str, Head] = {}
        self._swept_s = -_SWEEP_S
        self._sweeping = False
        self._added = 0
        self.rows_added = 0
        self.broken = False

    async def append(self, cursor: AsyncCursor[Any], events: Iterable[Event]) -> int:
        """Chain what of a batch belongs to the audit, and what people did since; return how many rows were added.

        To be called as the last thing of a transaction, whose success ``committed`` is then told of. Raises
        AuditBroken and psycopg.OperationalError.
        """
        self._pending = {}
        by_stream: dict[str, list[Entry]] = {}
        for event in events:
            stream = STREAM_OF.get(type(event))
            if stream is not None:
                by_stream.setdefault(stream, []).append(entry_of(event))
        self._sweeping = time.monotonic() - self._swept_s >= _SWEEP_S
        if self._sweeping:
            by_stream.setdefault(COMMANDS, []).extend(await self._people.new_entries(cursor))
        added = self._added = 0
        try:
            for stream in STREAMS:
                if entries := by_stream.get(stream):
                    added += await self._extend(cursor, stream, entries)
        except AuditBroken:
            self.broken = True
            raise
        self._added = added
        return added

    def committed(self) -> None:
        """Take note that the last ``append`` is committed, and anchor what is due. Raises OSError."""
        if self._sweeping:
            self._people.committed()
            self._swept_s, self._sweeping = time.monotonic(), False
        self.rows_added += self._added
        self._added = 0
        self._heads |= self._pending
        self._pending = {}
        if self._anchors is not None:
            self._anchors.write(self._anchors.due(self._heads.values()))

    def close(self) -> None:
        """Anchor the newest heads, whatever is due. Raises OSError."""
        if self._anchors is not None:
            self._anchors.write(self._anchors.newer(self._heads.values()))

    async def _extend(self, cursor: AsyncCursor[Any], stream: str, entries: Sequence[Entry]) -> int:
        head = await self._locked_head(cursor, stream)
        await cursor.execute(_KNOWN, (stream, [entry.event_id for entry in entries]))
        known = {(str(event_id), str(kind)) for event_id, kind in await cursor.fetchall()}
        rows: list[AuditRow] = []
        for entry in entries:
            # Of two with one id in a batch the first is chained.
            if entry.identity not in known:
                known.add(entry.identity)
                rows.append(signed_row(self._keys, head, entry, time.time_ns()))
                head = Head(stream, rows[-1].ordinal, rows[-1].mac, rows[-1].key_id, b"")
        if rows:
            head = sealed_head(self._keys, stream, head.ordinal, head.mac)
            await self._add(cursor, head, rows)
        self._pending[stream] = head
        return len(rows)

    async def _locked_head(self, cursor: AsyncCursor[Any], stream: str) -> Head:
        for _ in range(2):
            await cursor.execute(_LOCK_HEAD, (stream,))
            found = await cursor.fetchone()
            if found is not None:
                head = Head(stream, int(found[0]), bytes(found[1]), str(found[2]), bytes(found[3]))
                if not is_sealed(self._keys, head):
                    raise AuditBroken(_broken(stream, "its newest row is not the one that was written last"))
                return head
            first = sealed_head(self._keys, stream, 0, START)
            await cursor.execute(_MAKE_HEAD, (stream, 0, first.mac, first.key_id, first.seal, stream))
        raise AuditBroken(_broken(stream, "it has rows, but what says which of them is the newest is gone"))

    async def _add(self, cursor: AsyncCursor[Any], head: Head, rows: Sequence[AuditRow]) -> None:
        names = ("ordinal", "event_id", "kind", "content", "created_at_ns", "key_id", "previous", "mac")
        columns = [[getattr(row, name) for row in rows] for name in names]
        values = (head.stream, *columns, head.ordinal, head.mac, head.key_id, head.seal, head.stream)
        try:
            await cursor.execute(_ADD, values, binary=True)
        except psycopg.IntegrityError as error:
            # Nobody else adds rows while the head is locked: something is there that was never chained.
            raise AuditBroken(_broken(head.stream, "it has rows after the one that was written last")) from error


def audit_chain(settings: AuditSettings) -> AuditChain:
    """Return the audit of a run. Raises SettingsError when there is no key, or a file is not as it must be."""
    if settings.key_file is None:
        raise SettingsError(
            "audit.key_file is missing: sinks sign the audit; `tradermind audit new-key FILE` makes a key, and a demo"
            " makes one by itself."
        )
    anchors = None
    if settings.anchor_file is not None:
        anchors = AnchorFile(
            settings.anchor_file,
            rows=settings.anchor_rows,
            interval_s=settings.anchor_interval_s,
            logged=settings.anchor_log,
        )
        anchors.check()
    return AuditChain(load_keys(settings.key_file), anchors)


def _broken(stream: str, what: str) -> str:
    return (
        f"The audit's stream {stream} was changed by somebody else: {what}. Run `tradermind audit verify`; nothing is"
        " added to it until `tradermind audit reseal` was called with a reason."
    )
