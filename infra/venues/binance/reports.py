"""What is known here of each order, and the reports made of what the venue says: each thing told once.

The answer to a request and the user data stream say the same things, in no fixed order and sometimes twice; an order's
record remembers what has been told, so that whoever comes second says nothing new.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

from infra.feeds.decimals import parse_units
from infra.venues.binance.wire import OrderFound, Placed, PlacedFill, TradeFound, UserEvent
from schemas.event import derive_id
from schemas.orders import OrderStatus, ReportKind, VenueFill, VenueReport
from schemas.values import NS_PER_MS, Liquidity

STATUS_OF: Final = {
    "NEW": OrderStatus.NEW,
    "PENDING_NEW": OrderStatus.NEW,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "PENDING_CANCEL": OrderStatus.PENDING_CANCEL,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
}
_ENDS: Final = {
    "CANCELED": ReportKind.CANCELED,
    "REJECTED": ReportKind.REJECTED,
    "EXPIRED": ReportKind.EXPIRED,
    "EXPIRED_IN_MATCH": ReportKind.EXPIRED,
}
_OVER: Final = frozenset({OrderStatus.FILLED, *(STATUS_OF[name] for name in _ENDS)})
_STOPS: Final = ("STOP_LOSS", "STOP_LOSS_LIMIT")
_SELF_TRADE: Final = "the venue prevented a trade with ourselves"


class KnownOrder(msgspec.Struct):
    """An order as far as it has been told. ``filled`` is in units of 1e-8; ``fills`` are the venue's trade ids.

    ``client_id`` is the id that it was sent with; empty as long as nobody remembers. ``waits``: it is a stop,
    ``triggered`` once that is known to have been reached.

    ``arrives_until_ns`` is until when the venue might take the request for it, if this process has sent it; ``absent``
    that the venue did not know it after that.
    """

    order_id: str
    account: str
    instrument: str
    symbol: str
    client_id: str = ""
    venue_order_id: int | None = None
    sent: bool = False
    accepted: bool = False
    ended: bool = False
    absent: bool = False
    arrives_until_ns: int = 0
    filled: int = 0
    fills: set[int] = set()
    waits: bool = False
    triggered: bool = False


def report_of(order: KnownOrder, kind: ReportKind, time_ns: int, event_id: str, **fields: Any) -> VenueReport:
    """Return a report on an order."""
    return VenueReport(
        key=order.account,
        event_time_ns=time_ns,
        available_at_ns=time_ns,
        event_id=event_id,
        order_id=order.order_id,
        instrument=order.instrument,
        kind=kind,
        venue_order_id=None if order.venue_order_id is None else str(order.venue_order_id),
        **fields,
    )


def _own_id(order: KnownOrder, what: str) -> str:
    """Return the id of a thing that can be said of an order only once."""
    return derive_id(order.order_id, f"binance/{what}", 0)


def of_placed(order: KnownOrder, placed: Placed) -> Iterable[VenueReport]:
    """Yield what the answer to a new order says that has not been told."""
    time_ns = placed.transactTime * NS_PER_MS
    order.venue_order_id = placed.orderId
    if placed.status not in ("REJECTED",):
        yield from _accepted(order, time_ns)
    for item in placed.fills:
        yield from _trade(order, _placed_fill(order, item, time_ns))
    if placed.status == "FILLED":
        order.ended = True
    yield from of_end(order, placed.status, time_ns, parse_units(placed.executedQty), None)


def of_event(order: KnownOrder, event: UserEvent) -> Iterable[VenueReport]:
    """Yield what an executionReport says that has not been told. Raises NotANumber, ArithmeticError."""
    time_ns = event.T * NS_PER_MS
    order.venue_order_id = event.i
    filled = parse_units(event.z)
    if event.x == "NEW":
        yield from _accepted(order, time_ns)
        if event.w and order.waits and not order.triggered:
            order.triggered = True
            yield report_of(order, ReportKind.TRIGGERED, time_ns, _own_id(order, "triggered"), triggered=True)
    elif event.x == "REPLACED":
        terms = {"quantity": parse_units(event.q), "limit_price": parse_units(event.p)}
        yield report_of(order, ReportKind.REPLACED, time_ns, _own_id(order, f"replaced/{event.q}"), **terms)
    elif event.x == "TRADE":
        yield from _trade(order, _event_fill(order, event, time_ns), filled)
        if event.X == "FILLED":
            order.ended = True
    reason = _SELF_TRADE if event.X == "EXPIRED_IN_MATCH" else None if event.r == "NONE" else event.r
    yield from of_end(order, event.X, time_ns, filled, reason)


def of_end(order: KnownOrder, status: str, time_ns: int, filled: int, reason: str | None) -> Iterable[VenueReport]:
    """Yield the end of an order, if that is what ``status`` means and it has not been told."""
    kind = _ENDS.get(status)
    if kind is not None and not order.ended:
        order.ended = True
        yield report_of(order, kind, time_ns, _own_id(order, kind), filled_quantity=filled, reason=reason)


def of_status(
    order: KnownOrder, found: OrderFound, trades: list[TradeFound], time_ns: int, event_id: str
) -> VenueReport | None:
    """Return an order's status with every fill; None as long as the fills do not add up to what the status counts.

    The venue answers the two questions from different places, one of which may be behind. Raises NotANumber.
    """
    fills = tuple(_trade_fill(order, item) for item in trades)
    filled = sum(fill.quantity for fill in fills)
    if filled < parse_units(found.executedQty):
        return None
    order.venue_order_id = found.orderId
    # The stream may have told more in the meantime.
    order.fills.update(item.id for item in trades)
    order.filled = max(order.filled, filled)
    status = STATUS_OF[found.status]
    order.accepted = True
    order.ended = order.ended or status in _OVER
    reason = _SELF_TRADE if found.status == "EXPIRED_IN_MATCH" else None
    order.waits = order.waits or found.type in _STOPS
    order.triggered = order.triggered or (order.waits and found.isWorking)
    told = {"reason": reason, "triggered": order.triggered, "quantity": parse_units(found.origQty)}
    told["limit_price"] = parse_units(found.price) or None
    fields = {"status": status, "filled_quantity": filled, "fills": fills, **told}
    return report_of(order, ReportKind.STATUS, time_ns, event_id, **fields)


def _accepted(order: KnownOrder, time_ns: int) -> Iterable[VenueReport]:
    if not order.accepted:
        order.accepted = True
        yield report_of(order, ReportKind.ACCEPTED, time_ns, _own_id(order, "accepted"), status=OrderStatus.NEW)


def _trade(order: KnownOrder, told: tuple[int, VenueFill], filled: int | None = None) -> Iterable[VenueReport]:
    trade_id, fill = told
    if trade_id in order.fills:
        return
    order.fills.add(trade_id)
    order.filled += fill.quantity
    yield report_of(
        order,
        ReportKind.TRADE,
        fill.event_time_ns,
        derive_id(fill.fill_id, "binance/trade", 0),
        filled_quantity=order.filled if filled is None else filled,
        fill_id=fill.fill_id,
        last_price=fill.price,
        last_quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        liquidity=fill.liquidity,
    )


def fill_id_of(symbol: str, trade_id: int) -> str:
    """Return a trade's id within the venue: the venue counts trades by symbol."""
    return f"{symbol}-{trade_id}"


