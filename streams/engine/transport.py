"""A Faust transport that hands over lists of records, and whose offsets live in our checkpoints.

Stock Faust makes four asyncio tasks per record, commits past records that failed, and reads what an aborted
transaction wrote. A chunk is one Faust message whose
value is the list of raw records; Kafka's group offset follows the checkpoints and decides nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import faust
from aiokafka.consumer import fetcher
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message
from faust.types.tuples import ConsumerMessage

from streams.engine.assignor import CopartitionAssignor
from streams.engine.ports import RawRecord
from streams.engine.producing import IdempotentProducer

_CREATE_TIME: Final = 0
SeekTargets = Callable[[frozenset[TP]], Awaitable[Mapping[TP, int]]]
CommittedOffsets = Callable[[], Mapping[TP, int]]


class Checkpoints:
    """The two hooks between the transport and the worker's shards. The worker fills them before the app starts."""

    seek_targets: SeekTargets
    committed_offsets: CommittedOffsets
    fetch_wait_ms: int = 10
    fetch_bytes_min: int = 1
    assignment_number: int = 0
    fetched_under: int = 0
    """The assignment under which the newest fetch was taken out of aiokafka's buffers."""


def checkpoints_of(app: Any) -> Checkpoints:
    """Return the hooks that the worker has hung on its app."""
    hooks: Checkpoints = app.tradermind_checkpoints
    return hooks


class ChunkSchema(faust.Schema):  # type: ignore[type-arg]
    """Leaves a chunk as it is: decoding is the wrapper's work, so that a bad record never reaches Faust."""

    def loads_key(self, app: Any, message: Message, **kwargs: Any) -> Any:
        """Return no key: a chunk has none."""
        del app, message, kwargs

    def loads_value(self, app: Any, message: Message, **kwargs: Any) -> Any:
        """Return the list of raw records."""
        del app, kwargs
        return message.value


class RawPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """What was fetched of a partition, each record made once, as what the shards take.

    aiokafka makes a dataclass of eleven fields of each, of which seven were copied into ours: a sixth of all that a
    record cost us.
    """

    def _consumer_record(self, tp: Any, record: Any) -> RawRecord:
        return RawRecord(
            tp.topic, tp.partition, record.offset, record.key, record.value, record.headers, record.timestamp
        )


class ChunkConsumerThread(driver.AIOKafkaConsumerThread):
    """Reads committed records only, and waits for new ones as long as the column wants."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        # The fetcher names its class of records by this and takes no other; all of a worker's consumers are ours.
        fetcher.PartitionRecords = RawPartitionRecords
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._partition_assignment_strategy = [CopartitionAssignor]
        consumer._fetch_max_wait_ms = checkpoints_of(self.app).fetch_wait_ms
        consumer._fetch_min_bytes = checkpoints_of(self.app).fetch_bytes_min
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        """Fetch; what a call that waited through a rebalance has taken is put back, since nobody waits for it."""
        hooks = checkpoints_of(self.app)
        begun_under = hooks.assignment_number
        records = await super()._fetch_records(consumer, *args, **kwargs)
        # Nothing has been awaited since the records were taken: a seek came either before all of them or comes yet.
        hooks.fetched_under = hooks.assignment_number
        if begun_under != hooks.fetched_under:
            put_back(consumer, records)
            return {}
        return records


def put_back(consumer: Any, records: Mapping[Any, list[RawRecord]]) -> None:
    """Let aiokafka's consumer give records again that it has just given, wherever it still has the partition."""
    for partition, taken in records.items():
        if partition in consumer.assignment():
            consumer.seek(partition, taken[0].offset)


class ChunkConsumer(driver.Consumer):
    """Delivers chunks, seeks to our checkpoints, and commits what they have passed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._buffer_dropped = asyncio.Event()
        super().__init__(*args, **kwargs)
        self._hooks: Checkpoints = checkpoints_of(self.app)

    def _new_consumer_thread(self) -> Any:
        return ChunkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_drop(self, tp: TP) -> None:
        """Wake the fetcher at once when a full buffer has room again."""
        super().on_buffer_drop(tp)
        self._buffer_dropped.set()

    async def _wait_next_records(self, timeout: float) -> Any:
        # Stock Faust sleeps one second when every partition is full; here the room itself wakes the fetcher.
        if self.flow_active and not self.app.client_only and not self._get_active_partitions():
            self._buffer_dropped.clear()
            try:
                async with asyncio.timeout(0.05):
                    await self._buffer_dropped.wait()
            except TimeoutError:
                return {}, set()
        return await super()._wait_next_records(timeout)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield one message per partition and fetch; its value is the list of records, its offset the last one's."""
        records, _ = await self._wait_next_records(timeout)
        # Read here it could be the next assignment's, whose checkpoint these records do not follow.
        fetched_under = self._hooks.fetched_under
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            # Every end of a rebalance seeks before the flow goes on. Stock Faust seeks here as well, in the middle of
            # it: that would claim again what has just been let go of, or claim a new assignment twice.
            return
        for partition, fetched in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            # Whatever was fetched is delivered, paused or not: dropping what a paused partition had would lose it.
            tp = ensure_TP(partition)
            yield tp, self._chunk(tp, fetched, fetched_under)

    def _chunk(self, tp: TP, fetched: Any, fetched_under: int) -> ConsumerMessage:
        last = fetched[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp_ms / 1000.0,
            _CREATE_TIME,
            [("assignment", str(fetched_under).encode())],
            None,
            fetched,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its checkpoint, which is read here, and return the offsets."""
        targets = await self._hooks.seek_targets(frozenset(self.assignment()))
        if targets:
            await self.seek_wait(targets)
        return targets

    async def committed_offset(self, tp: TP) -> int | None:
        """Return the offset that the group has committed, or None."""
        consumer = self._thread._ensure_consumer()
        committed: int | None = await self._thread.call_thread(consumer.committed, driver.ensure_aiokafka_TP(tp))
        return committed

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no account of gaps: our checkpoints do."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        del topics
        return iter(self._hooks.committed_offsets())

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._hooks.committed_offsets().get(tp)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing: Faust's stuck-stream warnings compare with acknowledgements that we do not use."""


class ChunkTransport(driver.Transport):
    """The transport of every TraderMind worker."""

    Consumer = ChunkConsumer
    Producer = IdempotentProducer
