"""What execution may rely on of a venue port: the clients of the exchange process and of Binance, the simulation's."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from binance_venue_server import Script, client_for, running_binance
from exchange_process import running_exchange
from msgspec.structs import replace as replace_fields
from msgspec.structs import replace as replaced

from agents.sim.venue_state import Fault, FaultKind
from infra.venues import VenuePort
from infra.venues.simulated import SimulatedExchangeClient
from schemas.orders import AmendRequested, OrderStatus, QueryRequested, ReportKind, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units
from streams.simulation.faults import CALM, Dice
from streams.simulation.plan import plan_of
from streams.simulation.process import SimulatedProcess
from streams.simulation.venue import LyingVenue, VenueClient
from streams.simulation.virtual_time import VirtualLoop, run_virtually

Open = Callable[[], Awaitable[VenuePort]]
Scenario = Callable[[Open, Callable[[], int]], Awaitable[None]]
Play = Callable[..., None]


def _play_on_process(folder: Path, scenario: Scenario, *, loses_responses: bool) -> None:
    faults = (Fault(kind=FaultKind.DROP_RESPONSE, every=1),) if loses_responses else ()

    async def run(url: str) -> None:
        async def open_port() -> VenuePort:
            client = SimulatedExchangeClient(url, clock=time.time_ns)
            await client.start()
            return client

        await asyncio.sleep(0.2)  # A book is there from the first step on.
        await asyncio.wait_for(scenario(open_port, time.time_ns), 20)

    with running_exchange(folder, faults=faults) as exchange:
        asyncio.run(run(exchange.url))


def _play_simulated(scenario: Scenario, *, loses_responses: bool) -> None:
    loop, plan = VirtualLoop(), replace(plan_of(1, 1), venue_faults=())
    odds = replace(CALM, response_lost=1.0) if loses_responses else CALM

    async def run() -> None:
        venue = LyingVenue(loop, plan.venue_terms(), plan.engine(), Dice(random.Random(1), odds))
        venue.start()

        async def open_port() -> VenuePort:
            client = VenueClient(loop, venue, SimulatedProcess("a client"))
            await client.start()
            return client

        await asyncio.sleep(0.2)
        await asyncio.wait_for(scenario(open_port, loop.now_ns), 20)

    run_virtually(loop, run())


def _play_on_binance(scenario: Scenario, *, loses_responses: bool) -> None:
    async def run() -> None:
        async with running_binance(Script(every_submit="drop" if loses_responses else "")) as (_, url):

            async def open_port() -> VenuePort:
                client = client_for(url)
                await client.start()
                return client

            await asyncio.wait_for(scenario(open_port, time.time_ns), 20)

    asyncio.run(run())


@pytest.fixture(params=[pytest.param("process", marks=pytest.mark.slow), "simulated", "binance"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Each test runs against all."""

    def run(scenario: Scenario, *, loses_responses: bool = False) -> None:
        if request.param == "process":
            _play_on_process(tmp_path, scenario, loses_responses=loses_responses)
        elif request.param == "binance":
            _play_on_binance(scenario, loses_responses=loses_responses)
        else:
            _play_simulated(scenario, loses_responses=loses_responses)

    return run


def _submit(now_ns: int, order_id: str = "o1") -> SubmitRequested:
    return SubmitRequested(
        key="main",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=f"{order_id:0>32}",
        order_id=order_id,
        instrument="SIM:BTCUSD",
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        limit_price=units("61000"),
        quantity=units("0.001"),
        not_after_ns=now_ns + 60 * NS_PER_S,
    )


_OVER = (ReportKind.EXPIRED, ReportKind.REJECTED, ReportKind.CANCELED)


def _query(now_ns: int, order_id: str = "o1") -> QueryRequested:
    times = {"event_time_ns": now_ns, "available_at_ns": now_ns}
    return QueryRequested(key="main", event_id="q" * 32, order_id=order_id, instrument="SIM:BTCUSD", attempt=1, **times)


async def _next(reports: AsyncIterator[VenueReport], *kinds: ReportKind) -> VenueReport:
    while (report := await anext(reports)).kind not in kinds:
        pass
    return report


