"""Making an order smaller at Binance, which keeps its place in the book (``order.amend.keepPriority``).

That is all that Binance changes of an order: a new price or more would be another order with another id, so it is
refused here. The order keeps the id that we gave it, by which it is asked about.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from infra.feeds.decimals import parse_units
from infra.venues.binance.inquiry import UNREADABLE, Inquiry
from infra.venues.binance.orders import KnownOrders, plain
from infra.venues.binance.reports import KnownOrder, report_of
from infra.venues.binance.rest import Answer, BinanceRest, Outcome
from infra.venues.binance.wire import Amended, decode
from infra.venues.own_reports import stamp_own
from schemas.event import derive_id
from schemas.orders import AmendRequested, ReportKind, VenueReport
from schemas.values import NS_PER_MS

_PATH: Final = "/api/v3/order/amend/keepPriority"
_WEIGHT: Final = 4
_ONLY_SMALLER: Final = "Binance can only make an order smaller"


class BinanceAmends:
    """Performs changes of orders. ``put`` takes what is to be told of them."""

    def __init__(
        self,
        rest: BinanceRest,
        orders: KnownOrders,
        inquiry: Inquiry,
        put: Callable[[VenueReport], Awaitable[None]],
    ) -> None:
        self._rest = rest
        self._orders = orders
        self._inquiry = inquiry
        self._put = put

    async def perform(self, request: AmendRequested, closed: str | None, now_ns: int) -> None:
        """Ask for a change once; ``closed`` is why nothing may leave now, if so."""
        order = self._orders.know(request)
        smaller = request.limit_price == request.former_price and request.quantity < request.former_quantity
        if now_ns > request.not_after_ns:
            closed = "too old at the socket"
        if closed is not None or not smaller:
            await self._tell(request, ReportKind.REPLACE_REJECTED, now_ns, reason=closed or _ONLY_SMALLER)
            return
        name = order.client_id or order.order_id
        params = {"symbol": order.symbol, "origClientOrderId": name, "newClientOrderId": name}
        answer = await self._rest.signed(
            "PUT", _PATH, {**params, "newQty": plain(request.quantity)}, weight=_WEIGHT, now_ns=now_ns
        )
        await self._take(request, order, answer, now_ns)

    async def _take(self, request: AmendRequested, order: KnownOrder, answer: Answer, now_ns: int) -> None:
        if answer.outcome is Outcome.DONE:
            try:
                found = decode(answer.body, Amended)
                terms = {"quantity": parse_units(found.amendedOrder.qty)}
                terms["limit_price"] = parse_units(found.amendedOrder.price)
            except UNREADABLE:
                await self._tell(request, ReportKind.TIMED_OUT, now_ns, reason="the answer cannot be read")
                return
            order.venue_order_id = found.amendedOrder.orderId
            await self._tell(request, ReportKind.REPLACED, found.transactTime * NS_PER_MS, **terms)
        elif answer.outcome is Outcome.NOT_SENT:
            await self._tell(request, ReportKind.REPLACE_REJECTED, now_ns, reason=answer.why)
        elif answer.refused:
            await self._tell(request, ReportKind.REPLACE_REJECTED, now_ns, reason=answer.why)
            # It may have been too late: then what became of the order is not known yet.
            await self._inquiry.tell_status(order, derive_id(request.event_id, "binance/after an amend", 0))
        else:
            await self._tell(request, ReportKind.TIMED_OUT, now_ns, reason=answer.why)

    async def _tell(self, request: AmendRequested, kind: ReportKind, time_ns: int, **fields: Any) -> None:
        """Tell what is known of a request."""
        report = report_of(self._orders.know(request), kind, time_ns, "", amend_id=request.amend_id, **fields)
        stamp_own(report, request, kind)
        await self._put(report)
