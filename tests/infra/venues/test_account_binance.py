"""Binance's account read whole: what it states is what it has told order by order, whoever's orders they are."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from decimal import Decimal
from typing import Any

import pytest
from binance_venue_server import KEY, SECRET, BinanceVenueServer, Script, client_for, running_binance, settings_for
from msgspec.structs import replace

from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from infra.venues.account import AccountStatement, StatedFill, StatedOrder
from infra.venues.account_binance import BinanceAccountReader
from infra.venues.account_compare import compared, differences
from infra.venues.binance.client import BinanceVenue
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.profiles import addresses_of
from infra.venues.simulated import VenueUnreachable
from schemas.orders import OrderStatus, ReportKind, SubmitRequested, VenueReport
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, notional, units

BTC = "SIM:BTCUSD"
LOT = units("0.01")


def _request(name: str, **changes: Any) -> SubmitRequested:
    now_ns = time.time_ns()
    fields: dict[str, Any] = {
        "key": "main",
        "event_time_ns": now_ns,
        "available_at_ns": now_ns,
        "order_id": name,
        "instrument": BTC,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.IOC,
        "limit_price": START_PRICES[BTC] + units("500"),
        "quantity": LOT,
        "not_after_ns": now_ns + NS_PER_S,
    }
    return SubmitRequested(**fields | changes)


def _reader(url: str, names: Collection[str], since_ns: int = 0, page: int = 1_000) -> BinanceAccountReader:
    settings = settings_for(url)
    network = addresses_of(settings), Credentials(KEY, SECRET)
    return BinanceAccountReader(
        settings, network, SIM_INSTRUMENTS.values(), lambda: dict.fromkeys(names, "main"), since_ns, page=page
    )


async def _until_told(client: BinanceVenue, told: list[VenueReport], holds: Callable[[], bool]) -> None:
    async def listen() -> None:
        async for report in client.reports():
            told.append(report)
            if holds():
                return

    await asyncio.wait_for(listen(), 10.0)


def _with_venue(scenario: Callable[[BinanceVenueServer, str], Awaitable[None]], **script: Any) -> None:
    async def bounded() -> None:
        async with running_binance(Script(**script)) as (server, url):
            await asyncio.wait_for(scenario(server, url), 30.0)

    asyncio.run(bounded())


def _as_told(told: list[VenueReport], orders: tuple[StatedOrder, ...]) -> AccountStatement:
    """Our books, from the reports alone, as execution would have booked them."""
    trades = [report for report in told if report.kind is ReportKind.TRADE]
    fills = tuple(
        StatedFill(
            fill_id=report.fill_id or "",
            order_id=report.order_id,
            account="main",
            instrument=BTC,
            side=Side.BUY,
            price=report.last_price or 0,
            quantity=report.last_quantity or 0,
            fee=report.fee or Decimal(0),
            fee_currency=report.fee_currency or "",
        )
        for report in trades
    )
    spent = sum((notional(fill.price, fill.quantity) + fill.fee for fill in fills), Decimal(0))
    return AccountStatement(
        orders=orders,
        fills=fills,
        positions={f"main|{BTC}": sum(fill.quantity for fill in fills)},
        cash={"main|USD": -spent},
        fees={"main|USD": sum((fill.fee for fill in fills), Decimal(0))},
        funding={},
    )


def _order(name: str, status: OrderStatus, filled: int) -> StatedOrder:
    terms: dict[str, Any] = {"account": "main", "instrument": BTC, "side": Side.BUY, "quantity": LOT}
    return StatedOrder(order_id=name, status=status, filled_quantity=filled, **terms)


def test_what_it_states_is_what_it_has_told_and_a_stranger_is_found() -> None:
    async def scenario(server: BinanceVenueServer, url: str) -> None:
        del server
        client = client_for(url)
        await client.start()
        told: list[VenueReport] = []
        for request in (
            _request("take"),
            _request("rest", time_in_force=TimeInForce.GTC, limit_price=START_PRICES[BTC] - units("20000")),
        ):
            await client.submit(request, epoch=1, now_ns=time.time_ns())
        await _until_told(
            client, told, lambda: sum(report.last_quantity or 0 for report in told) == LOT and _accepted(told, "rest")
        )
        ours = _as_told(told, (_order("take", OrderStatus.FILLED, LOT), _order("rest", OrderStatus.NEW, 0)))
        theirs = await _reader(url, ("take", "rest")).account_statement()
        assert differences(ours, theirs) == []
        assert compared(ours, theirs) | {"fills": 0} == {
            **{"orders": 2, "open_orders": 1, "fills": 0},
            **{"positions": 1, "cash": 1, "fees": 1, "funding": 0},
        }
        assert len(ours.fills) > 0
        less = replace(ours, orders=ours.orders[:1])
        (found,) = differences(less, theirs)
        assert (found.what, found.name, found.ours) == ("order", "rest", None)
        nothing = await _reader(url, (), since_ns=time.time_ns() + 60 * NS_PER_S).account_statement()
        assert (nothing.orders, nothing.fills) == ((), ()), "what is older than our first order is not ours to explain"
        await client.close()

    _with_venue(scenario)


def _accepted(told: list[VenueReport], name: str) -> bool:
    return any(report.order_id == name and report.kind is ReportKind.ACCEPTED for report in told)


def test_each_statement_knows_the_orders_that_came_since_the_last() -> None:
    async def scenario(server: BinanceVenueServer, url: str) -> None:
        del server
        client = client_for(url)
        await client.start()
        ours: list[str] = []
        reader = _reader(url, ours)
        for name in ("first", "second"):
            ours.append(name)
            await client.submit(_request(name), epoch=1, now_ns=time.time_ns())
            stated = await reader.account_statement()
            assert {order.order_id: order.account for order in stated.orders} == dict.fromkeys(ours, "main")
        await client.close()

    _with_venue(scenario)


def test_long_lists_are_read_page_by_page() -> None:
    async def scenario(server: BinanceVenueServer, url: str) -> None:
        client = client_for(url)
        await client.start()
        names = tuple(f"o{number}" for number in range(5))
        for name in names:
            await client.submit(_request(name), epoch=1, now_ns=time.time_ns())
        reader = _reader(url, names, page=2)
        limit = time.monotonic() + 10
        while len((await reader.account_statement()).fills) < 5:
            assert time.monotonic() < limit
            await asyncio.sleep(0.05)
        stated = await reader.account_statement()
        assert {order.order_id for order in stated.orders} == set(names)
        fills = [fill for listed in server.orders for fill in listed.order.fills]
        assert len(stated.fills) == len({fill.fill_id for fill in stated.fills}) == len(fills)
        await client.close()

    _with_venue(scenario)


@pytest.mark.parametrize("fault", ["error", "garbage", "limited"])
def test_no_whole_answer_is_no_statement(fault: str) -> None:
    async def scenario(server: BinanceVenueServer, url: str) -> None:
        del server
        with pytest.raises(VenueUnreachable, match="Binance"):
            await _reader(url, ()).account_statement()

    _with_venue(scenario, all_orders=[fault])
