"""Orders made smaller at Binance: whatever befalls the request, the order has the terms that the venue says."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from binance_desk import FAR, LOT, BinanceDesk, trading
from binance_venue_server import Script

from schemas.orders import CancelRequested, ExecType, OrderStatus, ReportKind
from schemas.values import units

PATH = "/api/v3/order/amend/keepPriority"


def _play(scenario: Callable[[BinanceDesk], Awaitable[None]], script: Script | None = None) -> None:
    async def run() -> None:
        async with trading(script) as desk:
            desk.rest("o1")
            await desk.until(lambda: desk.status("o1") is OrderStatus.NEW)
            await asyncio.wait_for(scenario(desk), 20)

    asyncio.run(run())


def _asked(desk: BinanceDesk) -> list[dict[str, str]]:
    return [params for _, path, params in desk.server.requests if path == PATH]


def _agrees(desk: BinanceDesk) -> bool:
    """Whether both sides have the same terms, and nothing is in doubt."""
    order, theirs = desk.desk.order("o1"), desk.server.orders[0].order
    return order.amend is None and order.status is OrderStatus.NEW and order.quantity == theirs.quantity


def test_an_order_is_made_smaller_under_its_own_id() -> None:
    async def scenario(desk: BinanceDesk) -> None:
        desk.amend("o1", LOT)
        await desk.until(lambda: desk.desk.order("o1").quantity == LOT)
        (params,) = _asked(desk)
        assert params["origClientOrderId"] == params["newClientOrderId"]
        assert params["newQty"] == "0.01"
        assert _agrees(desk)
        await asyncio.sleep(0.1)
        told = [event for event in desk.desk.order_events("o1") if event.exec_type is ExecType.REPLACED]
        assert len(told) == 1, "the answer and the stream say the same thing"

    _play(scenario)


@pytest.mark.parametrize("fault", ["drop", "error", "garbage", "lost", pytest.param("hang", marks=pytest.mark.slow)])
def test_what_is_not_known_of_an_amend_is_asked_about_and_it_is_sent_once(fault: str) -> None:
    async def scenario(desk: BinanceDesk) -> None:
        desk.amend("o1", LOT)
        await desk.until(lambda: _agrees(desk) and bool(_asked(desk)))
        assert len(_asked(desk)) == 1
        assert desk.desk.order("o1").quantity == (desk.server.orders[0].order.quantity)
        if fault == "lost":
            assert desk.desk.order("o1").quantity > LOT

    _play(scenario, Script(amends=[fault]))


def test_a_new_price_or_a_larger_quantity_never_leaves() -> None:
    async def scenario(desk: BinanceDesk) -> None:
        before = desk.desk.order("o1").quantity
        for quantity, price in ((LOT, FAR - units("1")), (before + LOT, FAR)):
            told = len(desk.reports)
            desk.amend("o1", quantity, price)
            await desk.until(lambda told=told: len(desk.reports) > told)  # type: ignore[misc]
            assert desk.reports[-1].kind is ReportKind.REPLACE_REJECTED
            assert desk.reports[-1].reason == "Binance can only make an order smaller"
        assert _asked(desk) == []
        assert _agrees(desk)

    _play(scenario)


def test_an_amend_of_an_order_that_is_over_is_refused_and_its_end_is_told() -> None:
    async def scenario(desk: BinanceDesk) -> None:
        listed = desk.server.orders[0]
        times = {"event_time_ns": 0, "available_at_ns": 0}
        request = CancelRequested(key="binance", order_id=listed.core_id, instrument=listed.instrument.key, **times)
        # Somebody else cancels it at the venue, and the word of it is lost.
        desk.server.script.cut_on = ["CANCELED"]
        desk.server.core.venue.cancel(request, 0)
        desk.amend("o1", LOT)
        await desk.final("o1")
        assert desk.status("o1") is OrderStatus.CANCELED

    _play(scenario)
