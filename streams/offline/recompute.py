"""Run a shard again and compare what it would write with what lies in Kafka, byte for byte.

It begins at the shard's beginning or, for a stretch, at the newest snapshot before it. The journal says in which order
an outbox shard stepped its inputs; a one-topic shard needs none, since its input topic is the order. The same
``ShardCore`` runs here and in a worker.
"""

import asyncio
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from agents.stage import ShardState, Stage
from schemas.event import ORDINALS_PER_OFFSET, Event
from schemas.topics import TOPICS
from streams.engine.dead_letter import BadRecordLimit
from streams.engine.journal import External, Input, Segment, Unread, decode_external, decode_inputs
from streams.engine.lane import lane_of, output_lanes
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind
from streams.engine.shard import ShardCore
from streams.offline.comparison import Comparison
from streams.offline.difference import Difference, InputPlace
from streams.offline.log_reader import KafkaLog, Lane, LaneReader, Log
from streams.offline.question import WHOLE, Question
from streams.offline.start import MadeBy, Start, find_start

__all__ = ["Recomputed", "recompute_shard", "recompute_shard_over"]

_TELL_EVERY: Final = 512


@dataclass(frozen=True, slots=True)
class Recomputed:
    """How many inputs were stepped again, how many outputs followed, and how many of them the log has the same.

    ``lead_in`` inputs were stepped before the stretch, from the snapshot after batch ``since_batch`` on; what followed
    from them was compared, too, and is not counted. ``made_by`` says whose work it is.
    """

    inputs: int
    outputs: int
    matched: int
    first_difference: Difference | None
    lead_in: int = 0
    since_batch: int = 0
    made_by: tuple[MadeBy, ...] = ()


async def recompute_shard(
    engine: EngineSettings, hosting: StageHosting, shard: str, ask: Question = WHOLE
) -> Recomputed:
    """Step a shard again, as far as it has a checkpoint, and compare with Kafka. The worker may be running.

    Raises RecomputeImpossible when the shard was never claimed, when a log does not reach back far enough, or when
    other code or settings made what is asked about.
    """
    log = KafkaLog(engine.bootstrap, engine.security)
    return await asyncio.to_thread(recompute_shard_over, engine, hosting, shard, ask, log)


