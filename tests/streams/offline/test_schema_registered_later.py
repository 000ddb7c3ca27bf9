"""What was refused for want of its schema stays refused, in the next life and in a recomputation."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from engine_runs import CODEC, trade
from engine_toys import HOSTINGS, PARTITIONS, mark
from memory_log import MemoryLog
from registry_server import RegistryServer, registry_server

from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.registry_table import RegistryTable, open_registry_table
from infra.settings_registry import RegistrySettings
from schemas.codec import Codec
from schemas.event import stamp_identity, stamp_position
from schemas.ingress import IngestTrade
from schemas.schema_table import subject_schemas
from schemas.topics import DECISION, INGEST_TRADE, MARKET_EVENT, MARKET_MARK
from streams.engine.lane import lane_of
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.offline.question import WHOLE, Question, Stretch
from streams.offline.recompute import Recomputed, recompute_shard_over

LATER = 4711
"""The id that is registered in the course of the test."""
FACTS = RunFacts("cluster", "1", "toy")
INGRESS = HOSTINGS["ingress.trade"]
DECIDER = replace(HOSTINGS["decider"], wall_clock=False)
TRADES = (INGEST_TRADE.name, 0)
MARKS = (MARKET_MARK.name, 0)
UNREAD = (1, 2, 5)
"""Which of the records are written with that id."""


@dataclass
class Line:
    """One toy stage over a log in memory, Postgres, and a registry that learns the id when it is told."""

    dsn: str
    server: RegistryServer
    directory: Path
    log: MemoryLog = field(default_factory=MemoryLog)

    def register(self) -> None:
        """Register both schemas that the stages may meet under the one id, of which each stage meets one."""
        (subject,) = {INGEST_TRADE.subject(IngestTrade)} if TRADES in self.log.lanes else {self._mark_subject()}
        self.server.extra[LATER] = {"schema": json.dumps(subject_schemas()[subject])}

    def _mark_subject(self) -> str:
        return MARKET_MARK.subject(MARKET_MARK.records[0])

    def table(self, *, blocking: bool = False) -> RegistryTable:
        """Return what a worker that comes up now knows of the registry."""
        settings = RegistrySettings(url=self.server.url, timeout_ms=2_000)
        return open_registry_table(settings, self.directory, blocking=blocking)

    def write(self, lane: tuple[str, int], key: str, value: bytes, number: int) -> None:
        """Write a record, framed with the later id where it is its turn."""
        framed = b"\0" + LATER.to_bytes(4, "big") + value[5:] if number in UNREAD else value
        self.log.append(lane, key.encode(), framed)

    async def one_topic(self, records: list[RawRecord], *, checkpoint: bool) -> ShardCore:
        """Let a worker come up and step records; without a checkpoint it is killed after it has sent all."""
        table = self.table()
        await table.learn(records)
        core = ShardCore(INGRESS, lane_of(*TRADES), 0, Codec(table), PARTITIONS)
        store = ShardStore(self.dsn, ShardName("ingress.trade", core.shard, "test"), durable=False)
        shard = OneTopicShard(core, store, FACTS, Sender(SimpleNamespace(producer=self.log)), 3600.0)
        await shard.take_up(await store.claim(FACTS))
        for first in range(0, len(records), 2):
            await shard.offer(records[first : first + 2])
        if checkpoint:
            await shard.close()
        await store.close()
        return core

    async def outbox(self, records: list[RawRecord]) -> None:
        """Let a worker come up, step records and end."""
        table = self.table()
        await table.learn(records)
        core = ShardCore(DECIDER, "0", 0, Codec(table), PARTITIONS)
        store = ShardStore(self.dsn, ShardName("decider", "0", "test"), durable=True)
        shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=self.log)), 100)
        await shard.take_up(await store.claim(FACTS))
        running = asyncio.ensure_future(shard.run())
        async with asyncio.timeout(20):
            for record in records:
                await shard.offer([record])
                while shard.committed_offsets.get(lane_of(*MARKS), 0) <= record.offset:
                    await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def recompute(self, hosting: StageHosting, ask: Question = WHOLE) -> Recomputed:
        """Recompute as ``replay --verify`` does, with what the registry knows by now."""
        facts: dict[str, Any] = {"instrument_partitions": PARTITIONS, "settings_hash": "toy", "code_version": "1"}
        engine = EngineSettings(bootstrap="none", dsn=self.dsn, codec=Codec(self.table(blocking=True)), **facts)
        shard = "0" if hosting.kind is StageKind.OUTBOX else lane_of(*TRADES)
        return recompute_shard_over(engine, hosting, shard, ask, self.log)

    def forget_refusals(self) -> None:
        """Take away what the shards have written down about them."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute("DELETE FROM shard_journal WHERE stage = 'ingress.trade'")


