"""The Binance adapter under each fault: one venue order per id always, every fill once, and the truth in the end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from binance_desk import BTC, FAR, BinanceDesk, trading
from binance_venue_server import Script

from schemas.client_ids import client_order_id
from schemas.decisions import DenyReason
from schemas.orders import OrderStatus, ReportKind, SubmitRequested
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units

pytestmark = pytest.mark.slow


def _run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def _kinds(desk: BinanceDesk, order_id: str) -> list[ReportKind]:
    return [report.kind for report in desk.reports if report.order_id == order_id]


@pytest.mark.parametrize("fault", ["drop", "hang", "error", "garbage"])
def test_an_order_whose_answer_is_lost_is_asked_about_and_never_sent_again(fault: str) -> None:
    async def test() -> None:
        async with trading(Script(submits=[fault])) as desk:
            desk.approve("o1")
            await desk.final("o1")
            await desk.until(lambda: ReportKind.TIMED_OUT in _kinds(desk, "o1"))
            assert desk.status("o1") is OrderStatus.FILLED
            assert len([item for item in desk.server.requests if item[0] == "POST"]) == 1

    _run(test)


def test_with_answer_and_stream_lost_the_fill_is_found_by_asking() -> None:
    async def test() -> None:
        async with trading(Script(submits=["drop"], cut_on=["NEW", "TRADE", "TRADE"])) as desk:
            desk.approve("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.FILLED
            assert ReportKind.TRADE not in _kinds(desk, "o1")

    _run(test)


@pytest.mark.parametrize("fault", ["lost", "limited", "banned", "orders"])
def test_an_order_that_never_arrived_is_closed_only_when_it_no_longer_can(fault: str) -> None:
    async def test() -> None:
        async with trading(Script(submits=[fault])) as desk:
            began = time.monotonic()
            desk.approve("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.NOT_SENT
            assert time.monotonic() - began > 1.0, "given up while the venue might still have taken it"
            assert ReportKind.REJECTED not in _kinds(desk, "o1")
            assert desk.server.during_pause == 0

    _run(test)


def test_a_fill_that_is_told_twice_is_one() -> None:
    async def test() -> None:
        async with trading(Script(tell_twice=True)) as desk:
            for number in range(5):
                desk.approve(f"o{number}")
            await desk.final(*(f"o{number}" for number in range(5)))
            told = [report.fill_id for report in desk.reports if report.kind is ReportKind.TRADE]
            assert len(told) == len(set(told)) >= 5

    _run(test)


@pytest.mark.parametrize("how", ["cut", "eventStreamTerminated", "serverShutdown"])
def test_what_happened_while_nobody_listened_is_told_after_the_next_connection(how: str) -> None:
    async def test() -> None:
        async with trading() as desk:
            desk.rest("o1")
            desk.rest("o2")
            await desk.until(lambda: desk.status("o2") is OrderStatus.NEW)
            if how == "cut":
                desk.server.cut_streams()
            else:
                await desk.server.end_streams(how)
            # The venue ends one of them by itself, and nobody hears of it.
            listed = desk.server.of_client("o1-0")[0]
            desk.server.core.venue._end(listed.order, OrderStatus.EXPIRED, ReportKind.EXPIRED, time.time_ns(), "halt")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.EXPIRED
            assert ReportKind.STATUS not in _kinds(desk, "o2"), "nothing had changed about it"
            assert desk.server.subscribed == 2

    _run(test)


def test_no_order_leaves_while_the_user_stream_is_down_but_cancels_do() -> None:
    async def test() -> None:
        async with trading() as desk:
            desk.rest("o1")
            await desk.until(lambda: desk.status("o1") is OrderStatus.NEW)
            desk.server.script.subscriptions = [-2015] * 50
            desk.server.cut_streams()
            await asyncio.sleep(0.1)
            desk.approve("o2")
            await desk.final("o2")
            assert desk.status("o2") is OrderStatus.NOT_SENT
            desk.cancel("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.CANCELED
            desk.server.script.subscriptions = []
            await desk.until(lambda: desk.server.subscribed == 2)
            desk.approve("o3")
            await desk.until(lambda: desk.status("o3") is not OrderStatus.PENDING_NEW)

    _run(test)


def test_an_answer_that_counts_more_than_it_lists_is_no_answer() -> None:
    async def test() -> None:
        async with trading(Script(submits=["drop"], cut_on=["NEW"], trades=["behind", "behind"])) as desk:
            desk.approve("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.FILLED

    _run(test)


def test_an_order_that_was_acknowledged_is_not_absent_because_the_venue_is_behind() -> None:
    async def test() -> None:
        async with trading() as desk:
            desk.rest("o1")
            await desk.until(lambda: desk.status("o1") is OrderStatus.NEW)
            desk.server.script.queries = ["missing", "missing"]
            desk.server.script.cancels = ["lost"]
            desk.cancel("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.CANCELED
            assert ReportKind.NOT_FOUND not in _kinds(desk, "o1")

    _run(test)


@pytest.mark.parametrize("fault", ["drop", "hang", "error", "lost", "limited", "garbage"])
def test_a_cancel_without_an_answer_is_found_out_and_made_again_if_need_be(fault: str) -> None:
    async def test() -> None:
        async with trading(Script(cancels=[fault])) as desk:
            desk.rest("o1")
            await desk.until(lambda: desk.status("o1") is OrderStatus.NEW)
            desk.cancel("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.CANCELED
            assert desk.server.during_pause == 0

    _run(test)


def test_a_cancel_that_comes_too_late_is_followed_by_what_became_of_the_order() -> None:
    async def test() -> None:
        # The stream is cut at the end of the order, so that only the refused cancel can bring it to light.
        async with trading() as desk:
            desk.rest("o1")
            await desk.until(lambda: desk.status("o1") is OrderStatus.NEW)
            desk.server._sockets.clear()
            listed = desk.server.of_client("o1-0")[0]
            desk.server.core.venue._end(listed.order, OrderStatus.EXPIRED, ReportKind.EXPIRED, time.time_ns(), "halt")
            desk.cancel("o1")
            await desk.final("o1")
            assert _kinds(desk, "o1")[-2:] == [ReportKind.CANCEL_REJECTED, ReportKind.STATUS]

    _run(test)


def _submit(order_id: str, now_ns: int) -> SubmitRequested:
    return SubmitRequested(
        key="main",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=f"{order_id:0>32}",
        order_id=order_id,
        instrument=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        limit_price=FAR,
        quantity=units("0.01"),
        not_after_ns=now_ns + 60 * NS_PER_S,
    )


def test_a_sender_that_was_stalled_after_taking_the_time_is_refused_by_the_venue() -> None:
    async def test() -> None:
        async with trading() as desk:
            taken_ns = time.time_ns()
            await asyncio.sleep(0.5)
            await desk.client.submit(_submit("late", taken_ns), epoch=1, now_ns=taken_ns)
            assert desk.server.of_client("late") == []
            assert [params for method, _, params in desk.server.requests if method == "POST"], "it did reach the venue"

    _run(test)


def test_a_clock_that_runs_away_stops_orders_until_it_is_right_again() -> None:
    async def test() -> None:
        # Its next look of itself at the clock is in an hour: what it knows it knows because it was refused.
        async with trading(clock_interval_ms=3_600_000) as desk:
            desk.server.script.skew_ms = 2_000
            desk.approve("o1")
            await desk.final("o1")
            assert desk.status("o1") is OrderStatus.NOT_SENT
            # The refusal has made the adapter look at the clock: it is too far off, and nothing more is sent.
            desk.approve("o2")
            await desk.final("o2")
            sent = [params["newClientOrderId"] for method, _, params in desk.server.requests if method == "POST"]
            assert sent == [client_order_id("o1", 0)]
            told = next(report.reason for report in desk.reports if report.order_id == "o2")
            assert told is not None and told.startswith("the clocks are")
            assert desk.desk.order_events("o2")[-1].deny_reasons == (DenyReason.CLOCK_DRIFT,)
            desk.server.script.skew_ms = 60
            await desk.calm()
            desk.approve("o3")
            await desk.final("o3")
            assert desk.status("o3") is OrderStatus.FILLED

    _run(test)


def test_the_limits_are_never_overrun_and_cancels_keep_their_part() -> None:
    async def test() -> None:
        # The venue counts by the minute: not across the end of one.
        await asyncio.sleep(max(0.0, time.time() % 60 - 57))
        async with trading(Script(weight_limit=200), clock_interval_ms=60_000) as desk:
            desk.rest("o0")
            await desk.until(lambda: desk.status("o0") is OrderStatus.NEW)
            desk.server.used_weight = 130
            desk.rest("o1")
            await desk.until(lambda: desk.status("o1") is OrderStatus.NEW)
            desk.rest("o2")
            await desk.final("o2")
            assert desk.status("o2") is OrderStatus.NOT_SENT
            desk.cancel("o0")
            await desk.final("o0")
            assert desk.status("o0") is OrderStatus.CANCELED
            assert desk.server.during_pause == 0

    _run(test)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_befalls_the_truth_is_told(seed: int) -> None:
    """Thirty orders and their cancels, with faults thrown at each step; `trading` compares everything at the end."""
    dice = random.Random(seed)
    faults = ["", "", "drop", "error", "garbage", "hang"]

    async def test() -> None:
        script = Script(
            submits=[dice.choice(faults) for _ in range(29)] + ["lost"],
            cancels=[dice.choice([*faults, "lost"]) for _ in range(20)],
            queries=[dice.choice(["", "", "lost", "garbage"]) for _ in range(60)],
            trades=[dice.choice(["", "behind", "lost"]) for _ in range(20)],
            cut_on=[dice.choice(["NEW", "TRADE", "CANCELED"]) for _ in range(6)],
            tell_twice=bool(seed % 2),
        )
        async with trading(script, request_timeout_ms=200) as desk:
            names = [f"{seed}-{number}" for number in range(30)]
            for name in names:
                await desk.calm()
                resting = dice.random() < 0.5
                desk.rest(name) if resting else desk.approve(name)
                if resting:
                    await asyncio.sleep(dice.random() * 0.02)
                    desk.cancel(name)
            await desk.final(*names)
            outcomes = Counter(desk.status(name) for name in names)
            assert outcomes[OrderStatus.FILLED] > 3 and outcomes[OrderStatus.CANCELED] > 3, outcomes

    _run(test)
