"""Asking what became of orders: one of them, or all that may have changed while nobody listened."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from infra.feeds.decimals import parse_units
from infra.venues.binance.orders import KnownOrders
from infra.venues.binance.reports import KnownOrder, of_status, report_of
from infra.venues.binance.rest import ARCHIVED, NO_SUCH_ORDER, ORDERS_MAX, BinanceRest
from schemas.client_ids import parse_client_order_id
from schemas.event import derive_id
from schemas.orders import OrderStatus, ReportKind, VenueReport

UNREADABLE: Final = (msgspec.DecodeError, ValueError, ArithmeticError, KeyError)
"""What comes of taking an answer for what it is not."""
_RETRY_S: Final = 0.25


class Inquiry:
    """Asks about orders. ``put`` takes what is learned without having been asked for."""

    def __init__(
        self,
        rest: BinanceRest,
        orders: KnownOrders,
        now: Callable[[], int],
        put: Callable[[VenueReport], Awaitable[None]],
    ) -> None:
        self._rest = rest
        self._orders = orders
        self._now = now
        self._put = put

    async def ask(self, order: KnownOrder, event_id: str, now_ns: int) -> VenueReport | None:
        """Return STATUS or NOT_FOUND as of ``now_ns``, when it was asked; None without a whole answer."""
        if not order.client_id and not await self._search(order):
            return None
        found, answer = await self._rest.order(order.symbol, order.client_id or order.order_id)
        if found is None:
            if answer.refused and answer.code == NO_SUCH_ORDER and order.venue_order_id is None:
                order.absent = now_ns > order.arrives_until_ns
                return report_of(order, ReportKind.NOT_FOUND, now_ns, event_id, reason=answer.why)
            if answer.refused and answer.code == ARCHIVED:
                order.ended = True
                over: dict[str, Any] = {"status": OrderStatus.CANCELED, "filled_quantity": 0, "reason": answer.why}
                return report_of(order, ReportKind.STATUS, now_ns, event_id, **over)
            return None
        try:
            nothing = parse_units(found.executedQty) == 0
            trades = [] if nothing else await self._rest.trades(order.symbol, found.orderId)
            report = None if trades is None else of_status(order, found, trades, now_ns, event_id)
        except UNREADABLE:
            return None
        self._orders.settle(order)
        return report

    async def _search(self, order: KnownOrder) -> bool:
        """Look for an order whose id at the venue nobody remembers; return whether all was seen where it could be."""
        listed = await self._rest.newest_orders(order.symbol)
        for found in listed or ():
            parsed = parse_client_order_id(found.clientOrderId)
            if parsed is not None and parsed[0] == order.order_id:
                self._orders.name(order, found.clientOrderId)
        return bool(order.client_id) or (listed is not None and len(listed) < ORDERS_MAX)

    async def tell_status(self, order: KnownOrder, event_id: str) -> bool:
        """Ask, and pass on a status; return whether there was an answer. An absence is for who asks by name."""
        report = await self.ask(order, event_id, self._now())
        if report is not None and report.kind is ReportKind.STATUS:
            await self._put(report)
        return report is not None

    async def catch_up(self, connection: int) -> None:
        """Ask about what may have been missed before this connection, until everything has been answered."""
        asked: set[str] = set()
        while waiting := [order for order in self._orders.unfinished() if order.order_id not in asked]:
            for symbol in sorted({order.symbol for order in waiting}):
                asked |= await self._catch_up_with(symbol, waiting, connection)
            if any(order.order_id not in asked for order in waiting):
                await asyncio.sleep(_RETRY_S)

    async def _catch_up_with(self, symbol: str, waiting: list[KnownOrder], connection: int) -> set[str]:
        """Return the orders of which nothing is left to be asked: unchanged at the venue, or told."""
        working = await self._rest.open_orders(symbol)
        if working is None:
            return set()
        open_now = {found.clientOrderId: found.executedQty for found in working}
        done: set[str] = set()
        for order in (order for order in waiting if order.symbol == symbol):
            executed = open_now.get(order.client_id)
            unchanged = executed is not None and order.accepted and parse_units(executed) == order.filled
            event_id = derive_id(order.order_id, f"binance/connection {connection}", self._now())
            if unchanged or await self.tell_status(order, event_id):
                done.add(order.order_id)
        return done
