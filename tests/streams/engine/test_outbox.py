"""When a batch is committed, and when its outbox rows go: against a real database, with a producer that is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS, mark

from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from schemas.event import Event, stamp_identity, stamp_position
from schemas.opinions import AlertLevel, AnomalyAlert
from schemas.orders import Claimed
from schemas.topics import EXPERT_ALERT, MARKET_MARK, Topic
from streams.engine.journal import External, Segment, decode_inputs
from streams.engine.lane import lane_of
from streams.engine.outbox import OutboxShard
from streams.engine.ports import Outgoing, RawRecord, WorkerFailed
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore

FACTS = RunFacts("cluster", "1", "toy")
FOREVER_MS = 3_600_000
ALERTS = lane_of(EXPERT_ALERT.name, 0)
MARKS = lane_of(MARKET_MARK.name, 0)


@dataclass
class HeldProducer:
    """Takes every record and acknowledges none before it is told to."""

    pending: list["asyncio.Future[Any]"] = field(default_factory=list)

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records."""
        self.pending.append(asyncio.get_running_loop().create_future())
        return [Acknowledgement(topic, partition, self.pending[-1], len(records) - 1)]

    def acknowledge(self) -> None:
        """Answer everything that waits."""
        for offset, future in enumerate(self.pending):
            if not future.done():
                future.set_result(SimpleNamespace(topic="t", partition=0, offset=offset))


def _record(topic: Topic, event: Event, offset: int) -> RawRecord:
    stamp_identity(event, f"{topic.name}/{offset}", "toy", 0)
    stamp_position(event, "toy", 1, offset + 1)
    return RawRecord(topic.name, 0, offset, event.key.encode(), CODEC.encode(topic.name, event), (), 0)


def _alert(offset: int) -> RawRecord:
    facts: dict[str, Any] = {"level": AlertLevel.HIGH, "kind": "toy", "score": 1.0, "detail": ""}
    event = AnomalyAlert(key="SIM:A", event_time_ns=1, available_at_ns=1, **facts)
    return _record(EXPERT_ALERT, event, offset)


def _mark(offset: int) -> RawRecord:
    return _record(MARKET_MARK, mark("SIM:A", 100, offset, 1), offset)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _running(database: str, producer: HeldProducer, linger_ms: int) -> AsyncIterator[OutboxShard]:
    hosting = replace(HOSTINGS["decider"], event_types=(Claimed,))
    core = ShardCore(hosting, "0", 0, CODEC, PARTITIONS)
    store = ShardStore(database, ShardName("decider", "0", "test"), durable=True)
    shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=producer)), linger_ms)
    await shard.take_up(await store.claim(FACTS))
    running = asyncio.ensure_future(shard.run())
    try:
        # What came from elsewhere (here the claim itself) is committed at once.
        await _until(lambda: shard.core.counters.batches == 1 or running.done())
        yield shard
    finally:
        if running.done():
            running.result()  # A shard that ended by itself says why.
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _outbox_batches(database: str) -> list[int]:
    with psycopg.connect(database) as connection:
        return [int(row[0]) for row in connection.execute("SELECT batch FROM shard_outbox ORDER BY batch")]


def _journal(database: str, batch: int) -> list[Any]:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT inputs FROM shard_journal WHERE batch = %s", (batch,)).fetchone()
    assert row is not None
    return [entry for entry in decode_inputs(bytes(row[0])) if not isinstance(entry, External)]


def test_inputs_with_nothing_to_say_wait_for_one_that_has(database: str) -> None:
    migrate(database)

    async def scenario() -> None:
        async with _running(database, HeldProducer(), FOREVER_MS) as shard:
            await shard.offer([_alert(0)])
            await _until(lambda: shard.core.counters.records == 1)
            await shard.offer([_alert(1), _alert(2)])
            await _until(lambda: shard.core.counters.records == 3)
            assert shard.core.counters.batches == 1
            assert shard.committed_offsets == {}
            await shard.offer([_mark(0)])
            await _until(lambda: shard.committed_offsets.get(ALERTS) == 3)
            assert shard.core.counters.batches == 2

    asyncio.run(scenario())
    assert _journal(database, 2) == [Segment(EXPERT_ALERT.name, 0, 0, 2), Segment(MARKET_MARK.name, 0, 0, 0)]


def test_inputs_with_nothing_to_say_are_kept_all_the_same_when_their_time_has_come(database: str) -> None:
    migrate(database)

    async def scenario() -> None:
        async with _running(database, HeldProducer(), 20) as shard:
            await shard.offer([_alert(0)])
            await _until(lambda: shard.committed_offsets.get(ALERTS) == 1)

    asyncio.run(scenario())


def test_what_is_not_acknowledged_stays_in_the_outbox_and_keeps_nobody_waiting(database: str) -> None:
    migrate(database)
    producer = HeldProducer()

    async def scenario() -> None:
        async with _running(database, producer, FOREVER_MS) as shard:
            for offset in range(3):
                await shard.offer([_mark(offset)])
                await _until(lambda: len(producer.pending) == offset + 1)  # noqa: B023
            assert _outbox_batches(database) == [2, 3, 4]
            producer.acknowledge()
            for offset in (3, 4):  # The acknowledgements may be noted just after the first of the two commits.
                await shard.offer([_mark(offset)])
                await _until(lambda: len(producer.pending) == offset + 1)  # noqa: B023
            assert set(_outbox_batches(database)) <= {5, 6}

    asyncio.run(scenario())


def test_a_record_that_kafka_refuses_ends_the_shard(database: str) -> None:
    migrate(database)
    producer = HeldProducer()

    async def scenario() -> None:
        hosting = replace(HOSTINGS["decider"], event_types=(Claimed,))
        store = ShardStore(database, ShardName("decider", "0", "test"), durable=True)
        sender = Sender(SimpleNamespace(producer=producer))
        shard = OutboxShard(ShardCore(hosting, "0", 0, CODEC, PARTITIONS), store, FACTS, sender, FOREVER_MS)
        await shard.take_up(await store.claim(FACTS))
        running = asyncio.ensure_future(shard.run())
        await shard.offer([_mark(0)])
        await _until(lambda: len(producer.pending) == 1)
        producer.pending[0].set_exception(ConnectionError("not leader"))
        with pytest.raises(WorkerFailed, match="Kafka did not take a record"):
            await running

    asyncio.run(scenario())
    assert _outbox_batches(database) == [2], "whoever comes next sends it"


class FullProducer(HeldProducer):
    """Takes nothing: its buffers are full, and the broker does not answer."""

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Wait for ever."""
        await asyncio.Event().wait()
        raise AssertionError("for ever has ended")


def test_a_producer_that_takes_nothing_keeps_no_stage_waiting(database: str) -> None:
    """What people order with Kafka down must be carried out, however much there is to be told by Kafka."""
    migrate(database)

    async def scenario() -> None:
        async with _running(database, FullProducer(), FOREVER_MS) as shard:
            for offset in range(40):
                await shard.offer([_mark(offset)])
                await _until(lambda: shard.committed_offsets.get(MARKS) == offset + 1)  # noqa: B023

    asyncio.run(scenario())
    assert _outbox_batches(database) == list(range(2, 42)), "and all of it is there for the next holder to send"
