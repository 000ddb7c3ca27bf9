"""All that Binance spot has of us, for whoever has just taken over: open orders, recent orders, their trades, balances.

There is no single question for it, so several answers are put together, and what is taken down first is what can only
grow: an order that fills in between counts more than its trades list, is then not whole, and all is asked again.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from infra.feeds.decimals import parse_units
from infra.venues.binance.inquiry import UNREADABLE
from infra.venues.binance.orders import KnownOrders, symbol_of
from infra.venues.binance.reports import STATUS_OF, fill_id_of
from infra.venues.binance.rest import NO_SUCH_ORDER, BinanceRest, Outcome
from infra.venues.binance.wire import OrderFound, TradeFound, decode
from schemas.client_ids import parse_client_order_id
from schemas.event import derive_id
from schemas.market import InstrumentDefined
from schemas.order_ids import is_ours
from schemas.orders import OrderStatus, QueryRequested, VenueFill
from schemas.reconciliation import BooksRequested, ToldOrder, VenueBooks
from schemas.values import NS_PER_MS, NS_PER_S, Liquidity, OrderType, Side, TimeInForce

_PAGE_MAX: Final = 1_000
_LIST_WEIGHT: Final = 20
_REACH_NS: Final = 23 * 3600 * NS_PER_S
"""Binance lists at most 24 hours at once; an order of ours that is older is asked for by its id."""
_TYPES: Final = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "STOP_LOSS": OrderType.STOP,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
}
_UNPRICED: Final = frozenset({"MARKET", "STOP_LOSS"})
_OVER: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


class _NotWhole(Exception):
    """Some part of the answer did not come."""


class BinanceBooks:
    """Puts a ``VenueBooks`` together. ``orders`` learns of each order of ours that is found, so that it is followed."""

    def __init__(
        self,
        rest: BinanceRest,
        orders: KnownOrders,
        instruments: Mapping[str, InstrumentDefined],
        page: int = _PAGE_MAX,
    ) -> None:
        self._rest = rest
        self._orders = orders
        self._instruments = instruments
        self._page = page

    async def read(self, request: BooksRequested, now_ns: int) -> VenueBooks | None:
        """Return what Binance has as of ``now_ns``; None without a whole answer that can be read."""
        names = [name for name in request.instruments if name in self._instruments]
        try:
            told = [item for name in names for item in await self._orders_of(name, request, now_ns)]
            found = (await self._rest.account())[0] if names else None
            if names and found is None:
                return None
            balances = {} if found is None else {b.asset: Decimal(b.free) + Decimal(b.locked) for b in found.balances}
        except (_NotWhole, *UNREADABLE):
            return None
        for item in told:
            self._follow(item, request)
        return VenueBooks(
            key=request.key,
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id=derive_id(request.event_id, f"binance/books/{now_ns}", request.attempt),
            cause_id=request.event_id,
            venue=request.venue,
            epoch=request.epoch,
            attempt=request.attempt,
            orders=tuple(told),
            balances=balances,
        )

    async def _orders_of(self, name: str, request: BooksRequested, now_ns: int) -> list[ToldOrder]:
        symbol = symbol_of(name)
        since = {"startTime": str(max(request.since_ns, now_ns - _REACH_NS) // NS_PER_MS)}
        working = await self._rest.open_orders(symbol)
        if working is None:
            raise _NotWhole
        recent = await self._pages("/api/v3/allOrders", symbol, since, ("orderId", "orderId"), OrderFound)
        orders = {item.orderId: item for item in (*working, *recent)}
        listed = {item.clientOrderId for item in orders.values()}
        for client_id in request.client_ids:
            if client_id not in listed and (item := await self._named(symbol, client_id)) is not None:
                orders[item.orderId] = item
        trades = await self._pages("/api/v3/myTrades", symbol, since, ("fromId", "id"), TradeFound)
        return [await self._told(name, item, trades) for _, item in sorted(orders.items())]

    async def _pages(
        self, path: str, symbol: str, first: Mapping[str, str], names: tuple[str, str], kind: Any
    ) -> list[Any]:
        """Return a whole list, page by page; ``names``: the parameter to go on from, and the field that it is of."""
        found: list[Any] = []
        params = dict(first)
        while True:
            asked = {"symbol": symbol, **params, "limit": str(self._page)}
            answer = await self._rest.signed("GET", path, asked, weight=_LIST_WEIGHT)
            if answer.outcome is not Outcome.DONE:
                raise _NotWhole
            page = decode(answer.body, list[kind])
            found += page
            if len(page) < self._page:
                return found
            params = {names[0]: str(getattr(page[-1], names[1]) + 1)}

    async def _named(self, symbol: str, client_id: str) -> OrderFound | None:
        """Return an order by its id, None when Binance has none on this symbol; only a clear word counts as none."""
        found, answer = await self._rest.order(symbol, client_id)
        if found is None and not (answer.refused and answer.code == NO_SUCH_ORDER):
            raise _NotWhole
        return found

    async def _told(self, name: str, found: OrderFound, trades: Iterable[TradeFound]) -> ToldOrder:
        filled = parse_units(found.executedQty)
        mine = [item for item in trades if item.orderId == found.orderId]
        if sum(parse_units(item.qty) for item in mine) < filled:
            listed = await self._rest.trades(found.symbol, found.orderId)
            mine = listed if listed is not None else []
        fills = tuple(_fill(item) for item in sorted(mine, key=lambda item: item.id))
        if sum(fill.quantity for fill in fills) < filled:
            raise _NotWhole
        parsed = parse_client_order_id(found.clientOrderId)
        price = parse_units(found.price)
        return ToldOrder(
            order_id=found.clientOrderId if parsed is None else parsed[0],
            client_id=found.clientOrderId,
            venue_order_id=str(found.orderId),
            instrument=name,
            side=Side(found.side),
            quantity=parse_units(found.origQty),
            filled_quantity=sum(fill.quantity for fill in fills),
            status=STATUS_OF[found.status],
            created_at_ns=found.time * NS_PER_MS,
            order_type=_TYPES.get(found.type),
            time_in_force=_time_in_force(found),
            limit_price=price if price and found.type not in _UNPRICED else None,
            stop_price=parse_units(found.stopPrice) or None,
            triggered=found.isWorking and parse_units(found.stopPrice) > 0,
            fills=fills,
        )

    def _follow(self, told: ToldOrder, request: BooksRequested) -> None:
        """Know an order from now on as if it had been asked about by its name, or its news would be a stranger's."""
        if not (is_ours(told.order_id) or told.client_id in request.client_ids):
            return
        asked = QueryRequested(
            key="",
            event_time_ns=request.event_time_ns,
            available_at_ns=request.available_at_ns,
            order_id=told.order_id,
            client_order_id=told.client_id,
            instrument=told.instrument,
            attempt=0,
            epoch=request.epoch,
        )
        order = self._orders.know(asked)
        order.venue_order_id = int(told.venue_order_id)
        order.accepted = True
        order.fills.update(int(fill.fill_id.rpartition("-")[2]) for fill in told.fills)
        order.filled = max(order.filled, told.filled_quantity)
        order.ended = order.ended or told.status in _OVER
        self._orders.settle(order)


def _time_in_force(found: OrderFound) -> TimeInForce | None:
    if found.type == "LIMIT_MAKER":
        return TimeInForce.POST_ONLY
    return TimeInForce(found.timeInForce) if found.timeInForce in set(TimeInForce) else None


def _fill(item: TradeFound) -> VenueFill:
    return VenueFill(
        fill_id=fill_id_of(item.symbol, item.id),
        price=parse_units(item.price),
        quantity=parse_units(item.qty),
        fee=Decimal(item.commission),
        fee_currency=item.commissionAsset,
        liquidity=Liquidity.MAKER if item.isMaker else Liquidity.TAKER,
        event_time_ns=item.time * NS_PER_MS,
    )
