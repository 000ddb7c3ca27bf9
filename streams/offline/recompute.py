"""Run a shard again from its beginning and compare what it would write with what lies in Kafka, byte for byte.

The journal says in which order an outbox shard stepped its inputs; a one-topic shard needs none, since its input
topic is the order. The same ``ShardCore`` runs here and in a worker. A reader's dedupe by (source, generation, seq)
comes first, since a crash may write a record twice; bodies are compared without the schema id; dead letters are
left out, since they carry no number.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import psycopg

from infra.kafka import log_ends
from schemas.event import ORDINALS_PER_OFFSET
from schemas.topics import TOPICS
from streams.engine.dead_letter import BadRecordLimit
from streams.engine.journal import Input, Segment, decode_external, decode_inputs
from streams.engine.ports import EngineSettings, Outgoing, RawRecord, StageHosting, StageKind
from streams.engine.shard import Progress, ShardCore, lane_of
from streams.offline.log_reader import Lane, LogReader, OwnOutputs, RecomputeImpossible

_FRAME_BYTES: Final = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where the log and the recomputation part. None on a side says that it has no such record."""

    topic: str
    partition: int
    number: int
    expected: bytes | None
    found: bytes | None

    def __str__(self) -> str:
        place = f"output {self.number} on {self.topic}/{self.partition}"
        if self.found is None:
            return f"{place} is not in the log."
        if self.expected is None:
            return f"{place} is in the log, but does not follow from the inputs."
        pairs = enumerate(zip(self.expected, self.found, strict=False))
        shorter = min(len(self.expected), len(self.found))
        return f"{place} differs from byte {next((n for n, (a, b) in pairs if a != b), shorter)} on."


@dataclass(frozen=True, slots=True)
class Recomputed:
    """How many inputs were stepped again, how many outputs followed, and how many of them the log has the same."""

    inputs: int
    outputs: int
    matched: int
    first_difference: Difference | None


@dataclass(frozen=True, slots=True)
class ShardRow:
    """What a shard's row says about how far it has come; its outbox is unsent from batch ``unsent_from`` on."""

    generation: int
    progress: Progress
    unsent_from: int | None


async def recompute_shard(engine: EngineSettings, hosting: StageHosting, shard: str) -> Recomputed:
    """Step a shard again from its beginning to its newest checkpoint and compare. The worker may be running.

    Raises RecomputeImpossible when the shard was never claimed or a log does not reach back to its beginning.
    """
    partitions = engine.instrument_partitions
    core = ShardCore(hosting, shard, _own_partition(hosting, shard), engine.codec, partitions)
    core.limit = BadRecordLimit(stops=False)
    name = hosting.name
    lanes = [
        (topic.name, number)
        for topic in TOPICS.values()
        if name in topic.producers or (name.startswith("ingress.") and "ingestion" in topic.producers)
        for number in range(topic.partitions(partitions))
    ]
    return await asyncio.to_thread(_Recomputation(core, engine, lanes).run)


def _own_partition(hosting: StageHosting, shard: str) -> int | None:
    if hosting.kind is StageKind.ONE_TOPIC:
        return int(shard.rpartition("/")[2])
    assert hosting.kind is StageKind.OUTBOX, f"{hosting.name} decides nothing, so there is nothing to recompute"
    return int(shard) if hosting.topics else None


