"""Our orders in the venue's words, and the records of those that are not over yet."""

import re
from collections.abc import Iterator
from typing import Final

from infra.venues.binance.reports import KnownOrder
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested
from schemas.values import OrderType, TimeInForce, to_decimal

CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_ENDED_KEPT: Final = 10_000


class NotSupported(Exception):
    """The order cannot be said in the venue's words, in one clear sentence."""


def symbol_of(instrument: str) -> str:
    """Return the venue's name of ``VENUE:SYMBOL``."""
    return instrument.partition(":")[2].upper()


def order_type_of(request: SubmitRequested) -> str:
    """Return the venue's order type. Raises NotSupported."""
    if request.order_type is OrderType.MARKET:
        if request.time_in_force is TimeInForce.POST_ONLY:
            raise NotSupported("a market order cannot be post-only")
        return "MARKET"
    if request.order_type is OrderType.LIMIT:
        return "LIMIT_MAKER" if request.time_in_force is TimeInForce.POST_ONLY else "LIMIT"
    if request.time_in_force is TimeInForce.POST_ONLY:
        raise NotSupported("a stop cannot be post-only")
    return "STOP_LOSS" if request.order_type is OrderType.STOP else "STOP_LOSS_LIMIT"


def parameters_of(request: SubmitRequested) -> dict[str, str]:
    """Return the parameters of POST /api/v3/order, but for time and signature. Raises NotSupported."""
    client_id = request.client_order_id or request.order_id
    if not CLIENT_ID.fullmatch(client_id):
        raise NotSupported(f"{client_id[:40]!r} cannot be an order's id at this venue")
    kind = order_type_of(request)
    params = {
        "symbol": symbol_of(request.instrument),
        "side": str(request.side),
        "type": kind,
        "quantity": plain(request.quantity),
        "newClientOrderId": client_id,
        "newOrderRespType": "FULL",
    }
    if kind in ("LIMIT", "STOP_LOSS_LIMIT"):
        params["timeInForce"] = str(request.time_in_force)
    if kind not in ("MARKET", "STOP_LOSS"):
        if request.limit_price is None:
            raise NotSupported("a limit order needs a price")
        params["price"] = plain(request.limit_price)
    if request.order_type.waits:
        if request.stop_price is None:
            raise NotSupported("a stop needs a stop price")
        # Whatever the side: the venue's STOP_LOSS of a buy is reached from below, its TAKE_PROFIT from above.
        params["stopPrice"] = plain(request.stop_price)
    return params


def plain(value: int) -> str:
    """Return an integer in units of 1e-8 as the venue writes numbers: without exponent or needless zeros."""
    text = f"{to_decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class KnownOrders:
    """The orders of ours that this process has sent or asked about. Of those that are over the newest are kept."""

    def __init__(self, ended_kept: int = _ENDED_KEPT) -> None:
        self._ended_kept = ended_kept
        self._orders: dict[str, KnownOrder] = {}
        self._ours: dict[str, str] = {}
        self._ended: dict[str, None] = {}

    def get(self, client_id: str) -> KnownOrder | None:
        """Return the order that the venue knows by this id, if it is known here."""
        return self._orders.get(self._ours.get(client_id, ""))

    def know(self, request: SubmitRequested | CancelRequested | AmendRequested | QueryRequested) -> KnownOrder:
        """Return the record of a request's order, made at the first use."""
        order = self._orders.get(request.order_id)
        if order is None:
            order = self._orders[request.order_id] = KnownOrder(
                order_id=request.order_id,
                account=request.key,
                instrument=request.instrument,
                symbol=symbol_of(request.instrument),
            )
        client_id = request.client_order_id
        if isinstance(request, SubmitRequested):
            client_id = client_id or request.order_id
            order.waits = request.order_type.waits
        if client_id and not order.client_id:
            self.name(order, client_id)
        return order

    def name(self, order: KnownOrder, client_id: str) -> None:
        """Take note of the id that the venue knows an order by."""
        order.client_id = client_id
        self._ours[client_id] = order.order_id

    def settle(self, order: KnownOrder) -> None:
        """Note that an order may be over; the oldest of those that are is forgotten."""
        if order.ended:
            self._ended.setdefault(order.order_id)
            if len(self._ended) > self._ended_kept:
                oldest = next(iter(self._ended))
                self._ours.pop(self._orders[oldest].client_id, None)
                del self._ended[oldest], self._orders[oldest]

    def unfinished(self, symbol: str | None = None) -> Iterator[KnownOrder]:
        """Yield the orders that may still change."""
        for order in tuple(self._orders.values()):
            gone = order.ended or (order.absent and order.venue_order_id is None)
            if not gone and symbol in (None, order.symbol):
                yield order

    def waiting(self, symbol: str) -> int:
        """Return how many of them are stops that may still wait."""
        known = (order for order in self.unfinished(symbol) if order.sent or order.venue_order_id is not None)
        return sum(1 for order in known if order.waits and not order.triggered)

    def working(self, symbol: str) -> int:
        """Return how many orders of ours may lie in the book of a symbol."""
        return sum(1 for order in self.unfinished(symbol) if order.sent or order.venue_order_id is not None)
