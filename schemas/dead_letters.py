"""Why a record is refused, and what people may order about it.

The list of reasons is closed; the reason travels in a header of the dead letter. What a person orders reaches a stage's
shard as an input that is journaled, so that a recomputation does the same at the same place.
"""

import enum
from typing import Final

import msgspec

from schemas.event import Event


class DeadLetterReason(enum.StrEnum):
    """Reason of a dead letter."""

    MALFORMED = "MALFORMED"
    SCHEMA_UNKNOWN = "SCHEMA_UNKNOWN"
    SCHEMA_REFUSED = "SCHEMA_REFUSED"
    INVALID_VALUE = "INVALID_VALUE"
    NOT_FINITE = "NOT_FINITE"
    TOO_LARGE = "TOO_LARGE"
    FUTURE_TIME = "FUTURE_TIME"
    WRONG_PARTITION = "WRONG_PARTITION"
    NAME_CLAIMED = "NAME_CLAIMED"
    TYPE_UNEXPECTED = "TYPE_UNEXPECTED"
    INSTRUMENT_REFUSED = "INSTRUMENT_REFUSED"
    TAKEN = "TAKEN"
    QUARANTINED = "QUARANTINED"


OF_THE_REGISTRY: Final = frozenset({DeadLetterReason.SCHEMA_UNKNOWN, DeadLetterReason.SCHEMA_REFUSED})
"""Reasons that the same bytes may not give tomorrow: somebody registers the schema in between."""


class BadRecord(Exception):
    """A record that cannot be used, with the closed reason and one sentence."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class UnknownRecordType(Exception):
    """A record type that this reader does not know: skipped and counted, except on money topics."""


class LetterAction(enum.StrEnum):
    """What a person did about dead letters, as the audit has it.

    REPLAY is written before the record is sent again, REPLAYED when the broker has it. TAKE makes a record that a
    stage has not passed yet a dead letter; RELEASE ends a key's quarantine and leaves behind what was held; STEP_HELD
    gives what was held to the stage, in order, and ends the quarantine then. What became of these the platform adds:
    RELEASED says how many of what was held were stepped, PASSED that the sinks have passed over a record.
    """

    REPLAY = "REPLAY"
    REPLAYED = "REPLAYED"
    DISCARD = "DISCARD"
    TAKE = "TAKE"
    RELEASE = "RELEASE"
    STEP_HELD = "STEP_HELD"
    RELEASED = "RELEASED"
    PASSED = "PASSED"


class LetterOrder(msgspec.Struct, frozen=True):
    """One TAKE, RELEASE or STEP_HELD of one stage. ``first`` and ``last`` are offsets, both included."""

    ordinal: int
    action: LetterAction
    topic: str = ""
    partition: int = 0
    first: int = 0
    last: int = 0
    key: str = ""


class LettersOrdered(Event, frozen=True, kw_only=True, gc=False):
    """TAKE and RELEASE orders on their way into a shard; journaled there, never encoded for a topic."""

    orders: tuple[LetterOrder, ...]


class HeldRecord(msgspec.Struct, frozen=True):
    """A record that was held back, with the bytes, key and headers that it had."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class HeldAgain(Event, frozen=True, kw_only=True, gc=False):
    """Held records of the quarantined ``key``, in order, on their way into the shard that held them.

    ``since`` is the place that began the quarantine; the first of ``records`` is the ``first``-th that it has held,
    counted from 1. An order for a key that is not held is carried out by nothing.
    """

    ordinal: int
    since: str
    first: int
    records: tuple[HeldRecord, ...]