def recompute_shard_over(
    engine: EngineSettings, hosting: StageHosting, shard: str, ask: Question, log: Log
) -> Recomputed:
    """Do the same over any log. Blocks."""
    core = ShardCore(hosting, shard, _own_partition(hosting, shard), engine.codec, engine.instrument_partitions)
    core.limit = BadRecordLimit(stops=False)
    lanes = _output_lanes(core, engine.instrument_partitions)
    # Ends that were read before the checkpoint bound what must follow from it; those read after, what it has sent.
    ends_before = {lane: end for lane, end in log.ends(lanes).items() if end > 0}
    with psycopg.connect(engine.dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        start = find_start(connection, core, engine, ask)
        start.put_into(core)
        comparison = Comparison(core, engine.codec, log, begun=start.snapshot is not None)
        recomputation = _Recomputation(core, start, ask, log, comparison)
        try:
            difference = recomputation.run(connection) or recomputation.find_unexplained(ends_before)
        finally:
            recomputation.close()
    return Recomputed(
        recomputation.stepped,
        comparison.outputs,
        comparison.matched,
        difference,
        recomputation.lead_in,
        start.batch,
        start.made_by,
    )


def _own_partition(hosting: StageHosting, shard: str) -> int | None:
    if hosting.kind is StageKind.ONE_TOPIC:
        return int(shard.rpartition("/")[2])
    assert hosting.kind is StageKind.OUTBOX, f"{hosting.name} decides nothing, so there is nothing to recompute"
    return int(shard) if hosting.topics else None


def _output_lanes(core: ShardCore, partitions: int) -> list[Lane]:
    if core.hosting.kind is StageKind.ONE_TOPIC:
        return output_lanes(core.hosting, int(core.shard.rpartition("/")[2]), partitions)
    topics = [topic for topic in TOPICS.values() if core.hosting.name in topic.producers]
    return [(topic.name, number) for topic in topics for number in range(topic.partitions(partitions))]


class NotedStage:
    """A stage, and what was stepped through it last; the ids of all, as eight bytes each, with ``remember``."""

    def __init__(self, stage: Stage, *, remember: bool) -> None:
        self.newest: Event | None = None
        self._stage = stage
        self._remember = remember
        self._stepped = array("q")

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._stage.name

    def state_type(self, key: str) -> type:
        """Return what the stage keeps under a key."""
        return self._stage.state_type(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Note the event and step it."""
        self.newest = event
        if self._remember:
            self._stepped.append(hash(event.event_id))
        return self._stage.step(state, event)

    def forget_newest(self) -> None:
        """Let the last event be none of those that were stepped."""
        if self._remember:
            self._stepped.pop()

    def has_stepped(self, event_id: str) -> bool:
        """Tell whether an event was stepped."""
        return hash(event_id) in self._stepped


class _Recomputation:
    """One shard's inputs, stepped and compared as they go by, so that memory does not grow with the logs."""

    def __init__(self, core: ShardCore, start: Start, ask: Question, log: Log, comparison: Comparison) -> None:
        self.stepped = self.lead_in = 0
        self._core = core
        self._start = start
        self._stretch = ask.stretch
        self._advance = ask.advance
        self._log = log
        self._comparison = comparison
        self._stage = core.stage = NotedStage(core.stage, remember=ask.stretch.to_ns is not None)
        self._one_topic = core.hosting.kind is StageKind.ONE_TOPIC
        self._inputs: dict[Lane, LaneReader] = {}
        self._over = False

    def run(self, connection: psycopg.Connection[Any]) -> Difference | None:
        """Step and compare everything that was asked for."""
        return self._run_one_topic(connection) if self._one_topic else self._run_journal(connection)

    def close(self) -> None:
        """Give the readers back."""
        self._comparison.close()
        for reader in self._inputs.values():
            reader.close()

    def _run_one_topic(self, connection: psycopg.Connection[Any]) -> Difference | None:
        core, row = self._core, self._start.row
        topic, _, partition = core.shard.rpartition("/")
        first, end = core.progress.next_offsets.get(core.shard, 0), row.progress.next_offsets.get(core.shard, 0)
        core.progress.letters.taken = row.progress.letters.taken
        for lane, refused in row.progress.letters.unread.items():
            core.progress.letters.expect_unread(lane, refused)
        for _, inputs in self._journal(connection):
            self._expect_unread(decode_inputs(inputs))
        if first >= end:
            return None
        for record in self._records(Segment(topic, int(partition), first, end - 1)):
            difference = self._step_record(record, None, sent=True)
            if difference is not None or self._over:
                return difference
            self._tell(record.offset - first, end - first)
        return None

    def _run_journal(self, connection: psycopg.Connection[Any]) -> Difference | None:
        row, begin = self._start.row, self._start.batch
        for batch, inputs in self._journal(connection):
            sent = row.unsent_from is None or batch < row.unsent_from
            difference = self._step_batch(batch, inputs, sent=sent)
            if difference is not None or self._over:
                return difference
            self._tell(batch - begin, row.batch - begin)
        return None

    def _journal(self, connection: psycopg.Connection[Any]) -> Iterator[tuple[int, bytes]]:
        """Yield (batch, inputs) of what the shard's journal has after the beginning."""
        with connection.cursor("journal") as cursor:
            cursor.execute(
                "SELECT batch, inputs FROM shard_journal WHERE stage = %s AND shard = %s AND batch > %s ORDER BY batch",
                (self._core.hosting.name, self._core.shard, self._start.batch),
            )
            for batch, inputs in cursor:
                yield int(batch), bytes(inputs)

    def _expect_unread(self, inputs: Sequence[Input]) -> None:
        letters = self._core.progress.letters
        for item in inputs:
            if isinstance(item, Unread):
                letters.expect_unread(item.lane, item.refused)

    def _step_batch(self, batch: int, inputs: bytes, *, sent: bool) -> Difference | None:
        items = decode_inputs(inputs)
        self._expect_unread(items)
        for item in items:
            if isinstance(item, Segment):
                for record in self._records(item):
                    difference = self._step_record(record, batch, sent=sent)
                    if difference is not None or self._over:
                        return difference
            elif isinstance(item, External):
                difference = self._step_external(item, batch, sent=sent)
                if difference is not None or self._over:
                    return difference
        self._core.progress.letters.unread.clear()
        return None

    def _step_record(self, record: RawRecord, batch: int | None, *, sent: bool) -> Difference | None:
        self._stage.newest = None
        self._core.take(record)
        return self._compare(lane_of(record.topic, record.partition), record.offset, batch, sent=sent)

    def _step_external(self, item: External, batch: int, *, sent: bool) -> Difference | None:
        event = decode_external(item, self._core.hosting.event_types)
        self._core.take_event(event, item.origin)
        self._stage.newest = event
        return self._compare(None, None, batch, sent=sent)

    def _compare(self, lane: str | None, offset: int | None, batch: int | None, *, sent: bool) -> Difference | None:
        reached_ns = self._core.reached_ns
        self._over = self._stretch.is_over(reached_ns)
        outgoing, _, _ = self._core.drain()
        if self._over:
            self._stage.forget_newest()
            return None
        counts = self._stretch.has_begun(reached_ns)
        self.stepped += counts
        self.lead_in += not counts
        if not outgoing:
            return None
        event = self._stage.newest
        kind, event_id = ("", "") if event is None else (type(event).__name__, event.event_id)
        cause = InputPlace(kind, event_id, lane, offset, batch)
        return self._comparison.compare(outgoing, cause, sent=sent, counts=counts)

    def _records(self, segment: Segment) -> Iterator[RawRecord]:
        lane = (segment.topic, segment.partition)
        reader = self._inputs.get(lane)
        if reader is None:
            reader = self._inputs[lane] = self._log.reader(lane, segment.first)
        return reader.through(segment.first, segment.last)

    def _tell(self, done: int, whole: int) -> None:
        if (self.stepped + self.lead_in) % _TELL_EVERY == 0:
            self._advance(self._core.source, done / whole)

    def find_unexplained(self, ends_before: dict[Lane, int]) -> Difference | None:
        """Look for records of this source that should have followed from what was stepped, and did not."""

        def by_number(record: RawRecord, event: Event) -> bool:
            del record
            return event.seq < self._passed_offset() * ORDINALS_PER_OFFSET

        def by_cause(record: RawRecord, event: Event) -> bool:
            if self._stretch.to_ns is None:
                return record.offset < ends_before[record.topic, record.partition]
            return self._stage.has_stepped(event.cause_id)

        return self._comparison.unexplained(ends_before, by_number if self._one_topic else by_cause)

    def _passed_offset(self) -> int:
        """Return the offset of the first input that was not asked for."""
        return self._core.progress.next_offsets.get(self._core.shard, 0) - self._over
