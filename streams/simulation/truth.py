"""A second opinion on every stage: its inputs stepped again without the engine, compared with what lies in the log.

Nothing of the engine's bookkeeping is used: dropping what came twice, numbering, routing and encoding are done here
anew, from what the log and the journal hold. Only the stages themselves and the codec are shared.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agents.stage import ShardState, run_step
from schemas.changes import Examined
from schemas.control import ControlCommand
from schemas.dead_letters import BadRecord
from schemas.event import ORDINALS_PER_OFFSET, Event, stamp_position
from schemas.orders import SubmitRequested
from schemas.routing import targets
from streams.engine.journal import External, Segment, decode_external, decode_inputs
from streams.engine.lane import lane_of
from streams.engine.ports import RawRecord, StageHosting, StageKind
from streams.engine.shard import Progress
from streams.simulation.database import ShardRows
from streams.simulation.log import Lane, SimulatedLog
from streams.simulation.member import CODEC
from streams.simulation.plan import PARTITIONS
from streams.simulation.taken import Place, TakenLanes
from streams.simulation.violations import Violation, shortened, sides

_ORIGIN: Final = "tradermind-origin-ns"
Output = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]


class ShardTruth:
    """One shard stepped again from its beginning, or from where a snapshot was kept.

    ``refused`` are the places of the public records that the stage has no use for, ``story`` what people ordered of it
    and the orders that it sent, in one order.
    """

    def __init__(
        self, hosting: StageHosting, shard: str, rows: ShardRows, log: SimulatedLog, taken: TakenLanes
    ) -> None:
        self.source = f"{hosting.name}/{shard}"
        self.state = ShardState()
        self.outputs: dict[Lane, list[Output]] = {}
        self.covered: dict[Lane, int] = {}
        self.inputs = 0
        self.refused: set[Place | str] = set()
        self.story: list[ControlCommand | Examined | SubmitRequested] = []
        self._hosting = hosting
        self._shard = shard
        self._rows = rows
        self._log = log
        self._taken = taken
        self._stage = hosting.make_stage()
        self._one_topic = hosting.kind is StageKind.ONE_TOPIC
        self._partition = int(shard.rpartition("/")[2])
        self._ids: set[str] = set()
        self._since = -1
        self._floor: dict[Lane, int] = {}
        self._kept: dict[int, list[ShardRows]] = {}
        for kept in rows.snapshots.values():
            self._kept.setdefault(self._place_of(kept), []).append(kept)

    def begin_with(self, kept: ShardRows) -> None:
        """Begin where a snapshot was kept, with what it holds, as a recomputation of a stretch does."""
        progress = msgspec.msgpack.decode(kept.progress, type=Progress)
        for key, value in kept.state.items():
            self.state.restore(key, msgspec.msgpack.decode(value, type=self._stage.state_type(key)))
        self.covered = {_lane(name): offset for name, offset in progress.next_offsets.items()}
        self._floor = {_lane(name): number for name, number in progress.numbers.items()}
        self._ids = {event_id for window in progress.seen.windows.values() for event_id in window}
        self._since = self._place_of(kept)
        self._kept = {place: rows for place, rows in self._kept.items() if place > self._since}

    def _place_of(self, kept: ShardRows) -> int:
        """Return the batch that a kept shard had stepped, or the offset that a stage with one topic would read next."""
        if not self._one_topic:
            return kept.batch
        return msgspec.msgpack.decode(kept.progress, type=Progress).next_offsets.get(self._shard, 0)

    def violation(self) -> Violation | None:
        """Return the first place where the shard and its truth part."""
        found = self._follow() or self._compare_outputs() or self._compare_coverage() or self._unplaced()
        return found or self._compare_state(self._rows.state, self.source)

    def _unplaced(self) -> Violation | None:
        for place in sorted(self._kept):
            where = f"a snapshot of {self.source}"
            return Violation("a snapshot is the shard as it was", where, "a batch that was stepped", f"{place}")
        return None

    def _follow(self) -> Violation | None:
        if self._one_topic:
            topic, _, partition = self._shard.rpartition("/")
            lane = (topic, int(partition))
            return self._segment(lane, max(self._since, 0), self._log.end(lane) - 1)
        for batch, content in self._rows.journal:
            if batch > self._since:
                found = self._batch(content) or self._compare_kept(batch)
                if found is not None:
                    return found
        return None

    def _batch(self, content: bytes) -> Violation | None:
        for item in decode_inputs(content):
            if isinstance(item, Segment):
                gap = self._segment((item.topic, item.partition), item.first, item.last)
                if gap is not None:
                    return gap
            elif isinstance(item, External):
                event = decode_external(item, self._hosting.event_types)
                if not self._step(event, 0, None):
                    self.refused.add(event.event_id)
        return None

    def _segment(self, lane: Lane, first: int, last: int) -> Violation | None:
        next_offset = self.covered.get(lane, 0)
        if first != next_offset:
            place = f"the journal of {self.source} on {lane}"
            return Violation("every input takes effect once", place, f"offset {next_offset}", f"offset {first}")
        self.covered[lane] = last + 1
        events = self._taken.events.get(lane, [])
        for record in self._log.read(lane, first, last + 1 - first):
            found = self._compare_kept(record.offset) if self._one_topic else None
            if found is not None:
                return found
            event = events[record.offset]
            if event is not None:
                self._take(lane, record, event)
        return self._compare_kept(last + 1) if self._one_topic else None

    def _take(self, lane: Lane, record: RawRecord, event: Event) -> None:
        if self._hosting.wrap is not None:
            event = self._hosting.wrap(record, event)
            if event.event_id in self._ids:
                return
        origin = next((int(value) for name, value in record.headers if name == _ORIGIN), 0)
        understood = self._step(event, origin, record.offset * ORDINALS_PER_OFFSET if self._one_topic else None)
        if self._hosting.wrap is not None and understood:
            self._ids.add(event.event_id)
        elif not understood:
            self.refused.add((lane, record.offset))

    def _step(self, event: Event, origin: int, base: int | None) -> bool:
        """Step an input; return False when the stage had no use for it."""
        self.inputs += 1
        headers = ((_ORIGIN, str(origin).encode()),) if origin else ()
        try:
            _, outputs = run_step(self._stage, self.state, event)
        except BadRecord:  # A venue's word on an order that is not ours, say: it has no effect.
            return False
        if isinstance(event, ControlCommand | Examined):
            self.story.append(event)
        self.story += [output for output in outputs if isinstance(output, SubmitRequested)]
        self._say(outputs, headers, base)
        return True

    def _say(self, outputs: Sequence[Event], headers: tuple[tuple[str, bytes], ...], base: int | None) -> None:
        for ordinal, output in enumerate(outputs):
            for lane in targets(output, PARTITIONS, self._partition):
                expected = self.outputs.setdefault(lane, [])
                number = self._floor.get(lane, 0) + len(expected) + 1 if base is None else base + ordinal
                stamp_position(output, self.source, 1, number)
                expected.append((output.key.encode(), CODEC.encode(lane[0], output), headers))

    def _compare_outputs(self) -> Violation | None:
        lanes = {lane for source, lane in self._taken.by_source if source == self.source} | self.outputs.keys()
        for lane in sorted(lanes):
            expected = self.outputs.get(lane, [])
            found = self._found(lane)
            for number, (output, record) in enumerate(zip(expected, found, strict=False)):
                if output != (record.key, record.value, tuple(record.headers)):
                    return self._difference(lane, number, output, record)
            if len(expected) != len(found):
                number = min(len(expected), len(found))
                return self._difference(lane, number, (*expected, None)[number], (*found, None)[number])
        return None

    def _found(self, lane: Lane) -> list[RawRecord]:
        """Return what the shard has written there, since the beginning or the snapshot."""
        found = self._taken.by_source.get((self.source, lane), [])
        if self._since < 0:
            return found
        last = self._since * ORDINALS_PER_OFFSET - 1 if self._one_topic else self._floor.get(lane, 0)
        events = self._taken.events[lane]
        return [record for record in found if (event := events[record.offset]) is not None and event.seq > last]

    def _compare_kept(self, place: int) -> Violation | None:
        """Compare every snapshot that was kept here: whatever is recomputed from it then goes on as this does."""
        for kept in self._kept.pop(place, ()):
            found = self._compare_state(kept.state, f"the snapshot of batch {kept.batch} of {self.source}")
            if found is not None:
                return found
            offsets = msgspec.msgpack.decode(kept.progress, type=Progress).next_offsets
            covered = {lane_of(*lane): offset for lane, offset in self.covered.items()}
            if self._one_topic:
                covered = {self._shard: place}
            if {lane: offset for lane, offset in offsets.items() if offset} != covered and place:
                where = f"the snapshot of batch {kept.batch} of {self.source}"
                return Violation("a snapshot is the shard as it was", where, shortened(covered), shortened(offsets))
        return None

    def _difference(self, lane: Lane, number: int, output: Output | None, record: RawRecord | None) -> Violation:
        place = f"output {number + 1} of {self.source} on {lane}"
        expected: object = None if output is None else CODEC.decode(lane[0], output[1], ())
        found: object = None if record is None else CODEC.decode(lane[0], record.value, ())
        if expected == found and output is not None and record is not None:
            expected, found = output, (record.key, record.value, tuple(record.headers))
        return Violation("every output follows from the inputs", place, *sides(expected, found))

    def _compare_coverage(self) -> Violation | None:
        for topic in self._hosting.topics:
            for number in range(topic.partitions(PARTITIONS)):
                lane = (topic.name, number)
                mine = lane_of(*lane) == self._shard if self._one_topic else number == self._partition
                if mine and self.covered.get(lane, 0) != self._log.end(lane):
                    place = f"{self.source} on {lane}"
                    expected, found = f"{self._log.end(lane)} records", f"{self.covered.get(lane, 0)} records"
                    return Violation("every input takes effect once", place, expected, found)
        return None

    def _compare_state(self, kept: dict[str, bytes], where: str) -> Violation | None:
        truth = {key: msgspec.msgpack.encode(value) for key, value in self.state.items()}
        for key in sorted(truth.keys() | kept.keys()):
            if truth.get(key) != kept.get(key):
                expected = msgspec.msgpack.decode(truth[key]) if key in truth else None
                found = msgspec.msgpack.decode(kept[key]) if key in kept else None
                promise = "the state follows from the inputs"
                return Violation(promise, f"{where}, key {key}", *sides(expected, found))
        return None


def _lane(name: str) -> Lane:
    topic, _, partition = name.rpartition("/")
    return topic, int(partition)
