"""A change of a working order, judged as a new order in the old one's place.

So what is added is what counts: against positions and exposure only the difference to what works already, against the
limits of one order what may still be filled of it. Until the venue has spoken the larger of the two quantities works.
"""

from dataclasses import replace

import msgspec

from agents.limits.case import result
from agents.limits.exposure import ExposureView
from agents.limits.working import WorkingOrder
from schemas.decisions import CheckResult, DenyReason, OrderApproved
from schemas.values import Side


def in_its_place(order: OrderApproved, view: ExposureView) -> tuple[OrderApproved, ExposureView]:
    """Return an amend as the order that it leaves, and the view without the one that it changes.

    A target that is not there leaves both as they are: ``amendable`` then refuses the amend.
    """
    target = view.working.get(order.amends or "")
    if target is None:
        return order, view
    lines = dict(view.lines)
    line = lines.get((target.strategy, target.instrument))
    if line is not None:
        buys, sells = (target.leaves, 0) if target.side is Side.BUY else (0, target.leaves)
        fewer = msgspec.structs.replace(line, buys=line.buys - buys, sells=line.sells - sells)
        lines[target.strategy, target.instrument] = fewer
    working = {name: item for name, item in view.working.items() if name != target.order_id}
    left = msgspec.structs.replace(order, quantity=order.quantity - target.filled)
    return left, replace(view, lines=lines, working=working)


def amendable(order: OrderApproved, view: ExposureView) -> CheckResult:
    """What is changed works, on the same line and side, and nothing else is under way about it."""
    target = view.working.get(order.amends or "")
    limit = "a resting order of the same line and side"
    if target is None:
        return result(DenyReason.NOT_AMENDABLE, False, f"{order.amends} does not work", limit)
    same = (target.strategy, target.instrument, target.side) == (order.strategy, order.instrument, order.side)
    return result(DenyReason.NOT_AMENDABLE, same and may_change(target), order.amends, limit)


def may_change(order: WorkingOrder) -> bool:
    """Tell whether an order lies in a book, as far as is known, and nothing is under way about it."""
    under_way = order.unknown or order.cancelling or order.amend_id is not None
    return order.seen and not under_way and order.rests and order.stop_price is None and order.leg is None
