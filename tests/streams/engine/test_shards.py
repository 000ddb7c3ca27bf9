"""Where a worker reads on when several of its stages read one topic, and what it refuses."""

from typing import Any, cast

import msgspec
import pytest
from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS
from faust.types import TP

from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from schemas.topics import DECISION, MARKET_MARK
from streams.engine.lane import lane_of
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings, WorkerFailed
from streams.engine.shard import Progress, ShardCore
from streams.engine.shards import Shards, hosted_partitions, shard_key

MARKS = TP(MARKET_MARK.name, 0)
ENGINE = EngineSettings(
    bootstrap="none", dsn="", instrument_partitions=PARTITIONS, settings_hash="", code_version="", codec=CODEC
)


def _held(stage: str, offsets: dict[str, int]) -> OutboxShard:
    core = ShardCore(HOSTINGS[stage], "0", 0, CODEC, PARTITIONS)
    core.restore(msgspec.msgpack.encode(Progress(next_offsets=offsets)), {}, 1)
    store = ShardStore("", ShardName(stage, "0", "test"), durable=True)
    return OutboxShard(core, store, RunFacts("", "", ""), cast(Any, None), 100)


def _shards(decider: dict[str, int], feedback: dict[str, int]) -> Shards:
    hostings = [HOSTINGS["decider"], HOSTINGS["feedback"]]
    shards = Shards(ENGINE, hostings, "test", cast(Any, None))
    shards.running["decider", "0"] = _held("decider", decider)
    shards.running["feedback", "0"] = _held("feedback", feedback)
    return shards


def test_two_stages_on_a_topic_read_on_from_the_lower_checkpoint() -> None:
    lane = lane_of(*MARKS)
    assert _shards({lane: 70}, {lane: 50}).target(MARKS, 0, 100) == 50


def test_a_stage_that_has_read_nothing_yet_misses_nothing_for_its_neighbour() -> None:
    assert _shards({lane_of(*MARKS): 70}, {}).target(MARKS, 0, 100) == 0
    assert _shards({}, {}).target(MARKS, 12, 100) == 12, "nobody was here: from what is kept"


@pytest.mark.parametrize(("start", "end"), [(60, 100), (0, 49)])
def test_a_checkpoint_outside_the_log_is_refused_with_2(start: int, end: int) -> None:
    lane = lane_of(*MARKS)
    with pytest.raises(WorkerFailed, match="records are missing") as refused:
        _shards({lane: 70}, {lane: 50}).target(MARKS, start, end)
    assert refused.value.exit_code == 2


def test_kafka_is_told_the_lowest_committed_offset() -> None:
    lane = lane_of(*MARKS)
    shards = _shards({}, {})
    shards.running["decider", "0"].committed_offsets = {lane: 7}
    shards.running["feedback", "0"].committed_offsets = {lane: 5, lane_of(DECISION.name, 0): 9}
    assert shards.committed_offsets() == {MARKS: 5, TP(DECISION.name, 0): 9}


def test_every_stage_gets_every_partition_that_it_reads() -> None:
    assignment = frozenset({MARKS, TP(DECISION.name, 0)})
    hosted = hosted_partitions({name: HOSTINGS[name] for name in ("decider", "feedback")}, assignment)
    assert {(hosting.name, tp) for hosting, tp in hosted} == {
        ("decider", MARKS),
        ("feedback", MARKS),
        ("feedback", TP(DECISION.name, 0)),
    }
    assert {shard_key(hosting, *tp) for hosting, tp in hosted} == {"0"}
