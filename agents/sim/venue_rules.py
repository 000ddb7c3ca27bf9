"""What the simulated venue refuses on its own account, whatever our own limits said."""

import hashlib
from collections.abc import Iterable

from agents.sim.engine import VenueOrder
from agents.sim.venue_state import Action, VenueTerms
from schemas.market import InstrumentDefined
from schemas.orders import SubmitRequested
from schemas.values import OrderType, Side, notional


def rejection(
    request: SubmitRequested, instrument: InstrumentDefined | None, mid: int | None, inventory: int
) -> str | None:
    """Return why an order is refused, or None. ``inventory`` is what a spot account could still sell."""
    if instrument is None:
        return "unknown instrument"
    reason = _quantity_fault(request, instrument) or _price_fault(request, instrument)
    if reason is not None:
        return reason
    price = request.limit_price if request.limit_price is not None else mid
    if price is not None and notional(price, request.quantity, instrument.multiplier) < instrument.notional_min:
        return f"notional below {instrument.notional_min}"
    if not instrument.shortable and request.side is Side.SELL and request.quantity > inventory:
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
        return "a limit order needs a price" if request.order_type is OrderType.LIMIT else None
    if request.limit_price <= 0 or request.limit_price % instrument.tick_size:
        return "price is not a multiple of the tick"
    return None


def sellable(position: int, orders: Iterable[VenueOrder], account: str, instrument: str) -> int:
    """Return what is left to sell of a spot position after the sells that still work."""
    working = sum(
        order.leaves_quantity
        for order in orders
        if order.live and order.account == account and order.instrument == instrument and order.side is Side.SELL
    )
    return position - working


def latency_of(terms: VenueTerms, order_id: str, kind: str) -> int:
    """Return how long a message about an order travels: a function of the seed, the order and the message alone."""
    if terms.jitter_ns == 0:
        return terms.latency_ns
    text = f"{terms.seed}|{order_id}|{kind}".encode()
    draw = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return terms.latency_ns + draw % terms.jitter_ns


def order_of(action: Action, request: SubmitRequested, number: int) -> VenueOrder:
    """Return the record of the ``number``-th order as it arrives; its venue id carries the epoch it was sent under."""
    return VenueOrder(
        order_id=request.order_id,
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
    )
