"""What the simulated venue has of us, told in one answer to whoever has just taken over."""

from agents.sim.engine import VenueOrder
from agents.sim.venue_state import VenueState
from schemas.event import derive_id
from schemas.reconciliation import BooksRequested, ToldOrder, VenueBooks


def books_of(state: VenueState, request: BooksRequested, now_ns: int) -> VenueBooks:
    """Return the venue's answer as of ``now_ns``; its identity is a function of the question and of that time."""
    # Whoever asks has taken over: nothing of a former holder is taken from now on.
    state.epoch = max(state.epoch, request.epoch)
    orders = [order for order in state.orders.values() if _wanted(order, request)]
    return VenueBooks(
        key=request.key,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=derive_id(request.event_id, f"books/{now_ns}", request.attempt),
        cause_id=request.event_id,
        venue=request.venue,
        epoch=request.epoch,
        attempt=request.attempt,
        orders=tuple(_told(order) for order in orders),
        positions={
            f"{name}|{instrument}": held
            for name, account in sorted(state.accounts.items())
            for instrument, held in sorted(account.positions.items())
            if instrument in request.instruments
        },
    )


def _wanted(order: VenueOrder, request: BooksRequested) -> bool:
    if order.instrument not in request.instruments:
        return False
    newest_ns = max((fill.event_time_ns for fill in order.fills), default=order.created_at_ns)
    return order.live or newest_ns >= request.since_ns or order.client_order_id in request.client_ids


def _told(order: VenueOrder) -> ToldOrder:
    return ToldOrder(
        order_id=order.order_id,
        client_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        instrument=order.instrument,
        side=order.side,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        status=order.status,
        created_at_ns=order.created_at_ns,
        account=order.account,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        triggered=order.triggered,
        fills=tuple(order.fills),
    )
