"""What waits for a venue that hangs: bounded, in order, and no intent is lost of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from infra.postgres.commands import StoredCommand
from schemas.event import Event
from schemas.orders import CancelRequested, QueryRequested, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.values import OrderType, Side, TimeInForce
from streams.execution import VenueCompanion
from streams.sending_right import SendingRight
from streams.simulation.parts import Unforgetting
from streams.venue_requests import Lanes, WaitingRequests

FACTS: dict[str, Any] = {"key": "main", "event_time_ns": 1, "available_at_ns": 1, "instrument": "SIM:BTCUSD"}


def submit(name: str) -> SubmitRequested:
    """Return an order."""
    return SubmitRequested(
        **FACTS,
        order_id=name,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        limit_price=1,
        quantity=1,
        not_after_ns=2**60,
    )


def query(name: str) -> QueryRequested:
    """Return a question."""
    return QueryRequested(**FACTS, order_id=name, attempt=1)


class HungVenue:
    """Takes a request and answers once it is let go; ``broken`` is what it then raises."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answers = asyncio.Event()
        self.broken: Exception | None = None

    async def _hang(self, what: str) -> None:
        self.heard.append(what)
        await self.answers.wait()
        if self.broken is not None:
            raise self.broken

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        await self._hang(f"submit {request.order_id}")

    async def cancel(self, request: CancelRequested, *, epoch: int, now_ns: int) -> None:
        await self._hang(f"cancel {request.order_id}")

    async def query(self, request: QueryRequested, *, now_ns: int) -> None:
        await self._hang(f"query {request.order_id}")

    async def books(self, request: BooksRequested, *, now_ns: int) -> VenueBooks | None:
        await self._hang(f"books {request.venue}")
        return None

    async def tell_time(self, now_ns: int) -> bool:
        await self._hang(f"time {now_ns}")
        return True

    async def reports(self) -> AsyncIterator[VenueReport]:
        await asyncio.Event().wait()
        raise AssertionError
        yield

    async def close(self) -> None:
        """Nothing to close."""


class NoCommands:
    """Nobody orders anything."""

    async def after(self, ordinal: int) -> list[StoredCommand]:
        return []

    async def close(self) -> None:
        """Nothing to close."""


class OurClaim:
    """Nobody has claimed the shard since the first epoch."""

    async def newest_epoch(self) -> int:
        return 1

    async def close(self) -> None:
        """Nothing to close."""


class NoInlet:
    """Nothing is injected here."""

    async def inject(self, event: Event) -> None:
        raise AssertionError(event)


async def _companion(venue: HungVenue) -> VenueCompanion:
    async def open_venue() -> HungVenue:
        return venue

    right = SendingRight(NoCommands(), OurClaim())
    companion = VenueCompanion(open_venue, Unforgetting(), right, on_capture=True)
    await companion.start(NoInlet(), 1)
    return companion


def test_a_hung_venue_on_a_capture_makes_nothing_grow_and_hears_everything_in_order() -> None:
    async def scenario() -> None:
        venue = HungVenue()
        companion = await _companion(venue)
        names = [f"o{number:04}" for number in range(3000)]

        async def trade() -> None:
            for number, name in enumerate(names, 1):
                await companion.perform([submit(name), query("o0000")], [0, 0])
                for step in range(10):
                    companion.reached((number * 10 + step) * 10**9)

        trading = asyncio.ensure_future(trade())
        for _ in range(5000):
            await asyncio.sleep(0)
        assert not trading.done(), "a batch waits for room"
        assert len(companion._requests) <= 2 * 1000 + 1
        venue.answers.set()
        await asyncio.wait_for(trading, 10)
        while len(companion._requests):
            await asyncio.sleep(0)
        heard = [what for what in venue.heard if what.startswith("submit")]
        assert heard == [f"submit {name}" for name in names], "every intent once, in order"
        times = [int(what.removeprefix("time ")) for what in venue.heard if what.startswith("time")]
        assert times == sorted(times)
        assert times[-1] == (3000 * 10 + 9) * 10**9, "the newest time is told"
        assert 1 <= sum(what == "query o0000" for what in venue.heard) < 3000
        await companion.stop()

    asyncio.run(scenario())


