"""Pacing: nothing lost or reordered at any speed, the speed kept, never too far ahead of the slowest stage."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from captures import USDM_20240808

from infra.feeds import Feed, FeedFailed
from infra.feeds.capture import Capture, first_records, open_capture
from infra.feeds.pacing import Hold, PacedCapture
from infra.feeds.row import Row
from schemas.feed import FeedRecord
from schemas.market import Trade
from schemas.values import NS_PER_MS, NS_PER_S
from streams.simulation.virtual_time import VirtualLoop, run_virtually

START_NS = 1_700_000_000 * NS_PER_S
LEAD_NS = NS_PER_S


class Tape:
    """A recording of trades at given times (ms after the start)."""

    name = "tape"
    instruments = ("LEAN:BAC",)
    heartbeat_ns = 100 * NS_PER_MS

    def __init__(self, times_ms: Sequence[int]) -> None:
        self._times_ms = times_ms

    def messages(self) -> "itertools.chain[Row]":
        return itertools.chain((START_NS + ms * NS_PER_MS, _trade(ms), None, b"") for ms in self._times_ms)


def _trade(ms: int) -> Trade:
    at_ns = START_NS + ms * NS_PER_MS
    return Trade(
        key="LEAN:BAC",
        event_time_ns=at_ns,
        available_at_ns=at_ns,
        trade_id=str(ms),
        price=1,
        quantity=1,
        aggressor=None,
    )


async def _take(feed: Feed, count: int, start: int = 0) -> list[FeedRecord]:
    taken: list[FeedRecord] = []
    async for record in feed.records(start):
        taken.append(record)
        if len(taken) == count:
            break
    return taken


def test_at_full_speed_all_records_come_as_they_are() -> None:
    capture = open_capture([USDM_20240808])
    taken = asyncio.run(_take(PacedCapture(capture, speed=None), 5_000, start=100))
    assert taken == first_records(capture, 5_100)[100:]


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_a_capture_takes_its_own_time_over_the_speed(speed: float) -> None:
    feed = PacedCapture(Capture([Tape(range(0, 601, 20))]), speed)
    loop = VirtualLoop()
    taken = run_virtually(loop, _take(feed, 31))
    assert len(taken) == 31
    assert 0.59 / speed <= loop.time() <= 0.6 / speed + 1e-6


def test_closed_hours_are_cut_to_a_minute_of_capture_time() -> None:
    feed = PacedCapture(Capture([Tape([0, 24 * 3_600_000])]), speed=200.0)
    loop = VirtualLoop()
    run_virtually(loop, _take(feed, 2))
    assert loop.time() == pytest.approx(60 / 200, abs=0.01)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        PacedCapture(Capture([Tape([0])]), speed)


async def _held_run(times_ms: Sequence[int], step_s: float) -> tuple[list[int], int]:
    """Run a consumer that reaches each Heartbeat ``step_s`` after the last; return leads in ns and questions asked."""
    sent: list[int] = []
    reached, asked = 0, 0
    leads: list[int] = []

    async def progress() -> int:
        nonlocal asked
        asked += 1
        return reached

    async def follow() -> None:
        nonlocal reached
        for place in itertools.count():
            while place >= len(sent):
                await asyncio.sleep(0.001)
            await asyncio.sleep(step_s)
            reached = sent[place]

    follower = asyncio.create_task(follow())
    feed = PacedCapture(Capture([Tape(times_ms)]), speed=None, hold=Hold(progress, LEAD_NS))
    async for record in feed.records():
        newest_before = sent[-1] if sent else 0
        if newest_before:
            leads.append(min(record.events[-1].available_at_ns - reached, newest_before - reached + LEAD_NS))
        sent.extend(beat.available_at_ns for beat in record.events[:-1])
    follower.cancel()
    return leads, asked


def test_the_run_is_never_further_ahead_than_the_lead() -> None:
    leads, asked = asyncio.run(_held_run(range(0, 5_000, 10), step_s=0.005))
    assert len(leads) == 499
    assert max(leads) <= LEAD_NS
    # Held, not polled busily: far fewer questions than a loop without pauses would ask.
    assert 0 < asked < 500


@pytest.mark.slow
def test_a_silence_longer_than_the_lead_does_not_hold_the_run_for_ever() -> None:
    leads, _ = asyncio.run(asyncio.wait_for(_held_run([0, 50, 200, 30_000, 30_050, 500_000], 0.005), timeout=20))
    assert len(leads) == 5


def test_stages_that_stand_still_end_the_run_with_a_sentence() -> None:
    async def progress() -> int:
        return 1

    feed = PacedCapture(Capture([Tape(range(0, 5_000, 100))]), None, Hold(progress, LEAD_NS, stalled_after_s=0.2))
    with pytest.raises(FeedFailed, match=r"have stood still for 0\.2 s"):
        asyncio.run(_take(feed, 50))


def test_a_lead_of_nothing_is_refused() -> None:
    async def progress() -> int:
        return 0

    with pytest.raises(ValueError, match="ahead"):
        Hold(progress, 0)
