"""A second opinion on every stage: its inputs stepped again without the engine, compared with what lies in the log.

Nothing of the engine's bookkeeping is used: dropping what came twice, numbering, routing and encoding are done here
anew, from what the log and the journal hold. Only the stages themselves and the codec are shared.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from agents.stage import ShardState, run_step
from schemas.dead_letters import BadRecord
from schemas.event import ORDINALS_PER_OFFSET, Event, stamp_position
from schemas.routing import targets
from schemas.topics import TOPICS
from streams.engine.journal import Segment, decode_external, decode_inputs
from streams.engine.lane import lane_of
from streams.engine.ports import RawRecord, StageHosting, StageKind
from streams.simulation.database import ShardRows
from streams.simulation.log import Lane, SimulatedLog
from streams.simulation.member import CODEC
from streams.simulation.plan import PARTITIONS
from streams.simulation.violations import Violation, shortened, sides

_ORIGIN: Final = "tradermind-origin-ns"
Output = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]


class TakenLanes:
    """Every topic partition as a reader takes it: decoded, and what came twice dropped by (generation, seq).

    ``events`` has one entry for each offset; None stands where a record had come before.
    """

    def __init__(self, log: SimulatedLog) -> None:
        self.events: dict[Lane, list[Event | None]] = {}
        self.by_source: dict[tuple[str, Lane], list[RawRecord]] = {}
        self.violations: list[Violation] = []
        for lane, records in sorted(log.lanes.items()):
            self._take(lane, records)

    def _take(self, lane: Lane, records: list[RawRecord]) -> None:
        newest: dict[str, tuple[int, int]] = {}
        contents: dict[tuple[str, int, int], bytes | None] = {}
        taken = self.events.setdefault(lane, [])
        if lane[0] not in TOPICS:
            self.violations.append(Violation("no dead letters", str(lane), "none", shortened(records[0])))
            return
        for record in records:
            event: Event = CODEC.decode(record.topic, record.value, record.headers)
            position = (event.generation, event.seq)
            first = position > newest.get(event.source, (0, -1))
            taken.append(event if first else None)
            if first:
                newest[event.source] = position
                self.by_source.setdefault((event.source, lane), []).append(record)
            known = contents.setdefault((event.source, *position), record.value)
            if known != record.value:
                place = f"{lane} offset {record.offset}, {event.source} {position}"
                self.violations.append(
                    Violation("one number is one content", place, shortened(known), shortened(record.value))
                )

    def of(self, topic: str) -> Iterator[Event]:
        """Yield what a reader takes of a topic, partition by partition."""
        for number in range(TOPICS[topic].partitions(PARTITIONS)):
            yield from filter(None, self.events.get((topic, number), ()))


class ShardTruth:
    """One shard stepped again from its beginning."""

    def __init__(
        self, hosting: StageHosting, shard: str, rows: ShardRows, log: SimulatedLog, taken: TakenLanes
    ) -> None:
        self.source = f"{hosting.name}/{shard}"
        self.state = ShardState()
        self.outputs: dict[Lane, list[Output]] = {}
        self.covered: dict[Lane, int] = {}
        self.inputs = 0
        self._hosting = hosting
        self._shard = shard
        self._rows = rows
        self._log = log
        self._taken = taken
        self._stage = hosting.make_stage()
        self._one_topic = hosting.kind is StageKind.ONE_TOPIC
        self._partition = int(shard.rpartition("/")[2])

    def violation(self) -> Violation | None:
        """Return the first place where the shard and its truth part."""
        found = self._follow() or self._compare_outputs() or self._compare_coverage()
        return found or self._compare_state()

    def _follow(self) -> Violation | None:
        if self._one_topic:
            topic, _, partition = self._shard.rpartition("/")
            lane = (topic, int(partition))
            return self._segment(lane, 0, self._log.end(lane) - 1)
        for _, content in self._rows.journal:
            for item in decode_inputs(content):
                if isinstance(item, Segment):
                    gap = self._segment((item.topic, item.partition), item.first, item.last)
                    if gap is not None:
                        return gap
                else:
                    self._step(decode_external(item, self._hosting.event_types), 0, None)
        return None

    def _segment(self, lane: Lane, first: int, last: int) -> Violation | None:
        next_offset = self.covered.get(lane, 0)
        if first != next_offset:
            place = f"the journal of {self.source} on {lane}"
            return Violation("every input takes effect once", place, f"offset {next_offset}", f"offset {first}")
        self.covered[lane] = last + 1
        events = self._taken.events.get(lane, [])
        for record in self._log.read(lane, first, last + 1 - first):
            event = events[record.offset]
            if event is not None:
                origin = next((int(value) for name, value in record.headers if name == _ORIGIN), 0)
                self._step(event, origin, record.offset * ORDINALS_PER_OFFSET if self._one_topic else None)
        return None

    def _step(self, event: Event, origin: int, base: int | None) -> None:
        self.inputs += 1
        headers = ((_ORIGIN, str(origin).encode()),) if origin else ()
        outputs: Sequence[Event] = ()
        with suppress(BadRecord):  # A venue's word on an order that is not ours has no effect.
            _, outputs = run_step(self._stage, self.state, event)
        for ordinal, output in enumerate(outputs):
            for lane in targets(output, PARTITIONS, self._partition):
                expected = self.outputs.setdefault(lane, [])
                stamp_position(output, self.source, 1, len(expected) + 1 if base is None else base + ordinal)
                expected.append((output.key.encode(), CODEC.encode(lane[0], output), headers))

    def _compare_outputs(self) -> Violation | None:
        lanes = {lane for source, lane in self._taken.by_source if source == self.source} | self.outputs.keys()
        for lane in sorted(lanes):
            expected = self.outputs.get(lane, [])
            found = self._taken.by_source.get((self.source, lane), [])
            for number, (output, record) in enumerate(zip(expected, found, strict=False)):
                if output != (record.key, record.value, tuple(record.headers)):
                    return self._difference(lane, number, output, record)
            if len(expected) != len(found):
                number = min(len(expected), len(found))
                return self._difference(lane, number, (*expected, None)[number], (*found, None)[number])
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

    def _compare_state(self) -> Violation | None:
        truth = {key: msgspec.msgpack.encode(value) for key, value in self.state.items()}
        kept = self._rows.state
        for key in sorted(truth.keys() | kept.keys()):
            if truth.get(key) != kept.get(key):
                place = f"{self.source}, key {key}"
                expected = msgspec.msgpack.decode(truth[key]) if key in truth else None
                found = msgspec.msgpack.decode(kept[key]) if key in kept else None
                return Violation("the state follows from the inputs", place, *sides(expected, found))
        return None
