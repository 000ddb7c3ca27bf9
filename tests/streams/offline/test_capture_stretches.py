"""A stretch of a recorded capture, stepped again from a snapshot: ingestion's outputs are equal to the byte."""

import asyncio
import gzip
import itertools
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from campaign import SETTINGS
from captures import USDM_20240808
from engine_runs import CODEC
from memory_log import MemoryLog
from msgspec.structs import replace as replaced

from infra.postgres.checkpoints import ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.patient_store import RunFacts, ShardName
from infra.settings import load_settings
from schemas.event import ORDINALS_PER_OFFSET
from schemas.market import DepthUpdate
from schemas.topics import MARKET_EVENT
from streams.composition import Run, compose
from streams.engine.one_topic import OneTopicShard
from streams.engine.ports import EngineSettings
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.engine.snapshots import SnapshotPlan
from streams.ingestion import FeedSteps, feed_hosting
from streams.offline.question import WHOLE, Question, Stretch
from streams.offline.recompute import Recomputed
from streams.offline.recompute_capture import recompute_capture_over

pytestmark = pytest.mark.slow

LINES = 1_200
CHUNK = 100
FACTS = RunFacts("cluster", "1", "toy")


@dataclass
class Ingested:
    """A capture that was read to its end, a snapshot behind every hundredth line; when each line was reached."""

    run: Run
    engine: EngineSettings
    log: MemoryLog
    reached_ns: list[int]

    def recompute(self, ask: Question) -> Recomputed:
        """Step it again."""
        return recompute_capture_over(self.run, self.engine, ask, self.log)


async def _ingest(run: Run, engine: EngineSettings, log: MemoryLog) -> list[int]:
    assert run.capture is not None
    core = ShardCore(feed_hosting(run), run.capture.name, None, CODEC, engine.instrument_partitions)
    store = ShardStore(engine.dsn, ShardName("ingestion", core.shard, "test"), durable=False)
    shard = OneTopicShard(core, store, FACTS, Sender(SimpleNamespace(producer=log)), 3600.0)
    shard.snapshots = SnapshotPlan(1e-9, 72)
    await shard.take_up(await store.claim(FACTS))
    steps, reached = FeedSteps(core, next(iter(run.instruments)), live=False), []
    for record in run.capture.records():
        steps.take(record, record.position, 17)
        reached.append(core.reached_ns)
        if len(reached) % CHUNK == 0:
            await shard.flush()
            await shard.checkpoint()
    steps.close()
    await shard.flush()
    await shard.checkpoint()
    await shard.close()
    return reached


@pytest.fixture
def ingested(database: str, tmp_path: Path) -> Ingested:
    """The beginning of a capture, read by a worker's shard."""
    path = tmp_path / USDM_20240808.name
    with gzip.open(USDM_20240808, "rb") as whole, gzip.open(path, "wb", compresslevel=1) as part:
        part.writelines(itertools.islice(whole, LINES))
    run = compose(load_settings(SETTINGS, {"run.clock": "capture", "feed.kind": "capture", "feed.paths": [str(path)]}))
    migrate(database)
    engine = EngineSettings(
        bootstrap="none",
        dsn=database,
        instrument_partitions=run.settings.kafka.instrument_partitions,
        settings_hash="toy",
        code_version="1",
        codec=CODEC,
    )
    log = MemoryLog()
    return Ingested(run, engine, log, asyncio.run(_ingest(run, engine, log)))


def test_any_stretch_of_a_capture_is_equal_and_a_changed_bit_in_the_log_is_located(ingested: Ingested) -> None:
    reached = ingested.reached_ns
    whole = ingested.recompute(WHOLE)
    assert (whole.first_difference, whole.inputs) == (None, LINES + 1), "the end is an input, too"
    assert whole.matched == whole.outputs == sum(map(len, ingested.log.lanes.values()))
    begin, end = reached[550], reached[850]
    for ask in (Question(Stretch(begin, end)), Question(Stretch(begin, None)), Question(Stretch(None, end))):
        stretch = ingested.recompute(ask)
        assert (stretch.first_difference, stretch.matched) == (None, stretch.outputs)
        expected = sum(not ask.stretch.is_over(at) and ask.stretch.has_begun(at) for at in reached)
        assert stretch.inputs == expected + (ask.stretch.to_ns is None)
    middle = ingested.recompute(Question(Stretch(begin, end)))
    assert middle.since_batch > 0
    assert 0 < middle.lead_in <= 2 * CHUNK

    for lane, records in ingested.log.lanes.items():
        for place, record in enumerate(records):
            event = CODEC.decode(MARKET_EVENT.name, record.value)
            line = event.seq // ORDINALS_PER_OFFSET
            if isinstance(event, DepthUpdate) and line > 600 and reached[line] <= end:
                spoilt = replaced(event, last_update_id=event.last_update_id ^ 1)
                records[place] = replaced(record, value=CODEC.encode(lane[0], spoilt))
                found = ingested.recompute(Question(Stretch(begin, end))).first_difference
                assert found is not None
                assert (found.topic, found.partition, found.number) == (*lane, event.seq)
                assert (found.cause.lane, found.cause.offset) == (None, line)
                assert [field.path for field in found.fields] == ["last_update_id"]
                assert ingested.recompute(Question(Stretch(None, reached[line] - 1))).first_difference is None
                return
    raise AssertionError("the capture has no depth")