@pytest.fixture
def line(database: str, tmp_path: Path) -> Iterator[Line]:
    migrate(database)
    with registry_server() as server:
        yield Line(database, server, tmp_path)


def _trades(line: Line) -> list[RawRecord]:
    for number in range(8):
        event = IngestTrade(event_id=f"e{number}", instrument="TOY:I1", event_time_ns=1, trade_id="t", price=number + 1)
        line.write(TRADES, event.instrument, CODEC.encode(INGEST_TRADE.name, event), number)
    return line.log.lanes[TRADES]


def _marks(line: Line) -> list[RawRecord]:
    for number in range(8):
        event = mark(trade(1).key, number + 1, number + 1, number + 1)
        stamp_identity(event, f"cause {number}", "experts", 0)
        stamp_position(event, "experts/0", 1, number + 1)
        line.write(MARKS, event.key, CODEC.encode(MARKET_MARK.name, event), number)
    return line.log.lanes[MARKS]


def test_a_stage_of_one_topic_refuses_the_same_when_it_is_recomputed(line: Line) -> None:
    core = asyncio.run(line.one_topic(_trades(line), checkpoint=True))
    assert core.counters.by_reason == {"SCHEMA_UNKNOWN": 3}
    assert core.progress.letters.unread == {}, "what is in the journal does not weigh on every checkpoint"
    line.register()
    again = line.recompute(INGRESS)
    assert (again.first_difference, again.inputs, again.matched) == (None, 8, 5)
    line.forget_refusals()
    assert line.recompute(INGRESS).first_difference is not None, "the registry alone would say otherwise"


def test_a_worker_that_is_killed_before_its_checkpoint_refuses_the_same_when_it_comes_up(line: Line) -> None:
    """Its outputs lie in the log: what it refused may not come between them now."""
    records = _trades(line)
    asyncio.run(line.one_topic(records, checkpoint=False))
    first = list(line.log.lanes[MARKET_EVENT.name, _market_lane(line)])
    line.register()
    core = asyncio.run(line.one_topic(records, checkpoint=True))
    assert core.counters.by_reason == {"SCHEMA_UNKNOWN": 3}
    lane = (MARKET_EVENT.name, _market_lane(line))
    second = line.log.lanes[lane][len(first) :]
    assert [one.value for one in second] == [one.value for one in first]
    again = line.recompute(INGRESS)
    assert (again.first_difference, again.matched) == (None, 5)


def test_what_comes_after_the_registration_is_read(line: Line) -> None:
    records = _trades(line)
    asyncio.run(line.one_topic(records[:4], checkpoint=True))
    line.register()
    core = asyncio.run(line.one_topic(records, checkpoint=True))
    assert core.counters.by_reason == {}
    again = line.recompute(INGRESS)
    assert (again.first_difference, again.inputs, again.matched) == (None, 8, 6)


def test_a_stage_that_decides_refuses_the_same_whole_and_in_a_stretch(line: Line) -> None:
    records = _marks(line)
    asyncio.run(line.outbox(records))
    assert len(line.log.lanes[MARKET_MARK.dead_letters, 0]) == len(UNREAD)
    line.register()
    outputs = len(line.log.lanes[DECISION.name, 0])
    whole = line.recompute(DECIDER)
    assert (whole.first_difference, whole.inputs, whole.matched) == (None, 8, outputs)
    part = line.recompute(DECIDER, Question(Stretch(4, 8)))
    assert part.first_difference is None
    assert part.inputs < 8


def _market_lane(line: Line) -> int:
    ((_, partition),) = (lane for lane in line.log.lanes if lane[0] == MARKET_EVENT.name)
    return partition
