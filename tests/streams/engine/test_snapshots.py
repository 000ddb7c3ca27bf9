"""When a shard is kept whole: every interval, in a quiet moment if there is one, and never twice in a hurry."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest

from infra.postgres.patient_store import Checkpoint, Commit, PatientStore, RunFacts
from schemas.topics import DECISION, INGEST_TRADE, MARKET_EVENT, MARKET_MARK
from streams.engine.ports import StageHosting, StageKind
from streams.engine.snapshots import SnapshotPlan, snapshot_hours
from streams.simulation.virtual_time import VirtualLoop, run_virtually

FRESH = Checkpoint(1, 1, 0, b"", {}, (), "", "", "", True)


class CountingStore(PatientStore):
    """Remembers when it was asked to keep; answers, or is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.kept_at: list[float] = []
        self.away = away

    @property
    def epoch(self) -> int:
        """The one epoch."""
        return 1

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        """Give an empty shard."""
        return FRESH

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        """Nothing is written here."""

    async def is_written(self, batch: int) -> bool | None:
        """Nothing was."""
        return False

    async def keep_once(self, hours: int) -> None:
        """Note the time."""
        assert hours == 72
        self.kept_at.append(asyncio.get_running_loop().time())
        if self.away:
            raise psycopg.OperationalError("away")

    async def close(self) -> None:
        """Nothing to give back."""


def _kept(
    plan: SnapshotPlan, checkpoint: Checkpoint, store: CountingStore, quiet: Callable[[int], bool]
) -> list[float]:
    """Commit every 10 s for 20 minutes; return the seconds after the start at which the shard was kept."""

    async def scenario() -> list[float]:
        start = asyncio.get_running_loop().time()
        plan.begin(checkpoint)
        for number in range(120):
            await asyncio.sleep(10)
            await plan.after_commit(store, quiet=quiet(number))
        return [round(at - start) for at in store.kept_at]

    work: Coroutine[Any, Any, list[float]] = scenario()
    return run_virtually(VirtualLoop(), work)


def _checkpoint(age_s: float | None) -> Checkpoint:
    return Checkpoint(1, 1, 7, b"p", {}, (), "", "", "", False, age_s)


def test_a_quiet_shard_is_kept_every_interval() -> None:
    assert _kept(SnapshotPlan(300, 72), FRESH, CountingStore(), lambda _: True) == [300, 600, 900, 1200]


def test_a_busy_shard_is_kept_a_little_later() -> None:
    assert _kept(SnapshotPlan(300, 72), FRESH, CountingStore(), lambda _: False) == [360, 720, 1080]


def test_a_quiet_moment_is_waited_for() -> None:
    assert _kept(SnapshotPlan(300, 72), FRESH, CountingStore(), lambda number: number == 31)[0] == 320


@pytest.mark.parametrize(("age_s", "first"), [(None, 10), (0.0, 300), (250.0, 50), (900.0, 10)])
def test_a_successor_goes_by_the_newest_there_is(age_s: float | None, first: int) -> None:
    assert _kept(SnapshotPlan(300, 72), _checkpoint(age_s), CountingStore(), lambda _: True)[0] == first


def test_a_database_that_does_not_keep_it_is_not_asked_at_every_batch() -> None:
    assert _kept(SnapshotPlan(300, 72), FRESH, CountingStore(away=True), lambda _: True) == [300, 600, 900, 1200]


def test_nothing_is_kept_when_nothing_is_to_be() -> None:
    assert _kept(SnapshotPlan(0, 72), _checkpoint(None), CountingStore(), lambda _: True) == []


def test_a_snapshot_is_kept_as_long_as_what_is_stepped_after_it() -> None:
    def hosting(name: str, *topics: Any, **more: Any) -> StageHosting:
        return StageHosting(name=name, topics=topics, kind=StageKind.OUTBOX, **more)

    assert snapshot_hours(hosting("risk", DECISION, MARKET_MARK)) == MARKET_MARK.retention_hours == 72
    assert snapshot_hours(hosting("risk", DECISION)) == DECISION.retention_hours == 720
    assert snapshot_hours(hosting("ingestion")) == MARKET_EVENT.retention_hours, "a feed: as long as what it wrote"
    assert snapshot_hours(hosting("control")) == DECISION.retention_hours
    assert snapshot_hours(hosting("ingress.trade", INGEST_TRADE, wrap=lambda *_: None)) == INGEST_TRADE.retention_hours
