"""What shards count becomes metrics once, and what the watch sees becomes health: an outage is no reason to die."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import engine_toys
import pytest
from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS
from memory_log import MemoryLog
from patience import PATIENCE

from agents.stage import ShardState
from infra.kafka import Slot
from infra.metrics.health import Health
from infra.metrics.registry import Metrics
from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from schemas.event import Event, stamp_identity, stamp_position
from schemas.topics import MARKET_MARK
from streams.engine.flow import Flow, counted
from streams.engine.outbox import OutboxShard
from streams.engine.ports import RawRecord, WorkerFailed
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.engine.telling import Teller, Told
from streams.engine.watchdog import Held, Look, Place, Watch
from streams.simulation.virtual_time import VirtualLoop, run_virtually

FACTS = RunFacts("cluster", "1", "toy")
LIMIT_S = 80.0
HELD: Sequence[Held] = [(("voting", "3"), ("t", 3), 10)]


@dataclass
class World:
    """Broker and database, which are there when they are said to be; ten records are before every reader."""

    broker: bool = True
    database: bool = True
    clock_offset_s: float | None = None

    async def ends(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        return dict.fromkeys(slots, 20) if self.broker else {}

    async def starts(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        return dict.fromkeys(slots, 0) if self.broker else {}

    async def broker_answers(self) -> bool:
        return self.broker

    async def database_answers(self) -> bool:
        return self.database

    async def has_record(self, place: Place) -> bool:
        return True

    async def close(self) -> None:
        return None


def _teller(flow: Flow | None = None) -> Teller:
    return Teller(Metrics("toy", ["decider"]), Health(), flow or Flow())


def _told(teller: Teller, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric by its labels but the worker."""
    return {
        tuple(value for label, value in sorted(labels.items()) if label != "worker"): value
        for sample, labels, value in teller.metrics.samples()
        if sample == name
    }


@pytest.mark.parametrize("away", ["broker", "database"])
def test_an_outage_makes_it_unready_and_never_dead(away: str) -> None:
    teller, world, loop = _teller(), World(), VirtualLoop()
    health = teller.health
    health.now_s = loop.time
    health.dealt = True

    async def scenario() -> None:
        watch = Watch(LIMIT_S, world, lambda: HELD)
        watch.tell = teller.look
        running = asyncio.ensure_future(watch.run())
        beating = asyncio.ensure_future(teller.beat())
        await asyncio.sleep(6)
        assert health.ready().ok
        setattr(world, away, False)
        for _ in range(60):
            await asyncio.sleep(10)
            assert health.alive().ok
            assert health.ready().reasons == (f"the {away} does not answer",)
        assert _told(teller, f"tradermind_{away}_up") == {(): 0.0}
        setattr(world, away, True)
        await asyncio.sleep(6)
        assert health.ready().ok
        assert _told(teller, f"tradermind_{away}_up") == {(): 1.0}
        for task in (running, beating):
            task.cancel()

    run_virtually(loop, scenario())


def test_a_partition_that_is_stuck_fails_liveness_as_it_ends_the_worker() -> None:
    teller, loop = _teller(), VirtualLoop()

    async def scenario() -> None:
        watch = Watch(LIMIT_S, World(), lambda: HELD)
        watch.tell = teller.look
        with pytest.raises(WorkerFailed):
            await watch.run()

    run_virtually(loop, scenario())
    (reason,) = teller.health.alive().reasons[-1:]
    assert reason.startswith("voting/3 is stuck: t/3 ")
    assert _told(teller, "tradermind_consumer_lag_records") == {("3", "t"): 10.0}
    assert _told(teller, "tradermind_partition_still_seconds") == {("3", "t"): LIMIT_S}


def test_a_partition_that_went_elsewhere_is_not_told_any_more() -> None:
    teller = _teller()
    look = Look(True, True, 0.25, {"a.topic/0": (5, 1.0), "a.topic/1": (7, 0.0)})
    teller.look(look)
    teller.look(replace(look, lanes={"a.topic/1": (6, 0.0)}))
    assert _told(teller, "tradermind_consumer_lag_records") == {("1", "a.topic"): 6.0}
    assert _told(teller, "tradermind_clock_offset_seconds") == {("database",): 0.25}


