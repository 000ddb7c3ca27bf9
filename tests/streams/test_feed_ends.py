"""A feed lets its worker end at any moment, also at the one in which a record comes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

from campaign import SETTINGS
from engine_runs import CODEC
from memory_log import MemoryLog

from infra.postgres.checkpoints import ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.patient_store import RunFacts, ShardName
from infra.settings import load_settings
from schemas.feed import FeedRecord
from streams.composition import Run, compose
from streams.engine.one_topic import OneTopicShard
from streams.engine.ports import StageHosting
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.ingestion import FeedResident

FACTS = RunFacts("cluster", "1", "toy")
WAITING_S = 0.02


@dataclass
class OneRecordFeed:
    """A connection with one record; ``then`` happens when the record is handed over, and before anybody has it."""

    then: list[Callable[[], object]] = field(default_factory=list)
    generation: int = 1

    async def records(self) -> AsyncIterator[FeedRecord]:
        """Yield the record when whoever reads has come to wait for it, and nothing more."""
        await asyncio.sleep(WAITING_S)
        yield FeedRecord(position=0, events=())
        for act in self.then:
            act()
        await asyncio.Event().wait()

    async def request_snapshot(self, instrument: str) -> bool:
        """Nothing is asked for here."""
        return False

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Opener:
    """A worker with one shard, which keeps its place in Postgres."""

    run: Run
    dsn: str

    async def open_shard(self, hosting: StageHosting, key: str, partition: int | None) -> OneTopicShard:
        """Claim it."""
        core = ShardCore(hosting, key, partition, CODEC, self.run.settings.kafka.instrument_partitions)
        store = ShardStore(self.dsn, ShardName(hosting.name, key, "test"), durable=False)
        shard = OneTopicShard(core, store, FACTS, Sender(SimpleNamespace(producer=MemoryLog())), 3600.0)
        await shard.take_up(await store.claim(FACTS))
        return shard


def test_it_ends_when_a_record_comes_at_the_same_moment(database: str) -> None:
    async def scenario() -> bool:
        run = compose(load_settings(SETTINGS, environment={}))
        feed = OneRecordFeed()
        living = asyncio.ensure_future(FeedResident(run, feed, "feed").run(Opener(run, database)))
        feed.then.append(living.cancel)
        await asyncio.wait({living}, timeout=20)
        return living.cancelled()

    migrate(database)
    assert asyncio.run(scenario()), "it goes on reading, and its worker never ends"
