"""What the simulated venue refuses on its own account, whatever our own limits said."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agents.sim.engine import VenueOrder
from agents.sim.stops import reached_by
from agents.sim.venue_state import Action, VenueAccount, VenueTerms
from schemas.market import InstrumentDefined
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested
from schemas.values import OrderType, Side, TimeInForce, notional


class Seen(NamedTuple):
    """What a venue looks at besides the order: the mid, the last price, and what a spot account could still sell."""

    mid: int | None
    last: int | None
    inventory: int


def rejection(request: SubmitRequested, instrument: InstrumentDefined | None, seen: Seen) -> str | None:
    """Return why an order is refused, or None."""
    if request.order_type is OrderType.MARKET and request.time_in_force is TimeInForce.POST_ONLY:
        return "a market order cannot be post-only"
    if instrument is None:
        return "unknown instrument"
    reason = _quantity_fault(request, instrument) or _price_fault(request, instrument)
    reason = reason or _stop_fault(request, instrument, seen.last)
    if reason is not None:
        return reason
    price = request.stop_price if request.order_type is OrderType.STOP else request.limit_price or seen.mid
    if price is not None and notional(price, request.quantity, instrument.multiplier) < instrument.notional_min:
        return f"notional below {instrument.notional_min}"
    if not instrument.shortable and request.side is Side.SELL and request.quantity > seen.inventory:
        return "insufficient inventory"
    return None


def _quantity_fault(request: SubmitRequested, instrument: InstrumentDefined) -> str | None:
    if request.quantity <= 0 or request.quantity % instrument.lot_size:
        return "quantity is not a multiple of the lot"
    if not instrument.quantity_min <= request.quantity <= instrument.quantity_max:
        return "quantity out of bounds"
    return None


def _price_fault(request: SubmitRequested, instrument: InstrumentDefined) -> str | None:
    if request.limit_price is None:
        limited = request.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
        return "a limit order needs a price" if limited else None
    if request.limit_price <= 0 or request.limit_price % instrument.tick_size:
        return "price is not a multiple of the tick"
    return None


def _stop_fault(request: SubmitRequested, instrument: InstrumentDefined, last: int | None) -> str | None:
    stop = request.stop_price
    if not request.order_type.waits:
        return None if stop is None else "only a stop has a stop price"
    if stop is None or stop <= 0 or stop % instrument.tick_size:
        return "stop price is not a multiple of the tick"
    if request.time_in_force is TimeInForce.POST_ONLY:
        return "a stop cannot be post-only"
    if last is not None and reached_by(request.side, stop, last):
        return "stop price would trigger immediately"
    return None


def sellable(account: VenueAccount | None, others: Iterable[VenueOrder], order: VenueOrder) -> int:
    """Return what is left to sell of a spot position after the other sells that still work."""
    place = (order.account, order.instrument)
    working = sum(
        other.leaves_quantity
        for other in others
        if other.live and (other.account, other.instrument) == place and other.side is Side.SELL
    )
    return (0 if account is None else account.positions.get(order.instrument, 0)) - working


def untimely(action: Action, terms: VenueTerms, epoch: int) -> str | None:
    """Return why a request is refused for who sent it, or when, or None. ``epoch`` is the newest seen."""
    if terms.fences_epochs and action.epoch < epoch:
        return f"fenced: epoch {action.epoch} is below {epoch}"
    age_ns = action.due_ns - action.sent_ns
    window_ns = terms.receive_window_ns if action.window_ns is None else min(action.window_ns, terms.receive_window_ns)
    if age_ns > window_ns:
        return "outside the receive window"
    if -age_ns > terms.clock_ahead_max_ns:
        return "from the future"
    return None


def latency_of(terms: VenueTerms, order_id: str, kind: str) -> int:
    """Return how long a message about an order travels: a function of the seed, the order and the message alone."""
    if terms.jitter_ns == 0:
        return terms.latency_ns
    text = f"{terms.seed}|{order_id}|{kind}".encode()
    draw = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return terms.latency_ns + draw % terms.jitter_ns


def name_of(request: SubmitRequested, orders: Mapping[str, VenueOrder]) -> str:
    """Return what an order is kept by: its client's order id, and where that is taken under another id, this one.

    So two orders for one intent are two orders here, as they would be anywhere.
    """
    taken = orders.get(request.order_id)
    return request.order_id if taken is None or taken.client_order_id == known_as(request) else known_as(request)


def known_as(request: SubmitRequested | CancelRequested | QueryRequested) -> str:
    """Return the id that a request gives its order."""
    return request.client_order_id or request.order_id


def asked_about(
    request: AmendRequested | CancelRequested | QueryRequested, orders: Mapping[str, VenueOrder]
) -> VenueOrder | None:
    """Return the order that a request names, by the id it was sent with if the request tells one."""
    order = orders.get(request.order_id)
    if order is None or not request.client_order_id or order.client_order_id == request.client_order_id:
        return order
    return orders.get(request.client_order_id)


def order_of(action: Action, request: SubmitRequested, number: int, name: str) -> VenueOrder:
    """Return the record of the ``number``-th order as it arrives; its venue id carries the epoch it was sent under."""
    return VenueOrder(
        order_id=name,
        client_order_id=known_as(request),
        sent_at_ns=action.sent_ns,
        venue_order_id=f"{action.epoch}-{number}",
        account=request.key,
        instrument=request.instrument,
        side=request.side,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        limit_price=request.limit_price,
        quantity=request.quantity,
        number=number,
        created_at_ns=action.due_ns,
        stop_price=request.stop_price,
    )