def test_an_order_is_accepted_filled_and_known_with_its_fills(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        await port.submit(_submit(now_ns()), epoch=1, now_ns=now_ns())
        accepted = await anext(reports)
        trade = await anext(reports)
        assert (accepted.kind, trade.kind) == (ReportKind.ACCEPTED, ReportKind.TRADE)
        assert accepted.event_id != trade.event_id
        await port.query(_query(now_ns()), now_ns=now_ns())
        status = await _next(reports, ReportKind.STATUS)
        assert (status.status, status.filled_quantity) == (OrderStatus.FILLED, units("0.001"))
        assert [fill.fill_id for fill in status.fills] == [trade.fill_id]
        await port.close()

    play(scenario)


def test_what_is_too_late_at_the_socket_is_not_sent_and_never_known(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        request = _submit(now_ns() - 120 * NS_PER_S)
        await port.submit(request, epoch=1, now_ns=now_ns())
        assert (await anext(reports)).kind is ReportKind.NOT_SENT
        await port.query(_query(now_ns()), now_ns=now_ns())
        assert (await anext(reports)).kind is ReportKind.NOT_FOUND
        await port.close()

    play(scenario)


def test_no_answer_is_a_time_out_and_the_order_may_be_there(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        await port.submit(_submit(now_ns()), epoch=1, now_ns=now_ns())
        timed_out = await _next(reports, ReportKind.TIMED_OUT)
        assert timed_out.cause_id == _submit(0).event_id
        # The order may still be on its way, or an answer be lost: whoever asks goes on asking.
        answer = timed_out
        while answer.kind is not ReportKind.STATUS:
            await port.query(_query(now_ns()), now_ns=now_ns())
            answer = await _next(reports, *ReportKind)
        assert answer.status is OrderStatus.FILLED
        await port.close()

    play(scenario, loses_responses=True)


def test_a_stop_waits_until_the_last_price_reaches_it_and_then_trades(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        selling = replaced(_submit(now_ns(), "seen"), side=Side.SELL, limit_price=units("50000"))
        await port.submit(selling, epoch=1, now_ns=now_ns())
        last = (await _next(reports, ReportKind.TRADE)).last_price or 0
        tick = units("0.5")
        changes: dict[str, Any] = {"order_type": OrderType.STOP, "time_in_force": TimeInForce.GTC, "side": Side.SELL}
        stop = replaced(_submit(now_ns()), limit_price=units("50000"), stop_price=last - 6 * tick, **changes)
        await port.submit(stop, epoch=1, now_ns=now_ns())
        assert (await _next(reports, ReportKind.ACCEPTED)).order_id == stop.order_id
        await port.query(_query(now_ns()), now_ns=now_ns())
        asked = await _next(reports, ReportKind.STATUS)
        assert asked.triggered is (asked.status is not OrderStatus.NEW)
        # Whoever sells so much trades the price down to where the stop waits; below it there are others.
        of_stop: list[ReportKind] = [ReportKind.TRIGGERED] if asked.triggered else []
        for number in range(100):
            if ReportKind.TRADE in of_stop:
                break
            sweep = replaced(_submit(now_ns(), f"s{number}"), side=Side.SELL, quantity=units("50"))
            await port.submit(replaced(sweep, limit_price=last - 8 * tick), epoch=1, now_ns=now_ns())
            report = await anext(reports)
            while report.order_id != sweep.order_id or report.kind not in _OVER:
                of_stop += [report.kind] if report.order_id == stop.order_id else []
                report = await anext(reports)
            await asyncio.sleep(0.05)
        assert [kind for kind in of_stop if kind in (ReportKind.TRIGGERED, ReportKind.TRADE)][:2] == [
            ReportKind.TRIGGERED,
            ReportKind.TRADE,
        ]
        await port.query(_query(now_ns()), now_ns=now_ns())
        done = await _next(reports, ReportKind.STATUS)
        assert done.triggered and done.filled_quantity
        await port.close()

    play(scenario)


def test_a_stop_that_would_act_at_once_is_rejected(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        at_once: dict[str, Any] = {"order_type": OrderType.STOP_LIMIT, "time_in_force": TimeInForce.GTC}
        await port.submit(replaced(_submit(now_ns()), stop_price=units("55000"), **at_once), epoch=1, now_ns=now_ns())
        rejected = await anext(reports)
        assert (rejected.kind, "would trigger immediately" in (rejected.reason or "")) == (ReportKind.REJECTED, True)
        await port.close()

    play(scenario)


def test_an_order_id_is_one_order_and_an_older_epoch_is_fenced_off(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        for _ in range(2):
            await port.submit(_submit(now_ns()), epoch=2, now_ns=now_ns())
        await port.submit(_submit(now_ns(), "o2"), epoch=1, now_ns=now_ns())
        seen = [await anext(reports) for _ in range(3)]
        assert [(report.order_id, report.kind) for report in seen] == [
            ("o1", ReportKind.ACCEPTED),
            ("o1", ReportKind.TRADE),
            ("o2", ReportKind.REJECTED),
        ]
        await port.close()

    play(scenario)


def test_whoever_connects_anew_hears_only_what_comes_from_then_on(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        first = await open_port()
        before = first.reports()
        await first.submit(_submit(now_ns()), epoch=1, now_ns=now_ns())
        await _next(before, ReportKind.TRADE)
        await first.close()
        second = await open_port()
        await second.submit(_submit(now_ns(), "o2"), epoch=2, now_ns=now_ns())
        assert (await anext(second.reports())).order_id == "o2"
        await second.close()

    play(scenario)


def test_it_tells_its_books_whole_and_of_one_moment(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        first = await open_port()
        before = first.reports()
        await first.submit(_submit(now_ns()), epoch=1, now_ns=now_ns())
        trade = await _next(before, ReportKind.TRADE)
        await first.close()
        port = await open_port()
        asked_ns = now_ns()
        request = BooksRequested(
            key="SIM",
            event_time_ns=asked_ns,
            available_at_ns=asked_ns,
            event_id="b" * 32,
            venue="SIM",
            instruments=("SIM:BTCUSD",),
            client_ids=(),
            since_ns=asked_ns - 60 * NS_PER_S,
            epoch=2,
            attempt=3,
        )
        books = None
        while books is None:
            books = await port.books(request, now_ns=now_ns())
        assert (books.venue, books.epoch, books.attempt, books.cause_id) == ("SIM", 2, 3, request.event_id)
        (told,) = books.orders
        assert (told.order_id, told.status, told.filled_quantity) == ("o1", OrderStatus.FILLED, units("0.001"))
        assert [fill.fill_id for fill in told.fills] == [trade.fill_id]
        assert books.positions in (None, {"main|SIM:BTCUSD": units("0.001")})
        assert books.positions is not None or books.balances is not None
        await port.close()

    play(scenario)


def _resting(now_ns: int) -> SubmitRequested:
    terms = {"time_in_force": TimeInForce.GTC, "limit_price": units("40000"), "quantity": units("0.01")}
    return replace_fields(_submit(now_ns), **terms)


def _amend(now_ns: int, quantity: str = "0.004", amend_id: str = "a1", price: str = "40000") -> AmendRequested:
    return AmendRequested(
        key="main",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=f"{amend_id:0>32}",
        order_id="o1",
        amend_id=amend_id,
        instrument="SIM:BTCUSD",
        side=Side.BUY,
        limit_price=units(price),
        quantity=units(quantity),
        former_price=units("40000"),
        former_quantity=units("0.01"),
        not_after_ns=now_ns + 60 * NS_PER_S,
    )


def test_an_order_that_rests_is_made_smaller_and_known_by_its_new_terms(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        await port.submit(_resting(now_ns()), epoch=1, now_ns=now_ns())
        await _next(reports, ReportKind.ACCEPTED)
        await port.amend(_amend(now_ns()), epoch=1, now_ns=now_ns())
        replaced = await _next(reports, ReportKind.REPLACED)
        assert (replaced.quantity, replaced.limit_price) == (units("0.004"), units("40000"))
        assert replaced.amend_id in (None, "a1")
        await port.query(_query(now_ns()), now_ns=now_ns())
        status = await _next(reports, ReportKind.STATUS)
        assert (status.status, status.quantity, status.limit_price) == (
            OrderStatus.NEW,
            units("0.004"),
            units("40000"),
        )
        await port.close()

    play(scenario)


def test_what_cannot_be_changed_is_refused_and_what_is_too_late_never_leaves(play: Play) -> None:
    async def scenario(open_port: Open, now_ns: Callable[[], int]) -> None:
        port = await open_port()
        reports = port.reports()
        await port.submit(_submit(now_ns()), epoch=1, now_ns=now_ns())
        await _next(reports, ReportKind.TRADE)
        await port.amend(_amend(now_ns(), "0.0004"), epoch=1, now_ns=now_ns())
        refused = await _next(reports, ReportKind.REPLACE_REJECTED)
        assert refused.amend_id == "a1"
        stale = replace_fields(_amend(now_ns(), amend_id="a2"), not_after_ns=now_ns() - 1)
        await port.amend(stale, epoch=1, now_ns=now_ns())
        late = await _next(reports, ReportKind.REPLACE_REJECTED)
        assert (late.amend_id, late.reason) == ("a2", "too old at the socket")
        await port.close()

    play(scenario)