def test_a_batch_that_waits_for_room_ends_with_the_sender() -> None:
    async def scenario() -> None:
        venue = HungVenue()
        venue.broken = ValueError("a venue of which nobody understands a word")
        companion = await _companion(venue)
        trading = asyncio.ensure_future(companion.perform([submit(str(n)) for n in range(1500)], [0] * 1500))
        for _ in range(20):
            await asyncio.sleep(0)
        venue.answers.set()
        with pytest.raises(ValueError, match="nobody understands"):
            await asyncio.wait_for(trading, 10)
        await companion.stop()

    asyncio.run(scenario())


def test_of_two_times_with_nothing_between_them_the_newer_is_told_and_a_question_is_put_once() -> None:
    async def scenario() -> None:
        waiting = WaitingRequests(most=3)
        waiting.tell_time(1)
        waiting.tell_time(2)
        waiting.add(query("a"), 0)
        waiting.add(query("a"), 0)
        waiting.add(query("b"), 0)
        waiting.tell_time(3)
        waiting.add(submit("c"), 7)
        assert waiting.full
        taken = [await waiting.next() for _ in range(5)]
        assert [None if event is None else event.order_id for event, _ in taken] == [None, "a", "b", None, "c"]  # type: ignore[attr-defined]
        assert [number for _, number in taken] == [2, 0, 0, 3, 7]
        assert waiting.full, "what is under way counts, too"
        for event, _ in taken:
            if event is not None:
                waiting.over(event)
        assert not waiting.full
        waiting.add(query("a"), 0)
        assert len(waiting) == 1, "what was asked may be asked again"

    asyncio.run(scenario())


def test_lines_go_side_by_side_and_each_keeps_its_order() -> None:
    """The first instrument's first request hangs: everything of the others is done, nothing more of the first."""

    async def scenario() -> None:
        waiting, gate, done = WaitingRequests(), asyncio.Event(), list[tuple[str, str]]()
        under_way, most = Counter[str](), Counter[str]()

        async def perform(request: Event, origin: int) -> None:
            assert isinstance(request, SubmitRequested)
            under_way[request.instrument] += 1
            most[request.instrument] = max(most[request.instrument], under_way[request.instrument])
            await asyncio.sleep(0)
            if request.instrument == "SIM:A":
                await gate.wait()
            under_way[request.instrument] -= 1
            done.append((request.instrument, request.order_id))

        running = asyncio.ensure_future(Lanes(waiting, perform).run())
        names = [(f"SIM:{'ABC'[number % 3]}", f"o{number}") for number in range(30)]
        for instrument, name in names:
            waiting.add(replace(submit(name), instrument=instrument), 0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert {instrument for instrument, _ in done} == {"SIM:B", "SIM:C"}
        gate.set()
        while len(done) < len(names):
            await asyncio.sleep(0)
        for instrument in ("SIM:A", "SIM:B", "SIM:C"):
            assert [pair for pair in done if pair[0] == instrument] == [pair for pair in names if pair[0] == instrument]
            assert most[instrument] == 1
        running.cancel()

    asyncio.run(scenario())


def test_a_venue_that_does_not_agree_is_told_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        venue = HungVenue()
        venue.answers.set()
        companion = await _companion(venue)
        facts = {key: FACTS[key] for key in ("event_time_ns", "available_at_ns")}
        terms: dict[str, Any] = {
            "key": "SIM",
            "venue": "SIM",
            "instruments": (),
            "client_ids": (),
            "since_ns": 0,
            "epoch": 7,
        }
        asked = [BooksRequested(attempt=attempt, **terms, **facts) for attempt in range(1, 30)]
        await companion.perform(asked, [0] * len(asked))
        while len(venue.heard) < len(asked):
            await asyncio.sleep(0)
        await companion.stop()

    asyncio.run(scenario())
    told = [record.getMessage() for record in caplog.records if record.name == "tradermind.execution"]
    assert [message.split("question ")[1].split(")")[0] for message in told] == ["3", "15", "27"]
    assert all("not reconciled under epoch 7" in message for message in told)
