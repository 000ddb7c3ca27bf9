"""All that Binance has of us in one answer: whole or not at all, and followed from then on."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from binance_venue_server import BinanceVenueServer, Script, client_for, running_binance

from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from infra.venues.binance.books import BinanceBooks
from infra.venues.binance.client import BinanceVenue
from schemas.client_ids import client_order_id
from schemas.order_ids import order_id_of
from schemas.orders import CancelRequested, OrderStatus, ReportKind, SubmitRequested
from schemas.reconciliation import BooksRequested, VenueBooks
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units

BTC = "SIM:BTCUSD"
LOT = units("0.01")
LOW = START_PRICES[BTC] - units("20000")


def _submit(name: str, client_id: str, **changes: Any) -> SubmitRequested:
    now_ns = time.time_ns()
    fields: dict[str, Any] = {
        "key": "main",
        "event_time_ns": now_ns,
        "available_at_ns": now_ns,
        "order_id": name,
        "client_order_id": client_id,
        "instrument": BTC,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.IOC,
        "limit_price": START_PRICES[BTC] + units("500"),
        "quantity": LOT,
        "not_after_ns": now_ns + NS_PER_S,
    }
    return SubmitRequested(**fields | changes)


def _wanted(*client_ids: str, since_ns: int | None = None, attempt: int = 1) -> BooksRequested:
    now_ns = time.time_ns()
    return BooksRequested(
        key="SIM",
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id="b" * 32,
        venue="SIM",
        instruments=(*SIM_INSTRUMENTS, "EXT:DEMO"),
        client_ids=client_ids,
        since_ns=now_ns - 60 * NS_PER_S if since_ns is None else since_ns,
        epoch=2,
        attempt=attempt,
    )


def _name(number: int) -> tuple[str, str]:
    order_id = order_id_of(f"decision {number}", ("main", "alpha"))
    return order_id, client_order_id(order_id, 1)


async def _read(client: BinanceVenue, request: BooksRequested) -> VenueBooks | None:
    return await client.books(request, now_ns=time.time_ns())


@asynccontextmanager
async def _after_trading(server_script: Script) -> AsyncIterator[tuple[BinanceVenueServer, BinanceVenue]]:
    """One order of ours has filled, one rests, and so does a stranger's; a client that knows of none has begun."""
    async with running_binance(server_script) as (server, url):
        former = client_for(url)
        await former.start()
        resting: dict[str, Any] = {"time_in_force": TimeInForce.POST_ONLY, "limit_price": LOW}
        await former.submit(_submit(*_name(1)), epoch=1, now_ns=time.time_ns())
        await former.submit(_submit(*_name(2), **resting), epoch=1, now_ns=time.time_ns())
        await former.submit(_submit("web_4f7b", "web_4f7b", **resting), epoch=1, now_ns=time.time_ns())
        await former.close()
        later = client_for(url)
        await later.start()
        yield server, later
        await later.close()


def _run(scenario: Callable[[BinanceVenueServer, BinanceVenue], Awaitable[None]], **script: Any) -> None:
    async def bounded() -> None:
        async with _after_trading(Script(**script)) as (server, client):
            await asyncio.wait_for(scenario(server, client), 20.0)

    asyncio.run(bounded())


def test_it_tells_what_works_what_was_and_what_there_is_with_all_fills() -> None:
    async def scenario(server: BinanceVenueServer, client: BinanceVenue) -> None:
        books = await _read(client, _wanted())
        assert books is not None
        told = {item.order_id: item for item in books.orders}
        (taken, _), (rests, rests_there) = _name(1), _name(2)
        assert set(told) == {taken, rests, "web_4f7b"}
        assert (told[taken].status, told[taken].filled_quantity) == (OrderStatus.FILLED, LOT)
        core = {order.order_id: order for order in (listed.order for listed in server.orders)}
        assert sum(fill.quantity for fill in told[taken].fills) == LOT
        assert {fill.price for fill in told[taken].fills} == {f.price for o in core.values() for f in o.fills}
        resting = told[rests]
        assert (resting.client_id, resting.status, resting.limit_price) == (rests_there, OrderStatus.NEW, LOW)
        assert (resting.order_type, resting.time_in_force) == (OrderType.LIMIT, TimeInForce.POST_ONLY)
        assert books.positions is None, "its balances hold what people pay in, and are no positions"
        assert books.balances
        assert all(amount >= Decimal(0) for amount in books.balances.values())
        assert (books.venue, books.epoch, books.attempt) == ("SIM", 2, 1)

    _run(scenario)


def test_what_is_older_than_was_asked_for_is_told_when_it_works_or_is_named() -> None:
    async def scenario(server: BinanceVenueServer, client: BinanceVenue) -> None:
        del server
        later_ns = time.time_ns() + 3 * NS_PER_S
        books = await _read(client, _wanted(since_ns=later_ns))
        assert books is not None
        assert {item.order_id for item in books.orders} == {_name(2)[0], "web_4f7b"}
        books = await _read(client, _wanted(_name(1)[1], "never-there-1", since_ns=later_ns, attempt=2))
        assert books is not None
        told = {item.order_id: item for item in books.orders}
        assert told[_name(1)[0]].filled_quantity == LOT
        assert len(told) == 3

    _run(scenario)


def test_what_works_is_followed_once_it_was_told_and_a_stranger_s_stays_a_stranger_s() -> None:
    async def scenario(server: BinanceVenueServer, client: BinanceVenue) -> None:
        assert await _read(client, _wanted()) is not None
        reports = client.reports()
        name, there = _name(2)
        now_ns = time.time_ns()
        facts: dict[str, Any] = {"key": "main", "event_time_ns": now_ns, "available_at_ns": now_ns}
        cancel = CancelRequested(order_id=name, client_order_id=there, instrument=BTC, **facts)
        await client.cancel(cancel, epoch=2, now_ns=now_ns)
        report = await asyncio.wait_for(anext(reports), 5)
        assert (report.order_id, report.kind) == (name, ReportKind.CANCELED)
        assert client.strangers == 0
        assert len(server.orders) == 3

    _run(scenario)


@pytest.mark.parametrize("kind", ["open_orders", "all_orders", "trades", "queries"])
@pytest.mark.parametrize("fault", ["error", "garbage"])
def test_a_part_that_does_not_come_is_no_answer(kind: str, fault: str) -> None:
    async def scenario(server: BinanceVenueServer, client: BinanceVenue) -> None:
        getattr(server.script, kind).append(fault)
        missing = _wanted(_name(1)[1], since_ns=time.time_ns() + 3 * NS_PER_S)
        assert await _read(client, missing) is None
        assert await _read(client, missing) is not None

    _run(scenario)


def test_trades_that_lag_behind_their_order_are_waited_for() -> None:
    async def scenario(server: BinanceVenueServer, client: BinanceVenue) -> None:
        server.script.trades += ["behind", "behind"]
        assert await _read(client, _wanted()) is None
        assert await _read(client, _wanted(attempt=2)) is not None

    _run(scenario)


def test_long_lists_are_read_page_by_page() -> None:
    async def scenario(server: BinanceVenueServer, client: BinanceVenue) -> None:
        whole = await _read(client, _wanted())
        small = BinanceBooks(client._rest, client._orders, SIM_INSTRUMENTS, page=1)
        paged = await small.read(_wanted(), time.time_ns())
        assert whole is not None
        assert paged is not None
        assert paged.orders == whole.orders
        assert len([item for item in server.requests if item[1] == "/api/v3/allOrders"]) > 4

    _run(scenario)
