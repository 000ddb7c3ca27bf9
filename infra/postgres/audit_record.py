"""What a row of the audit is, and what its mac covers: the part that writer and verifier share, without any I/O.

A row's mac is HMAC-SHA256 over every column of the row and the mac of the row before it, each with its length, so that
no two rows have the same bytes. The head of a stream is its newest row's ordinal and mac under a seal of its own; an
anchor is that head, written outside the database.
"""

import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from infra.audit_keys import MAC_BYTES, AuditKeys
from schemas.changes import ControlOutcome
from schemas.control import ControlCommand
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event
from schemas.feedback import ModelRelease
from schemas.orders import Fill, OrderEvent

ORDERS: Final = "orders"
DECISIONS: Final = "decisions"
COMMANDS: Final = "commands"
STREAMS: Final = (COMMANDS, DECISIONS, ORDERS)
"""Every stream, in the order in which they are locked."""
STREAM_OF: Final[dict[type[Event], str]] = {
    OrderApproved: ORDERS,
    OrderDenied: ORDERS,
    OrderEvent: ORDERS,
    Fill: ORDERS,
    Decision: DECISIONS,
    ControlCommand: COMMANDS,
    ControlOutcome: COMMANDS,
    ModelRelease: COMMANDS,
}
"""Which events are chained, and where. What people do in tables of its own comes to COMMANDS, see ``audit_tables``."""
START: Final = bytes(MAC_BYTES)
"""What stands in the first row for the mac of the row before."""
_ROW: Final = b"tradermind audit row 1"
_HEAD: Final = b"tradermind audit head 1"
_NUMBER: Final = struct.Struct(">q")
_canonical: Final = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to be chained: its id (unique among those of its type in its stream), its type, its canonical bytes."""

    event_id: str
    kind: str
    content: bytes

    @property
    def identity(self) -> tuple[str, str]:
        """What it is recognised by when it comes again."""
        return self.event_id, self.kind


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the chain. ``ordinal`` counts from 1 without a gap; times are ns since 1970, by the sink's clock."""

    stream: str
    ordinal: int
    event_id: str
    kind: str
    content: bytes
    created_at_ns: int
    key_id: str
    previous: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row of a stream, sealed; ``ordinal`` is 0 before the first row."""

    stream: str
    ordinal: int
    mac: bytes
    key_id: str
    seal: bytes


def entry_of(event: Event) -> Entry:
    """Return an event as it is chained: JSON with its fields in their order and its mappings sorted."""
    # Postgres text cannot hold a NUL; the content has the id as it is.
    return Entry(event.event_id.replace("\0", "\ufffd"), type(event).__name__, _canonical.encode(event))


def row_message(row: AuditRow) -> bytes:
    """Return the bytes that a row's mac is made of."""
    return _framed(
        *(_ROW, row.stream.encode(), _NUMBER.pack(row.ordinal), row.kind.encode(), row.event_id.encode()),
        *(row.content, _NUMBER.pack(row.created_at_ns), row.key_id.encode(), row.previous),
    )


def head_message(stream: str, ordinal: int, mac: bytes) -> bytes:
    """Return the bytes that a head's seal is made of."""
    return _framed(_HEAD, stream.encode(), _NUMBER.pack(ordinal), mac)


def signed_row(keys: AuditKeys, after: Head, entry: Entry, created_at_ns: int) -> AuditRow:
    """Return the row that follows a head."""
    facts = (after.stream, after.ordinal + 1, entry.event_id, entry.kind, entry.content, created_at_ns, keys.signing)
    unsigned = AuditRow(*facts, previous=after.mac, mac=b"")
    return AuditRow(*facts, previous=after.mac, mac=keys.sign(row_message(unsigned)))


def sealed_head(keys: AuditKeys, stream: str, ordinal: int = 0, mac: bytes = START) -> Head:
    """Return a head with its seal under the signing key."""
    return Head(stream, ordinal, mac, keys.signing, keys.sign(head_message(stream, ordinal, mac)))


def is_sealed(keys: AuditKeys, head: Head) -> bool:
    """Tell whether a head's seal is one of our keys'."""
    return keys.verifies(head.key_id, head_message(head.stream, head.ordinal, head.mac), head.seal)


def is_signed(keys: AuditKeys, row: AuditRow) -> bool:
    """Tell whether a row's mac is one of our keys', over the row as it stands."""
    return keys.verifies(row.key_id, row_message(row), row.mac)


def _framed(*parts: bytes) -> bytes:
    return b"".join([piece for part in parts for piece in (_NUMBER.pack(len(part)), part)])
