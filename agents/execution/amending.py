"""Giving a working order a new price or quantity (FIX cancel/replace) without taking it out and sending another.

An amend is an intent like an order: written before it is sent, sent once, and what is not known of it is asked about.
One is under way at a time. Until the venue has spoken the order may have either terms, and counts with the worse.
"""

from typing import Final

from agents.execution.moves import RESTING, move, record_anomaly
from agents.execution.orders import Amend, OrderState, next_status
from agents.execution.turn import Turn
from schemas.decisions import DenyReason, OrderApproved
from schemas.orders import AmendRequested, ExecType, OrderStatus, VenueReport

_AMENDABLE: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


def amend_order(turn: Turn, order: OrderState, approval: OrderApproved, refused: tuple[DenyReason, ...]) -> None:
    """Ask the venue for an approved change, or deny it once and for all. A change seen before is ignored.

    ``refused`` are the hard limits' reasons against it.
    """
    amend_id = approval.order_id
    if amend_id in order.amend_outcomes or (order.amend is not None and order.amend.amend_id == amend_id):
        return
    fault = _fault(order, approval)
    reasons = refused if fault is None else (DenyReason.NOT_AMENDABLE,)
    if reasons:
        order.amend_outcomes[amend_id] = False
        turn.save_order(order)
        told = f"amend denied: {fault or ','.join(reasons)}"
        turn.say_order(order, ExecType.REPLACE_REJECTED, told, denied=reasons, amend_id=amend_id)
        return
    assert approval.limit_price is not None, "an amend without a price is not amendable"
    order.amend = Amend(
        amend_id=amend_id,
        quantity=approval.quantity,
        limit_price=approval.limit_price,
        sent_at_ns=turn.at_ns,
        not_after_ns=min(approval.expires_at_ns, turn.at_ns + turn.config.submit_limit_ns),
    )
    turn.count_message(order.account)
    move(turn, order, OrderStatus.PENDING_REPLACE)
    turn.say_order(order, ExecType.PENDING_REPLACE, None)
    turn.outputs.append(_request(turn, order, order.amend))


def expect_terms(turn: Turn, approval: OrderApproved) -> None:
    """Note an amend of which only the approval is known: whatever terms the venue tells are then believed."""
    order = turn.order(approval.amends or "")
    if order is not None and approval.order_id not in order.amend_outcomes:
        order.amend_outcomes[approval.order_id] = False
        turn.save_order(order)


def _request(turn: Turn, order: OrderState, amend: Amend) -> AmendRequested:
    return AmendRequested(
        key=order.account,
        event_time_ns=turn.event.event_time_ns,
        available_at_ns=turn.at_ns,
        order_id=order.order_id,
        amend_id=amend.amend_id,
        instrument=order.instrument,
        side=order.side,
        limit_price=amend.limit_price,
        quantity=amend.quantity,
        former_price=order.limit_price,
        former_quantity=order.quantity,
        not_after_ns=amend.not_after_ns,
        client_order_id=order.client_order_id,
        strategy=order.strategy,
        commands_through=turn.desk.commands_through,
    )


def _fault(order: OrderState, approval: OrderApproved) -> str | None:
    """Return why an order cannot be changed so, or None."""
    if order.status not in _AMENDABLE or order.cancel_wanted or order.amend is not None:
        return f"the order is {order.status}"
    if order.time_in_force not in RESTING or order.order_type.waits or approval.limit_price is None:
        return "only what rests at a price can be changed"
    same = (order.account, order.strategy, order.instrument, order.side, order.order_type, order.time_in_force)
    theirs = (approval.account, approval.strategy, approval.instrument, approval.side, approval.order_type)
    if same != (*theirs, approval.time_in_force):
        return "it would be another order"
    if approval.quantity <= order.filled_quantity:
        return "as much is filled already"
    unchanged = (approval.quantity, approval.limit_price) == (order.quantity, order.limit_price)
    return "nothing would change" if unchanged else None


