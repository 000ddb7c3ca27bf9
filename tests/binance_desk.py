"""The order manager over the Binance adapter and the local venue, as the worker's shell does it, and what must hold."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from binance_venue_server import BinanceVenueServer, Script, client_for, running_binance
from patience import PATIENCE
from trading_desk import Desk, wide_limits

from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from infra.venues.binance.client import BinanceVenue
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.event import Event, Heartbeat
from schemas.orders import AmendRequested, CancelRequested, OrderStatus, QueryRequested, SubmitRequested, VenueReport
from schemas.values import NS_PER_MS, TimeInForce, units

BTC = "SIM:BTCUSD"
LOT = units("0.01")
FAR = START_PRICES[BTC] - units("20000")
"""A price at which a buy rests and never fills."""
CONFIG = ExecutionConfig(
    instruments=SIM_INSTRUMENTS,
    accounts={"main": AccountTerms(capital=Decimal(1_000_000), currency="USD")},
    strategies={"alpha": StrategyTerms(account="main", instruments=tuple(SIM_INSTRUMENTS))},
    limits={"main": wide_limits("alpha", price_collar="0.9")},
    submit_limit_ns=200 * NS_PER_MS,
    ack_timeout_ns=300 * NS_PER_MS,
    takeover_wait_ns=1_000 * NS_PER_MS,
    query_backoff_ns=(50 * NS_PER_MS, 100 * NS_PER_MS, 200 * NS_PER_MS),
)
QUICK = {"recv_window_ms": 400, "clock_skew_max_ms": 500, "clock_interval_ms": 5_000, "request_timeout_ms": 400}


class BinanceDesk:
    """An execution stage on the wall clock. Requests are sent one after the other; reports are taken as they come."""

    def __init__(self, server: BinanceVenueServer, client: BinanceVenue) -> None:
        self.server = server
        self.client = client
        self.desk = Desk(CONFIG, now_ns=time.time_ns())
        self.reports: list[VenueReport] = []
        self._approved = 0
        self._requests: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks = [asyncio.create_task(work) for work in (self._send(), self._listen(), self._beat())]

    def approve(self, order_id: str, **changes: Any) -> None:
        """Let an order through: by default one that takes at once."""
        self.desk.now_ns = time.time_ns()
        # No two are alike: the limits deny a duplicate.
        self._approved += 1
        quantity = LOT + self._approved * units("0.0001")
        terms: dict[str, Any] = {"instrument": BTC, "quantity": quantity, "decision_mid": START_PRICES[BTC]}
        terms["limit_price"] = START_PRICES[BTC] + units("500")
        self._perform(self.desk.approve(order_id, **terms | changes))

    def rest(self, order_id: str) -> None:
        """Let an order through that lies in the book."""
        self.approve(order_id, limit_price=FAR, time_in_force=TimeInForce.GTC)

    def amend(self, order_id: str, quantity: int, limit_price: int = FAR) -> None:
        """Let a change of an order through, under an id of its own."""
        self._approved += 1
        name = f"amend {self._approved}"
        terms: dict[str, Any] = {"quantity": quantity, "limit_price": limit_price, "amends": order_id}
        self.approve(name, time_in_force=TimeInForce.GTC, **terms)

    def cancel(self, order_id: str) -> None:
        """Cancel an order, as a person does."""
        now_ns = time.time_ns()
        command = ControlCommand(
            key="*",
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            command_id=f"cancel {order_id}",
            author="test",
            reason="test",
            action=ControlAction.CANCEL,
            scope=ScopeKind.GLOBAL,
            target=order_id,
        )
        self._perform(self.desk.give(command))

    def status(self, order_id: str) -> OrderStatus:
        """Return what the order manager makes of an order."""
        return self.desk.order(order_id).status

    async def until(self, holds: Callable[[], bool], limit_s: float = 8.0) -> None:
        """Wait until something holds."""
        limit = time.monotonic() + limit_s * PATIENCE
        while not holds():
            assert time.monotonic() < limit, [(report.order_id, report.kind, report.reason) for report in self.reports]
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)

    async def final(self, *order_ids: str) -> None:
        """Wait until orders have their final outcome."""
        await self.until(lambda: all(self.desk.order(order_id).final for order_id in order_ids))

    async def calm(self) -> None:
        """Wait until no order is UNKNOWN, for as long as one is the limits deny every other, and the way is open."""
        orders = [self.desk.state[key] for key in self.desk.state if key.startswith("order/")]
        waited_for = (OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW)
        await self.until(lambda: not any(order.status in waited_for for order in orders))
        await self.until(lambda: self.client.closed(time.time_ns()) is None)

    def check(self) -> None:
        """One venue order per id, each fill once, and nothing believed that the venue does not say."""
        for key in [key for key in self.desk.state if key.startswith("order/")]:
            order = self.desk.state[key]
            listed = self.server.of_client(order.client_order_id)
            assert len(listed) <= 1, f"{order.order_id} is {len(listed)} orders at the venue"
            fills = [] if not listed else listed[0].order.fills
            assert sorted(order.fill_ids) == sorted(f"BTCUSD-{fill.fill_id.rpartition('-')[2]}" for fill in fills)
            assert order.filled_quantity == sum(fill.quantity for fill in fills)
            assert order.anomalies == 0
            if order.final and listed:
                assert order.status is listed[0].order.status
            elif order.final:
                assert order.status in (OrderStatus.NOT_SENT, OrderStatus.REJECTED, OrderStatus.DENIED)
        books = self.desk.state.get("account/main")
        held = 0 if books is None else sum(position.quantity for position in books.positions.values())
        account = self.server.core.venue.state.accounts.get("binance")
        assert held == (0 if account is None else account.positions.get(BTC, 0))

    async def end(self) -> None:
        """Let go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()

    def _perform(self, outputs: Any) -> None:
        for event in outputs:
            if isinstance(event, SubmitRequested | CancelRequested | AmendRequested | QueryRequested):
                self._requests.put_nowait(event)

    async def _send(self) -> None:
        while True:
            event = await self._requests.get()
            if isinstance(event, SubmitRequested):
                await self.client.submit(event, epoch=1, now_ns=time.time_ns())
            elif isinstance(event, CancelRequested):
                await self.client.cancel(event, epoch=1, now_ns=time.time_ns())
            elif isinstance(event, AmendRequested):
                await self.client.amend(event, epoch=1, now_ns=time.time_ns())
            elif isinstance(event, QueryRequested):
                await self.client.query(event, now_ns=time.time_ns())

    async def _listen(self) -> None:
        async for report in self.client.reports():
            self.reports.append(report)
            self._perform(self.desk.give(report))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            now_ns = time.time_ns()
            self._perform(self.desk.give(Heartbeat(key="market.event", event_time_ns=now_ns, available_at_ns=now_ns)))


@asynccontextmanager
async def trading(script: Script | None = None, **changes: Any) -> AsyncIterator[BinanceDesk]:
    """Yield a desk that is connected; at the end everything it believes must be the venue's."""
    async with running_binance(script) as (server, url):
        client = client_for(url, **QUICK | changes)
        await client.start()
        desk = BinanceDesk(server, client)
        try:
            yield desk
        finally:
            await desk.end()
        desk.check()