def test_counts_are_told_once_however_often_they_are_looked_at() -> None:
    flow = Flow(now_ns=lambda: 3_000_000_000)
    teller = _teller(flow)
    flow.took("a.topic", 10)
    counted(flow.duplicates, "a.topic")
    flow.refused("a.topic", "MALFORMED")
    flow.post("b.topic", 4)
    flow.handled("decider", 0.02, 1_000_000_000, 0)
    for _ in range(3):
        teller.tell(Told({}))
    consumed = _told(teller, "tradermind_events_consumed_total")
    assert consumed == {
        ("handled", "a.topic"): 8.0,
        ("duplicate", "a.topic"): 1.0,
        ("dead_letter", "a.topic"): 1.0,
        ("skipped", "a.topic"): 0.0,
    }
    assert _told(teller, "tradermind_dlq_records_total") == {("MALFORMED", "a.topic"): 1.0}
    assert _told(teller, "tradermind_events_produced_total") == {("b.topic",): 4.0}
    assert _told(teller, "tradermind_batch_handling_seconds_count") == {("decider",): 1.0}
    assert _told(teller, "tradermind_event_age_seconds_sum") == {("decider",): 2.0}
    teller.before_scrape()
    assert _told(teller, "tradermind_freshness_seconds") == {("decider",): 2.0}


def test_on_a_capture_ages_are_counted_from_when_a_record_was_written() -> None:
    flow = Flow(on_capture=True, now_ns=lambda: 5_000_000_000)
    flow.handled("experts", 0.1, 1, 4_000_000_000)
    assert flow.batches[0].age_s == 1.0


class Broken:
    """An observer with an error of ours in it."""

    kept: frozenset[type[Event]] = frozenset()
    timed: frozenset[type[Event]] = frozenset()

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        del outputs, took_s

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        raise KeyError("SIM:GONE")


def test_an_error_in_what_is_only_looked_at_ends_nothing_and_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    teller, loop = _teller(), VirtualLoop()

    async def scenario() -> None:
        telling = asyncio.ensure_future(teller.run(lambda: Told({}, observers=[Broken()])))
        await asyncio.sleep(4.5)
        assert not telling.done()
        telling.cancel()

    run_virtually(loop, scenario())
    assert _told(teller, "tradermind_metrics_errors_total") == {(): 5.0}
    assert "the metrics cannot be told" in teller.health.ready().reasons
    assert len(caplog.records) == 1, "said once, not every second"


def _marks(count: int) -> list[RawRecord]:
    records = []
    for number in range(count):
        event = engine_toys.mark("TOY:I1", 100 + number, number, number)
        stamp_identity(event, f"mark {number}", "toy", 0)
        stamp_position(event, "toy", 1, number + 1)
        value = CODEC.encode(MARKET_MARK.name, event)
        records.append(RawRecord(MARKET_MARK.name, 0, number, b"TOY:I1", value, (), 1_000))
    return records


def test_a_batch_of_a_running_shard_is_counted_by_topic_and_timed(database: str) -> None:
    flow, log = Flow(), MemoryLog()

    async def scenario() -> None:
        core = ShardCore(HOSTINGS["decider"], "0", 0, CODEC, PARTITIONS)
        core.flow = flow
        store = ShardStore(database, ShardName("decider", "0", "test"), durable=True)
        shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=log), flow), 5)
        await shard.take_up(await store.claim(FACTS))
        running = asyncio.ensure_future(shard.run())
        await shard.offer(_marks(50))
        async with asyncio.timeout(20):
            while not flow.batches or shard.pending_records:
                await asyncio.sleep(0.005)
        assert shard.checkpoint_age_s < 5 * PATIENCE
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    assert flow.records == {MARKET_MARK.name: 50}
    assert flow.newest_ns["decider"] == 49
    (batch,) = flow.batches
    assert batch.stage == "decider" and 0 < batch.took_s < 20
