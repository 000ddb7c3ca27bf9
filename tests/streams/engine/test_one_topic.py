"""What a one-topic shard's checkpoint may hold: never more than Kafka has, never less than was stepped."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS

from infra.postgres.patient_store import Checkpoint, Commit, PatientStore, RunFacts
from schemas.event import stamp_identity, stamp_position
from schemas.market import Trade
from schemas.topics import MARKET_EVENT
from streams.engine.lane import lane_of
from streams.engine.one_topic import OneTopicShard
from streams.engine.ports import Outgoing, RawRecord
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender
from streams.engine.shard import Progress, ShardCore

FACTS = RunFacts("cluster", "1", "toy")
LANE = lane_of(MARKET_EVENT.name, 0)


@dataclass
class SlowProducer:
    """Acknowledges after some turns of the loop; remembers what it was given."""

    sent: list[Any] = field(default_factory=list)

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records."""
        done = asyncio.get_running_loop().create_future()
        answer = SimpleNamespace(offset=len(self.sent))
        self.sent += records
        asyncio.get_running_loop().call_later(0.02, lambda: done.done() or done.set_result(answer))
        return [Acknowledgement(topic, partition, done, len(records) - 1)]


class HeldStore(PatientStore):
    """Keeps what is committed once the gate is open."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()

    @property
    def epoch(self) -> int:
        """The one epoch there is."""
        return 1

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        """Give an empty shard."""
        return Checkpoint(1, 1, 0, b"", {}, (), facts.cluster_id, facts.code_version, facts.settings_hash, True)

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        """Write when the gate is open."""
        self.asked.set()
        await self.gate.wait()
        self.commits.append(commit)

    async def keep_once(self, hours: int) -> None:
        """Keep nothing."""

    async def is_written(self, batch: int) -> bool | None:
        """Nothing is ever lost here."""
        return True

    async def close(self) -> None:
        """Nothing to give back."""


def _trade(offset: int) -> RawRecord:
    event = Trade(
        key="SIM:A", event_time_ns=1, available_at_ns=1, trade_id=str(offset), price=1, quantity=1, aggressor=None
    )
    stamp_identity(event, str(offset), "toy", 0)
    stamp_position(event, "toy", 1, offset + 1)
    key = event.key.encode()
    return RawRecord(MARKET_EVENT.name, _partition(), offset, key, CODEC.encode(MARKET_EVENT.name, event), (), 0)


def _partition() -> int:
    from schemas.partition import partition_of

    return partition_of("SIM:A", PARTITIONS)


async def _shard(store: HeldStore, producer: SlowProducer, interval_s: float) -> OneTopicShard:
    core = ShardCore(HOSTINGS["experts"], lane_of(MARKET_EVENT.name, _partition()), _partition(), CODEC, PARTITIONS)
    shard = OneTopicShard(core, store, FACTS, Sender(SimpleNamespace(producer=producer)), interval_s)
    await shard.take_up(await store.claim(FACTS))
    return shard


def test_after_a_checkpoint_that_was_cut_off_none_is_written_any_more() -> None:
    """The cut-off one has taken the touched keys with it: a later one would move on without their values."""

    async def scenario() -> list[Commit]:
        store = HeldStore()
        shard = await _shard(store, SlowProducer(), 0.05)
        background = asyncio.ensure_future(shard.run())
        await shard.offer([_trade(0)])
        await store.asked.wait()
        waiting = asyncio.ensure_future(shard.offer([_trade(1)]))  # It waits for the lock that the checkpoint holds.
        await asyncio.sleep(0.1)
        background.cancel()
        store.gate.set()
        await asyncio.gather(waiting, background, return_exceptions=True)
        await shard.offer([_trade(1)])
        await shard.close()
        return store.commits

    assert asyncio.run(scenario()) == []


def test_a_checkpoint_passes_nothing_that_is_not_sent_however_a_feed_goes_on_meanwhile() -> None:
    async def scenario() -> None:
        store, producer = HeldStore(), SlowProducer()
        store.gate.set()
        shard = await _shard(store, producer, 3600.0)
        await shard.offer([_trade(0)])
        writing = asyncio.ensure_future(shard.checkpoint(always=True))
        await asyncio.sleep(0.005)  # It waits for acknowledgements; a feed steps by itself meanwhile.
        shard.core.take(_trade(1))
        await writing
        progress = msgspec.msgpack.decode(store.commits[-1].progress, type=Progress)
        passed = next(iter(progress.next_offsets.values()))
        marks = sum("market.mark" in record.topic for record in producer.sent)
        assert (passed, marks) == (2, 2), "a mark follows each trade"

    asyncio.run(scenario())
