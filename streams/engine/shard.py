"""One stage on one partition, without its surroundings: records in, records out, progress kept.

The live shards and the recomputation from the journal run this same code, so that what is proved about one holds
for the other. No I/O and no clock here.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from agents.stage import ShardState
from schemas.codec import Codec
from schemas.dead_letters import (
    OF_THE_REGISTRY,
    BadRecord,
    DeadLetterReason,
    HeldAgain,
    LettersOrdered,
    UnknownRecordType,
)
from schemas.event import ORDINALS_PER_OFFSET, Event, Heartbeat, stamp_position
from schemas.partition import partition_of
from schemas.routing import targets
from schemas.topics import TOPICS, Topic
from streams.engine.counters import Counters
from streams.engine.dead_letter import BadRecordLimit, Refuser, dead_letter, outside_letter, way_past
from streams.engine.flow import OUTSIDE, Flow, counted
from streams.engine.lane import Lane, lane_of
from streams.engine.observing import Gathered
from streams.engine.ports import Outgoing, RawRecord, StageHosting, StageKind, WorkerFailed
from streams.engine.progress import Progress as Progress
from streams.engine.quarantine import LetterProgress, key_of, quarantines

ORIGIN_HEADER: Final = "tradermind-origin-ns"
ORDERS: Final = frozenset({LettersOrdered, HeldAgain})
"""What people order about records: for the shard itself, never for its stage."""


class ShardCore:
    """A stage, its state and its progress. ``partition`` is None for a shard that no input partition belongs to."""

    def __init__(self, hosting: StageHosting, shard: str, partition: int | None, codec: Codec, partitions: int) -> None:
        self.hosting = hosting
        self.shard = shard
        self.stage = hosting.make_stage()
        self.state = ShardState()
        self.progress = Progress()
        self.generation = 1
        self.counters = Counters()
        self.flow = Flow()
        self.gathered = Gathered(hosting.observer)
        self.newest_ns = 0
        self._run = self.gathered.run
        self.outgoing: list[Outgoing] = []
        self.requests: list[Event] = []
        self.request_origins: list[int] = []
        self._partition = partition
        self._lane: Lane | None = None
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._codec = codec
        self._cloud = codec.cloud_events(f"{hosting.name}/{shard}")
        self._partitions = partitions
        self._numbered = hosting.kind is StageKind.ONE_TOPIC
        self._source = f"{hosting.name}/{shard}"
        self.limit = BadRecordLimit()
        kind = type(self.stage)
        self.refuser = Refuser(hosting.name, shard, f"{kind.__module__}.{kind.__qualname__}")

    @property
    def source(self) -> str:
        """The source that this shard's outputs carry."""
        return self._source

    def restore(self, progress: bytes, state: dict[str, bytes], generation: int) -> None:
        """Take up where a checkpoint stands."""
        self.generation = generation
        if progress:
            self.progress = msgspec.msgpack.decode(progress, type=Progress)
        for key, value in state.items():
            self.state.restore(key, msgspec.msgpack.decode(value, type=self.stage.state_type(key)))
        self.counters.quarantined_keys = len(self.progress.letters.held)

    def next_offset(self, topic: str, partition: int) -> int | None:
        """Return the offset to read next, or None when nothing of it was read yet."""
        return self.progress.next_offsets.get(lane_of(topic, partition))

    def take(self, record: RawRecord) -> None:
        """Handle a record, if new, into ``outgoing`` and ``requests``. Raises WorkerFailed when the line must stop."""
        lane, progress, counters = self._lane_of(record), self.progress, self.counters
        name, offset = lane.name, record.offset
        expected = progress.next_offsets.get(name)
        if expected != offset and expected is not None and self._is_behind(lane, offset, expected):
            return
        progress.next_offsets[name] = offset + 1
        counters.records += 1
        topic, letters = lane.topic, progress.letters
        event: Event | None = None
        try:
            if letters.taken or letters.unread:
                letters.refuse_known(name, offset)
            event = self._event(lane, record)
            if not progress.seen.is_new(name, event):
                counters.duplicates += 1
                counted(self.flow.duplicates, topic.name)
                return
            if letters.held and lane.held_back:
                letters.refuse_held(event.key)
            self.newest_ns = event.event_time_ns
            self._reach(event.available_at_ns)
            _, outputs = self._run(self.stage, self.state, event)
        except BadRecord as refusal:
            self._refuse(topic, record, event, refusal)
            return
        except UnknownRecordType as unknown:
            if topic.money:
                raise WorkerFailed(
                    f"{unknown}: this version does not know it, and money topics skip nothing: {way_past(record)}"
                ) from None
            counters.skipped += 1
            counted(self.flow.skipped, topic.name)
            return
        except Exception as error:
            error.add_note(f"{self._source} broke on a record: {way_past(record)}")
            raise
        self.limit.good()
        if outputs:
            self._emit(outputs, _origin(record.headers), self._base_of(offset))

    def take_event(self, event: Event, origin: int = 0, base: int | None = None) -> Sequence[Event]:
        """Handle an input that did not come by Kafka; return what follows, which ``base`` numbers for a feed."""
        self.counters.external += 1
        if type(event) in ORDERS:
            self._obey(event)
            return ()
        self._reach(event.available_at_ns)
        if type(event) is not Heartbeat:
            self.newest_ns = event.event_time_ns
        try:
            _, outputs = self._run(self.stage, self.state, event)
        except BadRecord as refusal:  # A venue's word on an order that is not ours, say; it stops no line.
            self.outgoing.append(outside_letter(event, refusal, self.refuser, self._partitions))
            self.counters.refused(refusal.reason)
            self.flow.refused(OUTSIDE, refusal.reason)
            return ()
        self._emit(outputs, origin, base)
        return outputs

    def _obey(self, event: Event) -> None:
        letters = self.progress.letters
        if isinstance(event, HeldAgain):
            self._step_held(event, letters)
        for order in event.orders if isinstance(event, LettersOrdered) else ():
            letters.obey(order, self.progress.next_offsets)
        self.counters.quarantined_keys = len(letters.held)

    def _step_held(self, again: HeldAgain, letters: LetterProgress) -> None:
        """Step what was held, in order. What is held meanwhile comes in a further portion; a bad one ends it all."""
        held = letters.held.get(again.key)
        if held is None or again.since != held.since:
            letters.stepped_orders = max(letters.stepped_orders, again.ordinal)
            return
        if again.first != held.stepped + 1:
            return
        for one in again.records:
            held.stepped += 1
            record = RawRecord(one.topic, one.partition, one.offset, one.key, one.value, one.headers, one.timestamp_ms)
            event: Event | None = None
            try:
                letters.refuse_unread(lane_of(one.topic, one.partition), one.offset)
                event = self._event(self._lane_of(record), record)
                self._reach(event.available_at_ns)
                _, outputs = self._run(self.stage, self.state, event)
            except BadRecord as refusal:
                self._refuse(TOPICS[one.topic], record, event, refusal)
                letters.stepped_orders = again.ordinal
                return
            self._emit(outputs, _origin(record.headers), None)
        if held.stepped == held.held:
            letters.end(again.key)
            letters.stepped_orders = again.ordinal

    @property
    def reached_ns(self) -> int:
        """The newest time that was stepped, on the run's clock."""
        return self.progress.reached_ns

    def _reach(self, time_ns: int) -> None:
        if time_ns > self.progress.reached_ns:
            self.progress.reached_ns = time_ns

    def touched_state(self) -> dict[str, bytes | None]:
        """Return the encoded state of the keys touched since the last call; None for a deleted key."""
        state = self.state
        touched = {key: msgspec.msgpack.encode(state[key]) if key in state else None for key in sorted(state.touched)}
        state.touched.clear()
        return touched

    def has_output(self) -> bool:
        """Tell whether anything is to be sent or performed."""
        return bool(self.outgoing or self.requests)

    def drain(self) -> tuple[list[Outgoing], list[Event], list[int]]:
        """Return what is to be sent and performed, and begin anew."""
        drained = (self.outgoing, self.requests, self.request_origins)
        self.outgoing, self.requests, self.request_origins = [], [], []
        return drained

    def _lane_of(self, record: RawRecord) -> Lane:
        lane = self._lane
        if lane is None or record.topic != lane.topic_name or record.partition != lane.partition:
            place = (record.topic, record.partition)
            lane = self._lane = self._lanes.get(place) or self._lanes.setdefault(place, Lane(*place))
        return lane

    def _is_behind(self, lane: Lane, offset: int, expected: int) -> bool:
        if offset > expected:
            if not lane.topic.public:
                raise WorkerFailed(
                    f"Records {expected} to {offset - 1} of {lane.name} are gone before they were read: the log was"
                    " trimmed under its reader."
                )
            counted(self.flow.gaps, lane.topic_name)
        return offset < expected

    def _base_of(self, offset: int) -> int | None:
        return offset * ORDINALS_PER_OFFSET if self._numbered else None

    def _event(self, lane: Lane, record: RawRecord) -> Event:
        decoded: Any = self._codec.decode(record.topic, record.value, record.headers)
        if self.hosting.wrap is not None:
            return self.hosting.wrap(record, decoded)
        event: Event = decoded
        if lane.by_instrument and type(event) is not Heartbeat:
            expected = partition_of(event.key, self._partitions)
            if expected != record.partition:
                detail = f"key {event.key[:80]!r} belongs to partition {expected}"
                raise BadRecord(DeadLetterReason.WRONG_PARTITION, detail)
        if not event.source or not event.event_id:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, "the record names no source: it was not written by us")
        return event

    def _emit(self, outputs: Sequence[Event], origin: int, base: int | None) -> None:
        headers = ((ORIGIN_HEADER, str(origin).encode()),) if origin else ()
        silent, kept = self.progress.silent, self.gathered.kept
        for ordinal, event in enumerate(outputs):
            places = targets(event, self._partitions, self._partition)
            if type(event) in kept:
                self.gathered.outputs.append(event)
            if not places:
                self.requests.append(event)
                self.request_origins.append(origin)
            for topic, partition in places:
                seq = self._number(topic, partition) if base is None else base + ordinal
                if silent and seq // ORDINALS_PER_OFFSET <= silent.get(lane_of(topic, partition), -1):
                    continue
                stamp_position(event, self._source, self.generation, seq)
                value = self._codec.encode(topic, event)
                named = headers + self._cloud.headers(topic, event)
                self.outgoing.append(Outgoing(topic, partition, event.key.encode(), value, named))
            self.counters.events_out += len(places)

    def _number(self, topic: str, partition: int) -> int:
        lane = lane_of(topic, partition)
        number = self.progress.numbers.get(lane, 0) + 1
        self.progress.numbers[lane] = number
        return number

    def _refuse(self, topic: Topic, record: RawRecord, event: Event | None, refusal: BadRecord) -> None:
        counters, letters = self.counters, self.progress.letters
        key = key_of(record) if event is None else event.key
        if event is not None and not event.source:
            # What a stage refuses from outside may come again, mended or once the stage is ready for it.
            self.progress.seen.forget(lane_of(record.topic, record.partition), event.event_id)
        if refusal.reason in OF_THE_REGISTRY:
            letters.note_unread(lane_of(record.topic, record.partition), record.offset, refusal.reason)
        more = letters.facts_of(key, refusal)
        self.outgoing.append(dead_letter(topic, record, refusal, self.refuser, more))
        counters.refused(refusal.reason)
        self.flow.refused(topic.name, refusal.reason)
        if quarantines(topic):
            letters.begin(key, record, refusal)
            counters.quarantined_keys = len(letters.held)
        self.limit.bad(topic, record, refusal)


def _origin(headers: Iterable[tuple[str, bytes | None]]) -> int:
    for name, value in headers:
        if name == ORIGIN_HEADER and value and value.isdigit() and len(value) <= 19:
            return int(value)
    return 0