def _placed_fill(order: KnownOrder, item: PlacedFill, time_ns: int) -> tuple[int, VenueFill]:
    """What fills as it is placed takes: an order that may only make is refused instead."""
    return item.tradeId, VenueFill(
        fill_id=fill_id_of(order.symbol, item.tradeId),
        price=parse_units(item.price),
        quantity=parse_units(item.qty),
        fee=Decimal(item.commission),
        fee_currency=item.commissionAsset,
        liquidity=Liquidity.TAKER,
        event_time_ns=time_ns,
    )


def _event_fill(order: KnownOrder, event: UserEvent, time_ns: int) -> tuple[int, VenueFill]:
    return event.t, VenueFill(
        fill_id=fill_id_of(order.symbol, event.t),
        price=parse_units(event.L),
        quantity=parse_units(event.l),
        fee=Decimal(event.n or "0"),
        fee_currency=event.N or "",
        liquidity=Liquidity.MAKER if event.m else Liquidity.TAKER,
        event_time_ns=time_ns,
    )


def _trade_fill(order: KnownOrder, item: TradeFound) -> VenueFill:
    return VenueFill(
        fill_id=fill_id_of(order.symbol, item.id),
        price=parse_units(item.price),
        quantity=parse_units(item.qty),
        fee=Decimal(item.commission),
        fee_currency=item.commissionAsset,
        liquidity=Liquidity.MAKER if item.isMaker else Liquidity.TAKER,
        event_time_ns=item.time * NS_PER_MS,
    )
