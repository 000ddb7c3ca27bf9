"""Reads a stream of the audit from its first row to its head, and says whether it is what was written.

The database is not believed: every row must carry a mac of our keys over itself and over the mac of the row before.
The newest row must be the one that the sealed head names, and at every anchor the row that was anchored.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

from infra.audit_keys import AuditKeys
from infra.postgres.audit_anchors import Anchor
from infra.postgres.audit_diagnosis import Tampering, why_not_signed
from infra.postgres.audit_record import START, AuditRow, Head, is_sealed, is_signed
from infra.postgres.queries import Connection

_COLUMNS: Final = "stream, ordinal, event_id, kind, content, created_at_ns, key_id, previous, mac"
_ROWS: Final = f"SELECT {_COLUMNS} FROM audit_rows WHERE stream = %s AND ordinal BETWEEN %s AND %s ORDER BY ordinal"  # noqa: S608
_MOST: Final = 2**63 - 1
_FETCH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Finding:
    """The first row at which a stream is not what was written. ``event_id`` is what stands there now, if anything."""

    stream: str
    kind: Tampering
    ordinal: int
    event_id: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What was found of one stream: how many rows were read, to where, how many anchors they met, and what is wrong."""

    stream: str
    rows: int
    newest: int
    mac: str
    anchors: int
    seconds: float
    finding: Finding | None


class Verifier:
    """Verifies streams over one connection; anchors must have been read before, or a newer one seems to lie ahead."""

    def __init__(self, connection: Connection, keys: AuditKeys, anchors: Sequence[Anchor] = ()) -> None:
        self._connection = connection
        self._keys = keys
        self._anchors = anchors

    def verify(self, stream: str, first: int = 1) -> StreamReport:
        """Return what is to be said of a stream, as it stands in one snapshot of the database.

        From row ``first`` on: what is before it is not looked at, but for the mac of the row just before.
        """
        began_s = time.monotonic()
        of_stream = [anchor for anchor in self._anchors if anchor.head.stream == stream]
        anchors = {anchor.head.ordinal: anchor for anchor in of_stream if anchor.head.ordinal >= first - 1}
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            walk = _Walk(self, stream, anchors, self._head(stream))
            finding = walk.finding(first)
        return StreamReport(
            *(stream, walk.rows, walk.last, walk.mac.hex(), walk.met), round(time.monotonic() - began_s, 3), finding
        )

    def is_signed(self, row: AuditRow) -> bool:
        """Tell whether a row is as one of our keys has signed it."""
        return is_signed(self._keys, row)

    @property
    def keys(self) -> AuditKeys:
        """The keys that rows are held against."""
        return self._keys

    def rows(self, stream: str, first: int = -_MOST, last: int = _MOST) -> Iterator[AuditRow]:
        """Yield rows by their ordinal, a chunk at a time; to be called in a transaction."""
        name = f"audit_{first}_{time.monotonic_ns()}".replace("-", "_")
        with self._connection.cursor(name=name, row_factory=tuple_row) as cursor:
            cursor.itersize = _FETCH
            cursor.execute(_ROWS, (stream, first, last), binary=True)
            for row in cursor:
                yield _row(row)

    def newest(self, stream: str) -> int:
        """Return the highest ordinal of a stream, 0 without a row."""
        return newest_ordinal(self._connection, stream)

    def _head(self, stream: str) -> Head | None:
        cursor = self._connection.cursor(row_factory=tuple_row)
        row = cursor.execute("SELECT ordinal, mac, key_id, seal FROM audit_heads WHERE stream = %s", (stream,))
        found = row.fetchone()
        return None if found is None else Head(stream, int(found[0]), bytes(found[1]), str(found[2]), bytes(found[3]))