def take_replaced(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """The venue has changed an order: its terms are what the venue says they are."""
    amend = order.amend
    if amend is None or report.amend_id not in (None, amend.amend_id):
        _take_late(turn, order, report, taken=True)
        return
    told = (report.quantity or amend.quantity, report.limit_price or amend.limit_price)
    if told != (amend.quantity, amend.limit_price):
        record_anomaly(turn, order, ExecType.REPLACED, "the venue gave it other terms than were asked for")
    _end(turn, order, taken=True)
    order.quantity, order.limit_price = told
    order.terms_at_ns = turn.at_ns
    _tell_end(turn, order, (ExecType.REPLACED, report.reason), amend.amend_id)


def take_replace_rejected(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """The venue has not changed an order, and will not."""
    amend = order.amend
    if amend is None or report.amend_id not in (None, amend.amend_id):
        _take_late(turn, order, report, taken=False)
        return
    _end(turn, order, taken=False)
    denied = () if report.deny_reason is None else (report.deny_reason,)
    _tell_end(turn, order, (ExecType.REPLACE_REJECTED, report.reason), amend.amend_id, denied)


def _take_late(turn: Turn, order: OrderState, report: VenueReport, *, taken: bool) -> None:
    """A word on an amend that is over: the same as was known is nothing new, the contrary is asked about."""
    exec_type = ExecType.REPLACED if taken else ExecType.REPLACE_REJECTED
    known = order.amend_outcomes.get(report.amend_id) if report.amend_id is not None else None
    nameless = report.amend_id is None and (report.quantity in (None, order.quantity))
    if known is taken or nameless:
        return
    record_anomaly(turn, order, exec_type, f"of amend {report.amend_id}, which is not under way")
    if not order.final:
        turn.ask(order)


def take_terms(turn: Turn, order: OrderState, report: VenueReport) -> bool:
    """Take the terms that a status, or an order's end, tells; return whether an amend is still in doubt after it.

    A status without the new terms is final only when the request can no longer arrive.
    """
    amend = order.amend
    if report.quantity is None:
        return amend is not None and not order.final
    told = (report.quantity, report.limit_price or order.limit_price)
    if amend is None:
        if report.event_time_ns >= order.terms_at_ns and told != (order.quantity, order.limit_price):
            if order.amend_outcomes:
                # An amend that was given up has been taken after all.
                order.quantity, order.limit_price = told
                order.terms_at_ns = turn.at_ns
            record_anomaly(turn, order, ExecType.STATUS, "its terms at the venue are others than here")
        return False
    # An order that is filled at the venue cannot be changed any more, however old the word of it is.
    over = report.status is OrderStatus.FILLED
    if report.event_time_ns < amend.sent_at_ns and not over:
        return not order.final
    if told == (amend.quantity, amend.limit_price):
        _end(turn, order, taken=True)
        order.quantity, order.limit_price = told
        order.terms_at_ns = turn.at_ns
        _tell_end(turn, order, (ExecType.REPLACED, "by the venue's status"), amend.amend_id)
    elif over or report.event_time_ns >= amend.not_after_ns + turn.config.takeover_wait_ns:
        _end(turn, order, taken=False)
        _tell_end(turn, order, (ExecType.REPLACE_REJECTED, "the venue never took it"), amend.amend_id)
    return order.amend is not None and not order.final


def _end(turn: Turn, order: OrderState, *, taken: bool) -> None:
    assert order.amend is not None
    order.amend_outcomes[order.amend.amend_id] = taken
    order.amend = None
    turn.save_order(order)


def _tell_end(
    turn: Turn,
    order: OrderState,
    outcome: tuple[ExecType, str | None],
    amend_id: str,
    denied: tuple[DenyReason, ...] = (),
) -> None:
    """Move an order whose amend is over, and say so; too much filled for the new terms is an overfill."""
    exec_type, reason = outcome
    after = next_status(order, exec_type)
    if after is None:
        record_anomaly(turn, order, exec_type, reason)
        return
    overfilled = order.filled_quantity > order.quantity
    order.anomalies += overfilled
    if after is not order.status:
        move(turn, order, after)
    told = "OVERFILL" if overfilled else reason
    turn.save_order(order)
    turn.say_order(order, exec_type, told, amend_id=amend_id, denied=denied)