class _Recomputation:
    """One shard's inputs and outputs, compared as they go by, so that memory does not grow with the logs."""

    def __init__(self, core: ShardCore, engine: EngineSettings, lanes: list[Lane]) -> None:
        self._core = core
        self._engine = engine
        self._inputs: dict[Lane, LogReader] = {}
        self._outputs: dict[Lane, OwnOutputs] = {}
        self._lanes = lanes
        self._ends_before: dict[Lane, int] = {}
        self._before: int | None = None
        self._stepped = self._followed = self._matched = 0

    def run(self) -> Recomputed:
        """Step and compare everything."""
        # Ends that were read before the checkpoint bound what must follow from it; those read after, what it has sent.
        self._ends_before = log_ends(self._engine.bootstrap, self._lanes, self._engine.security)
        try:
            with psycopg.connect(self._engine.dsn) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                row = _shard_row(connection, self._core)
                self._core.generation = row.generation
                difference = self._compare_all(connection, row)
        finally:
            for reader in [*self._inputs.values(), *(own.reader for own in self._outputs.values())]:
                reader.close()
        return Recomputed(self._stepped, self._followed, self._matched, difference)

    def _compare_all(self, connection: psycopg.Connection[Any], row: ShardRow) -> Difference | None:
        if self._core.hosting.kind is StageKind.ONE_TOPIC:
            difference = self._compare_one_topic(row)
        else:
            difference = self._compare_journal(connection, row)
        return difference if difference is not None else self._compare_rest()

    def _compare_one_topic(self, row: ShardRow) -> Difference | None:
        topic, _, partition = self._core.shard.rpartition("/")
        end = row.progress.next_offsets.get(self._core.shard, 0)
        self._before = end * ORDINALS_PER_OFFSET
        self._core.progress.letters.taken = row.progress.letters.taken
        for record in self._records(Segment(topic, int(partition), 0, end - 1)):
            self._core.take(record)
            difference = self._compare(sent=True)
            if difference is not None:
                return difference
        return None

    def _compare_journal(self, connection: psycopg.Connection[Any], row: ShardRow) -> Difference | None:
        with connection.cursor("journal") as cursor:
            cursor.execute(
                "SELECT batch, inputs FROM shard_journal WHERE stage = %s AND shard = %s ORDER BY batch",
                (self._core.hosting.name, self._core.shard),
            )
            for batch, inputs in cursor:
                for item in decode_inputs(bytes(inputs)):
                    self._step(item)
                difference = self._compare(sent=row.unsent_from is None or batch < row.unsent_from)
                if difference is not None:
                    return difference
        return None

    def _step(self, item: Input) -> None:
        if isinstance(item, Segment):
            for record in self._records(item):
                self._core.take(record)
        else:
            self._stepped += 1
            self._core.take_event(decode_external(item, self._core.hosting.event_types), item.origin)

    def _records(self, segment: Segment) -> Iterator[RawRecord]:
        lane = (segment.topic, segment.partition)
        reader = self._inputs.get(lane)
        if reader is None:
            reader = self._inputs[lane] = self._reader(lane)
        for record in reader.through(segment.first, segment.last):
            self._stepped += 1
            yield record

    def _reader(self, lane: Lane) -> LogReader:
        return LogReader(self._engine.bootstrap, lane, 0, self._engine.security)

    def _compare(self, *, sent: bool) -> Difference | None:
        outgoing, _, _ = self._core.drain()
        for expected in outgoing:
            if expected.topic not in TOPICS:
                continue
            self._followed += 1
            found = self._own(expected.topic, expected.partition).next()
            if found is None and not sent:
                continue
            if found is None or _content(expected) != _content(found):
                return self._difference(expected, found)
            self._matched += 1
        return None

    def _own(self, topic: str, partition: int) -> OwnOutputs:
        lane = (topic, partition)
        if lane not in self._outputs:
            reader = self._reader(lane)
            if reader.start > 0:
                reader.close()
                raise RecomputeImpossible(f"{lane_of(*lane)} is only kept from offset {reader.start} on.")
            self._outputs[lane] = OwnOutputs(reader, self._core.source, self._engine.codec, self._before)
        return self._outputs[lane]

    def _difference(self, expected: Outgoing, found: RawRecord | None) -> Difference:
        value = None if found is None else found.value
        return Difference(expected.topic, expected.partition, self._followed, expected.value, value)

    def _compare_rest(self) -> Difference | None:
        """Look for records of this source that follow from nothing."""
        for (topic, partition), end in self._ends_before.items():
            if end > 0:
                found = self._own(topic, partition).next()
                if found is not None and found.offset < end:
                    return Difference(topic, partition, self._followed + 1, None, found.value)
        return None


def _content(record: Outgoing | RawRecord) -> tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]:
    return record.key, (record.value or b"")[_FRAME_BYTES:], tuple(record.headers)


def _shard_row(connection: psycopg.Connection[Any], core: ShardCore) -> ShardRow:
    key = (core.hosting.name, core.shard)
    row = connection.execute(
        "SELECT generation, progress FROM shard WHERE stage = %s AND shard = %s AND progress <> ''", key
    ).fetchone()
    if row is None:
        raise RecomputeImpossible(f"{core.source} has no checkpoint.")
    unsent = connection.execute("SELECT min(batch) FROM shard_outbox WHERE stage = %s AND shard = %s", key).fetchone()
    assert unsent is not None
    return ShardRow(int(row[0]), msgspec.msgpack.decode(bytes(row[1]), type=Progress), unsent[0])