class _Walk:
    """One pass over one stream."""

    def __init__(self, verifier: Verifier, stream: str, anchors: Mapping[int, Anchor], head: Head | None) -> None:
        self._verifier = verifier
        self._stream = stream
        self._anchors = anchors
        self._head = head
        self.rows = 0
        self.last = 0
        self.mac = START
        self.met = 0

    def finding(self, first: int) -> Finding | None:
        """Return the first thing that is wrong, or None."""
        for before in self._verifier.rows(self._stream, first - 1, first - 1):
            self.mac = before.mac
            if (wrong := self._unanchored(before)) is not None:
                return wrong
        self.last = first - 1
        for row in self._verifier.rows(self._stream, first if first > 1 else -_MOST):
            self.rows += 1
            if (wrong := self._wrong(row)) is not None:
                return wrong
            self.last, self.mac = row.ordinal, row.mac
        return self._wrong_end()

    def _wrong(self, row: AuditRow) -> Finding | None:
        expected = self.last + 1
        if row.ordinal > expected:
            sentence = f"row {expected} is missing, the next is {row.ordinal}"
            return Finding(self._stream, Tampering.DELETED, expected, None, sentence)
        if row.ordinal < expected:
            return self._found(
                Tampering.INSERTED, row, f"there is no place for a row {row.ordinal}, or it is there twice"
            )
        if not self._verifier.is_signed(row):
            kind, sentence = why_not_signed(self._verifier, row, self._head)
            return self._found(kind, row, sentence)
        if row.previous != self.mac:
            return self._found(
                Tampering.RECHAINED, row, f"row {row.ordinal} follows another row than the one before it"
            )
        return self._unanchored(row)

    def _unanchored(self, row: AuditRow) -> Finding | None:
        anchor = self._anchors.get(row.ordinal)
        if anchor is None:
            return None
        self.met += 1
        if anchor.head.mac == row.mac:
            return None
        sentence = f"row {row.ordinal} is not the one that was anchored (line {anchor.line})"
        return self._found(Tampering.RECHAINED, row, sentence)

    def _wrong_end(self) -> Finding | None:
        beyond = max(self._anchors, default=0)
        if beyond > self.last:
            line = self._anchors[beyond].line
            return self._cut(f"the stream ends at {self.last}, and row {beyond} was anchored (line {line})")
        head = self._head
        if head is None:
            return None if not self.rows else self._cut(f"the stream ends at {self.last}, and its sealed head is gone")
        if not is_sealed(self._verifier.keys, head):
            return self._cut(f"the stream ends at {self.last}, and the head that says so has no seal of ours")
        if head.ordinal > self.last:
            return self._cut(f"the stream ends at {self.last}, and its sealed head is row {head.ordinal}")
        if (head.ordinal, head.mac) != (self.last, self.mac):
            return self._cut(f"the stream ends at {self.last}, and its sealed head is another row {head.ordinal}")
        return None

    def _cut(self, sentence: str) -> Finding:
        return Finding(self._stream, Tampering.TRUNCATED, self.last + 1, None, sentence)

    def _found(self, kind: Tampering, row: AuditRow, sentence: str) -> Finding:
        return Finding(self._stream, kind, row.ordinal, row.event_id, sentence)


def newest_ordinal(connection: psycopg.Connection[Any], stream: str) -> int:
    """Return the highest ordinal of a stream, 0 without a row."""
    cursor = connection.cursor(row_factory=tuple_row)
    found = cursor.execute("SELECT coalesce(max(ordinal), 0) FROM audit_rows WHERE stream = %s", (stream,)).fetchone()
    assert found is not None
    return int(found[0])


def read_rows(connection: Connection, stream: str, first: int, last: int) -> list[AuditRow]:
    """Return rows of a stream, both ends included."""
    cursor = connection.cursor(row_factory=tuple_row)
    return [_row(row) for row in cursor.execute(_ROWS, (stream, first, last), binary=True).fetchall()]


def _row(row: tuple[Any, ...]) -> AuditRow:
    stream, ordinal, event_id, kind, content, created_at_ns, key_id, previous, mac = row
    return AuditRow(
        *(str(stream), int(ordinal), str(event_id), str(kind), bytes(content)),
        *(int(created_at_ns), str(key_id), bytes(previous), bytes(mac)),
    )
