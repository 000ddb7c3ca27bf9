"""What every event carries: who caused it, when it happened, when we had it, and where in its source it stands.

A stage builds an event without identity; whoever called ``step`` stamps it. The identity is a pure function of
the cause, so the same input gives the same ids in a worker, in a replay and in a backtest (DESIGN 2).
"""

import hashlib
from typing import Final

import msgspec
from msgspec.structs import force_setattr

ORDINALS_PER_OFFSET: Final = 65_536
"""A one-topic stage numbers its outputs ``input offset x ORDINALS_PER_OFFSET + ordinal``."""

WALL_CLOCK: Final = "wall"
"""The ``clock`` of a Heartbeat that tells real time, not a capture's."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of everything that travels on a topic of ours.

    ``key`` is the record key (UTF-8) and decides the partition. Times are nanoseconds since the Unix epoch:
    ``event_time_ns`` by the venue's clock (or, without one, ours), ``available_at_ns`` when we had it.
    ``(source, generation, seq)`` lets a reader drop what it has already seen; a record from outside has none.
    """

    key: str
    event_time_ns: int
    available_at_ns: int
    event_id: str = ""
    cause_id: str = ""
    source: str = ""
    generation: int = 0
    seq: int = 0


class Heartbeat(Event, frozen=True, kw_only=True, gc=False):
    """Time itself: ``available_at_ns`` is *now* for whoever reads it. ``clock`` names whose clock it is."""

    clock: str = WALL_CLOCK


def derive_id(cause_id: str, stage: str, ordinal: int) -> str:
    """Return the 32 hex digits that name the ``ordinal``-th output of ``stage`` for the event ``cause_id``."""
    return hashlib.blake2b(f"{cause_id}|{stage}|{ordinal}".encode(), digest_size=16).hexdigest()


def stamp_identity(event: Event, cause_id: str, stage: str, ordinal: int) -> None:
    """Give a newly built event its identity; the last step of its construction, done once, by its only owner."""
    force_setattr(event, "cause_id", cause_id)
    force_setattr(event, "event_id", derive_id(cause_id, stage, ordinal))


def stamp_identity_as(event: Event, cause_id: str, event_id: str) -> None:
    """Give a newly built event an identity that its builder has derived."""
    force_setattr(event, "cause_id", cause_id)
    force_setattr(event, "event_id", event_id)


def stamp_position(event: Event, source: str, generation: int, seq: int) -> None:
    """Give an event its place in its source, just before it is encoded."""
    force_setattr(event, "source", source)
    force_setattr(event, "generation", generation)
    force_setattr(event, "seq", seq)
