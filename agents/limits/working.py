"""An order that can still fill, as the limits see it: made of an approval, or of what execution says of the order."""

import msgspec

from schemas.decisions import OrderApproved
from schemas.orders import ExecType, OrderEvent, OrderStatus
from schemas.values import Leg, OrderType, Side, TimeInForce

_RESTING = (TimeInForce.GTC, TimeInForce.POST_ONLY)


class WorkingOrder(msgspec.Struct, kw_only=True):
    """An order that can still fill: ``leaves`` of it, in units of 1e-8. ``rests`` says that it may lie in a book.

    ``stop_price`` is set as long as it waits for it: until then it lies in no book. ``leg``: it protects the position
    that ``parent_order_id`` made, and answers no target.

    While an amend (``amend_id``) is under way, ``leaves`` and ``limit_price`` are the worse of both terms, and
    ``amend_quantity`` and ``amend_price`` the new ones.
    """

    order_id: str
    strategy: str
    instrument: str
    side: Side
    leaves: int
    limit_price: int | None
    rests: bool
    unknown: bool = False
    seen: bool = False
    cancelling: bool = False
    stop_price: int | None = None
    leg: Leg | None = None
    parent_order_id: str | None = None
    filled: int = 0
    amend_id: str | None = None
    amend_quantity: int = 0
    amend_price: int | None = None


def working_of_approval(order: OrderApproved) -> WorkingOrder:
    """Return an order as it works from its approval on."""
    return WorkingOrder(
        order_id=order.order_id,
        strategy=order.strategy,
        instrument=order.instrument,
        side=order.side,
        leaves=order.quantity,
        limit_price=order.limit_price,
        rests=may_rest(order.order_type, order.time_in_force),
        stop_price=order.stop_price,
        leg=order.leg,
        parent_order_id=order.parent_order_id,
    )


def working_of_event(event: OrderEvent, known: WorkingOrder | None) -> WorkingOrder:
    """Return an order as execution says that it works; ``known`` is what was known of it before."""
    amend_id, quantity, price = _pending(event, known)
    waiting = event.stop_price
    asked = known is not None and known.cancelling and event.exec_type is not ExecType.CANCEL_REJECTED
    acted = event.exec_type is ExecType.TRIGGERED or event.filled_quantity > 0
    if acted or (known is not None and known.seen and known.stop_price is None):
        waiting = None
    return WorkingOrder(
        order_id=event.order_id,
        strategy=event.strategy,
        instrument=event.instrument,
        side=event.side,
        leaves=max(0, max(event.quantity, quantity) - event.filled_quantity),
        limit_price=_furthest(event.side, event.limit_price, price),
        rests=may_rest(event.order_type, event.time_in_force),
        unknown=event.status is OrderStatus.UNKNOWN,
        seen=True,
        cancelling=event.status is OrderStatus.PENDING_CANCEL or asked,
        stop_price=waiting,
        leg=event.leg,
        parent_order_id=event.parent_order_id,
        filled=event.filled_quantity,
        amend_id=amend_id,
        amend_quantity=quantity,
        amend_price=price,
    )


def amended(order: WorkingOrder, amend: OrderApproved) -> WorkingOrder:
    """Return an order as it works from the approval of its amend on."""
    return msgspec.structs.replace(
        order,
        leaves=max(order.leaves, amend.quantity - order.filled),
        limit_price=_furthest(order.side, order.limit_price, amend.limit_price),
        amend_id=amend.order_id,
        amend_quantity=amend.quantity,
        amend_price=amend.limit_price,
    )


def _pending(event: OrderEvent, known: WorkingOrder | None) -> tuple[str | None, int, int | None]:
    """Return the amend that is under way; one that execution has not spoken of yet is so, whatever else it says."""
    if event.pending_quantity is not None:
        return event.amend_id, event.pending_quantity, event.pending_price
    if known is not None and known.amend_id is not None and known.amend_id != event.amend_id:
        return known.amend_id, known.amend_quantity, known.amend_price
    return None, 0, None


def _furthest(side: Side, price: int | None, other: int | None) -> int | None:
    """Return the price that reaches further into the book."""
    if price is None or other is None:
        return price
    return max(price, other) if side is Side.BUY else min(price, other)


def may_rest(order_type: OrderType, time_in_force: TimeInForce) -> bool:
    """Return whether an order may wait at the venue, in a book or for its stop price, until it is cancelled.

    A market order takes what there is and is over, whatever its time in force says.
    """
    return order_type.waits or (order_type is not OrderType.MARKET and time_in_force in _RESTING)
