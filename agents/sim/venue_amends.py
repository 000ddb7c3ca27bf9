"""What the simulated venue does with a change of an order: what increments, minimums and holdings allow.

An order that only becomes smaller keeps its place in the queue; a new price or a larger quantity loses it.
"""

from collections.abc import Mapping

from agents.sim.engine import VenueOrder
from agents.sim.venue_state import VenueAccount
from schemas.market import InstrumentDefined
from schemas.orders import AmendRequested
from schemas.values import Side, notional


def amend_refusal(
    order: VenueOrder | None,
    request: AmendRequested,
    accounts: Mapping[str, VenueAccount],
    instruments: Mapping[str, InstrumentDefined],
) -> str | None:
    """Return why an order cannot be changed so, or None."""
    if order is None:
        return "unknown order"
    if not order.live:
        return f"too late: {order.status}"
    if order.waiting or order.limit_price is None:
        return "only what rests at a price can be changed"
    instrument = instruments[order.instrument]
    leaves = request.quantity - order.filled_quantity - order.busted_quantity
    if leaves <= 0:
        return "as much is filled already"
    if request.quantity % instrument.lot_size or request.quantity > instrument.quantity_max:
        return "quantity is not a multiple of the lot, or too large"
    if request.limit_price <= 0 or request.limit_price % instrument.tick_size:
        return "price is not a multiple of the tick"
    if notional(request.limit_price, leaves, instrument.multiplier) < instrument.notional_min:
        return f"notional below {instrument.notional_min}"
    account = accounts.get(order.account)
    held = 0 if account is None else account.positions.get(order.instrument, 0)
    larger_sell = order.side is Side.SELL and request.quantity > order.quantity
    return "insufficient inventory" if larger_sell and not instrument.shortable and leaves > held else None
