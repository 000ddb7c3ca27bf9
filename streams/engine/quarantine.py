"""Quarantine of a key on money topics: what was ordered after a record that could not be used must not overtake it.

A shard that makes a dead letter of a record on a money topic holds back every later record of that key, on each of
its money topics, until a person says otherwise. It is part of the shard's progress, so it is checkpointed with it and
comes out the same in a recomputation. Here, too, is what people have ordered taken. No I/O and no clock.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

import msgspec

from schemas.dead_letters import BadRecord, DeadLetterReason, LetterAction, LetterOrder
from schemas.topics import CONTROL, Topic
from streams.engine.ports import RawRecord, WorkerFailed

KEYS_MAX: Final = 1000
_ENDED_MAX: Final = 1000
_KEY_BYTES_MAX: Final = 256


class Held(msgspec.Struct):
    """One key's quarantine: the place that began it, how many records were held since, how many of them stepped."""

    since: str
    held: int = 0
    stepped: int = 0


Refused = tuple[int, int, str]


class LetterProgress(msgspec.Struct):
    """What a shard holds back, what it passes over, and which orders of people it has carried out.

    ``taken`` has per lane (``topic/partition``) ranges of offsets, both ends included. ``orders`` and
    ``stepped_orders`` are the newest TAKE or RELEASE, and the newest STEP_HELD, that was carried out. ``ended`` has of
    the quarantines that are over, newest last, by the place that began them: the key, and how many were stepped.
    ``unread`` has per lane (first offset, last offset, reason) of what could not be read for want of its schema and is
    in no journal row yet: whoever steps it again must refuse it again, though the schema may be there by then.
    """

    held: dict[str, Held] = {}
    taken: dict[str, list[tuple[int, int]]] = {}
    orders: int = 0
    stepped_orders: int = 0
    ended: dict[str, tuple[str, int]] = {}
    unread: dict[str, list[Refused]] = {}

    def refuse_taken(self, lane: str, offset: int) -> None:
        """Raise BadRecord for a record that a person has ordered passed over."""
        if any(first <= offset <= last for first, last in self.taken.get(lane, ())):
            raise BadRecord(DeadLetterReason.TAKEN, "a person has ordered that it be passed over")

    def refuse_known(self, lane: str, offset: int) -> None:
        """Raise BadRecord for a record that is passed over whatever it says."""
        self.refuse_taken(lane, offset)
        self.refuse_unread(lane, offset)

    def refuse_unread(self, lane: str, offset: int) -> None:
        """Raise BadRecord for a record whose schema was not there when it was stepped first."""
        ranges = self.unread.get(lane, [])
        place = bisect_right(ranges, offset, key=itemgetter(0)) - 1
        if place >= 0 and offset <= ranges[place][1]:
            raise BadRecord(DeadLetterReason(ranges[place][2]), "its schema was not there when it was stepped first")

    def note_unread(self, lane: str, offset: int, reason: DeadLetterReason) -> None:
        """Take note of such a record, once."""
        ranges = self.unread.setdefault(lane, [])
        place = bisect_right(ranges, offset, key=itemgetter(0))
        first, last, why = ranges[place - 1] if place else (offset, -2, "")
        if offset <= last:
            return
        if offset == last + 1 and why == reason:
            ranges[place - 1] = (first, offset, why)
        else:
            ranges.insert(place, (offset, offset, reason.value))

    def noted(self) -> dict[str, list[Refused]]:
        """Return ``unread`` as it stands, for whoever keeps it."""
        return {lane: list(ranges) for lane, ranges in self.unread.items()}

    def give_unread(self, next_offsets: Mapping[str, int]) -> dict[str, list[Refused]]:
        """Return what was passed of it, for the journal, and keep what is still to be stepped again."""
        if not self.unread:
            return {}
        given = {
            lane: [one for one in kept if one[1] < next_offsets.get(lane, 0)] for lane, kept in self.unread.items()
        }
        left = {lane: kept[len(given[lane]) :] for lane, kept in self.unread.items()}
        self.unread = {lane: kept for lane, kept in left.items() if kept}
        return {lane: kept for lane, kept in given.items() if kept}

    def expect_unread(self, lane: str, refused: Sequence[Refused]) -> None:
        """Let a recomputation refuse what was refused."""
        self.unread[lane] = sorted({*self.unread.get(lane, ()), *refused})

    def refuse_held(self, key: str) -> None:
        """Count a record and raise BadRecord when its key is held back."""
        held = self.held.get(key)
        if held is not None:
            held.held += 1
            raise BadRecord(DeadLetterReason.QUARANTINED, f"{key[:80]!r} waits behind {held.since}")

    def begin(self, key: str | None, record: RawRecord, refusal: BadRecord) -> None:
        """Hold back what comes under a record's key after it was refused; what a person took holds back nothing.

        Raises WorkerFailed when too many keys are held.
        """
        if key is None or key in self.held or refusal.reason is DeadLetterReason.TAKEN:
            return
        if len(self.held) >= KEYS_MAX:
            raise WorkerFailed(f"{KEYS_MAX} keys are in quarantine: the line stops at {key!r} on {record.topic}.")
        self.held[key] = Held(f"{record.topic}/{record.partition}/{record.offset}")

    def facts_of(self, key: str | None, refusal: BadRecord) -> dict[str, str]:
        """Return what a dead letter says of its place in a quarantine: behind which record, as the how many-th."""
        held = self.held.get(key) if key is not None else None
        if held is None or refusal.reason is not DeadLetterReason.QUARANTINED:
            return {}
        return {"held.since": held.since, "held.number": str(held.held)}

    def end(self, key: str) -> None:
        """Hold nothing back of a key any more, and remember how many of what was held were stepped."""
        held = self.held.pop(key, None)
        if held is None:
            return
        self.ended[held.since] = (key, held.stepped)
        if len(self.ended) > _ENDED_MAX:
            del self.ended[next(iter(self.ended))]

    def stepped(self) -> dict[str, tuple[str, int, bool]]:
        """Return quarantine -> (key, how many of what it held were stepped, whether it is over), if any or over."""
        over = {since: (key, stepped, True) for since, (key, stepped) in self.ended.items()}
        return over | {held.since: (key, held.stepped, False) for key, held in self.held.items() if held.stepped}

    def obey(self, order: LetterOrder, next_offsets: Mapping[str, int]) -> None:
        """Carry out, once, a TAKE of what has not been passed yet, or a RELEASE."""
        if order.ordinal <= self.orders:
            return
        self.orders = order.ordinal
        if order.action is LetterAction.RELEASE:
            self.end(order.key)
            return
        lane = f"{order.topic}/{order.partition}"
        first = max(order.first, next_offsets.get(lane, 0))
        if first <= order.last:
            self.taken.setdefault(lane, []).append((first, order.last))


def quarantines(topic: Topic) -> bool:
    """Tell whether a bad record of this topic holds back its key.

    A command's key is its own id, which no second record has: there is nothing that could overtake it, and a kill
    must always get through.
    """
    return topic.money and topic.name != CONTROL.name


def key_of(record: RawRecord) -> str | None:
    """Return the key of a record that could not be decoded; None for what cannot be a key of ours."""
    if not record.key or len(record.key) > _KEY_BYTES_MAX:
        return None
    return record.key.decode(errors="backslashreplace")
