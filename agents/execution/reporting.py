"""What a venue's word, or the lack of it, does to an order, to the position and to the books."""

from typing import Final

from agents.execution.fills import book_fill, say_fill
from agents.execution.orders import (
    EXEC_OF_REPORT,
    EXEC_OF_STATUS,
    TERMINAL,
    OrderState,
    next_status,
)
from agents.execution.state import FinishedBucket
from agents.execution.turn import Turn
from agents.execution.valuation import take_charge
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.decisions import DenyReason
from schemas.orders import ExecType, OrderStatus, ReportKind, VenueFill, VenueReport
from schemas.values import NS_PER_S, ZERO, Liquidity, TimeInForce

BUCKET_NS: Final = 60 * NS_PER_S
_RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.POST_ONLY})
_NOTHING_TO_ASK: Final = TERMINAL | {OrderStatus.UNKNOWN}
_GONE: Final = frozenset({OrderStatus.REJECTED, OrderStatus.NOT_SENT, OrderStatus.DENIED})


def take_report(turn: Turn, report: VenueReport) -> None:
    """Apply one report. Raises BadRecord for an order that is not, or no longer, known, and for what is incomplete."""
    if report.kind is ReportKind.FUNDING:
        take_charge(turn, report)
        return
    order = turn.order(report.order_id)
    if order is None:
        raise BadRecord(DeadLetterReason.INVALID_VALUE, f"a report on order {report.order_id}, which is not known here")
    fills = _fills_of(report)
    if report.venue_order_id is not None and order.venue_order_id is None:
        order.venue_order_id = report.venue_order_id
        turn.save_order(order)
    _take_trigger(turn, order, report)
    for fill in fills:
        _take_fill(turn, order, fill)
    if report.kind is ReportKind.STATUS:
        _take_status(turn, order, report)
    elif report.kind in (ReportKind.NOT_FOUND, ReportKind.NOT_SENT):
        _take_absence(turn, order, report)
    elif (report.filled_quantity or 0) > order.filled_quantity and not order.final:
        # The venue counts a fill that has not come, and may never come: its word is whole only as an answer.
        turn.ask(order)
    elif report.kind is not ReportKind.TRADE:
        if report.kind is ReportKind.CANCEL_REJECTED and order.status is OrderStatus.PENDING_CANCEL:
            order.cancel_wanted = False
        change(turn, order, EXEC_OF_REPORT[report.kind], report.reason)
    settle(turn, order)


def _fills_of(report: VenueReport) -> tuple[VenueFill, ...]:
    if report.kind is not ReportKind.TRADE:
        return report.fills
    if report.fill_id is None or not report.last_price or not report.last_quantity:
        detail = "a TRADE report needs fill_id, last_price and last_quantity above 0"
        raise BadRecord(DeadLetterReason.INVALID_VALUE, detail)
    fill = VenueFill(
        fill_id=report.fill_id,
        price=report.last_price,
        quantity=report.last_quantity,
        fee=report.fee or ZERO,
        fee_currency=report.fee_currency or "",
        liquidity=report.liquidity or Liquidity.TAKER,
        event_time_ns=report.event_time_ns,
    )
    return (fill,)


def change(turn: Turn, order: OrderState, exec_type: ExecType, reason: str | None) -> None:
    """Move an order along the table; say so if anything changed, and record what the table does not allow."""
    before = order.status
    after = next_status(order, exec_type)
    if after is None:
        _record_anomaly(turn, order, exec_type, reason)
        return
    if after is before:
        return
    _move(turn, order, after)
    turn.say_order(order, exec_type, reason)


def _record_anomaly(turn: Turn, order: OrderState, exec_type: ExecType, reason: str | None) -> None:
    order.anomalies += 1
    turn.save_order(order)
    told = f": {reason}" if reason else ""
    turn.say_order(order, exec_type, f"ANOMALY {exec_type} in {order.status}{told}")
    if order.status in _GONE and exec_type in (ExecType.NEW, ExecType.TRADE):
        turn.request_cancel(order)


def _move(turn: Turn, order: OrderState, after: OrderStatus, *, answered: bool = False) -> None:
    """Set the status, the timer that goes with it, and the lists that depend on it.

    A question that nobody has answered stays open whatever else is heard: it may be about a fill that was missed.
    """
    was_live = order.status not in TERMINAL
    order.status = after
    open_question = order.attempts > 0 and not answered and after not in _NOTHING_TO_ASK
    order.attempts = order.attempts if open_question else 0
    if after is OrderStatus.UNKNOWN:
        order.timer_ns = turn.at_ns
    elif open_question:
        order.timer_ns = order.timer_ns or turn.at_ns + turn.config.ack_timeout_ns
    elif after is OrderStatus.PENDING_CANCEL or order.time_in_force not in _RESTING:
        order.timer_ns = turn.at_ns + turn.config.ack_timeout_ns
    else:
        order.timer_ns = 0
    if was_live and after in TERMINAL:
        finish(turn, order)
    turn.save_order(order)


def finish(turn: Turn, order: OrderState) -> None:
    """Take an order off the open list and note when it may be forgotten."""
    account = turn.account(order.account)
    if order.order_id in account.open_orders:
        account.open_orders.remove(order.order_id)
        turn.save_account(order.account, account)
    order.timer_ns = 0
    order.finished_at_ns = turn.at_ns
    index = turn.at_ns // BUCKET_NS
    bucket: FinishedBucket = turn.state.get(f"finished/{index}") or FinishedBucket([])
    bucket.order_ids.append(order.order_id)
    turn.state[f"finished/{index}"] = bucket
    desk = turn.desk
    if desk.newest_bucket != index:
        desk.newest_bucket = index
        desk.oldest_bucket = desk.oldest_bucket or index
        turn.touch_desk()


def _take_trigger(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """Note that a stop waits no more, and say so once; whoever says it has the order."""
    told = report.triggered or report.kind is ReportKind.TRIGGERED
    if not told or order.triggered or not order.order_type.waits:
        return
    order.triggered = True
    turn.save_order(order)
    after = next_status(order, ExecType.TRIGGERED)
    if after is None:
        return
    if after is not order.status:
        _move(turn, order, after)
    turn.say_order(order, ExecType.TRIGGERED, report.reason)


def _take_fill(turn: Turn, order: OrderState, fill: VenueFill) -> None:
    """Book a fill once. Its OrderEvent comes before the Fill and the Position that it leads to."""
    if fill.fill_id in order.fill_ids:
        return
    booked = book_fill(turn, order, fill)
    _after_fill(turn, order)
    say_fill(turn, order, fill, booked)


def _after_fill(turn: Turn, order: OrderState) -> None:
    """Move the order for a fill already booked: money is booked whatever the table says of the order."""
    after = next_status(order, ExecType.TRADE)
    if after is None:
        _record_anomaly(turn, order, ExecType.TRADE, "a fill of an order that was given up")
        return
    overfilled = order.filled_quantity > order.quantity
    if after is not order.status:
        _move(turn, order, after)
    if overfilled:
        order.anomalies += 1
    turn.save_order(order)
    turn.say_order(order, ExecType.TRADE, "OVERFILL" if overfilled else None)


def _take_status(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """A status is worth what it lists: its fills are booked by now, and the rest is what its OrdStatus amounts to."""
    if (report.filled_quantity or 0) > order.filled_quantity:
        _record_anomaly(turn, order, ExecType.STATUS, "it counts fills that it does not list")
        return
    exec_type = EXEC_OF_STATUS.get(report.status) if report.status is not None else None
    if exec_type is None:
        return
    before = order.status
    after = next_status(order, exec_type)
    if after is None:
        _record_anomaly(turn, order, ExecType.STATUS, f"reported {report.status}")
    elif after is not before:
        _move(turn, order, after, answered=True)
        turn.say_order(order, ExecType.STATUS, report.reason)
    elif before is not OrderStatus.PENDING_CANCEL and order.time_in_force in _RESTING:
        order.timer_ns = order.attempts = 0
        turn.save_order(order)


def _take_absence(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """*Not found* is final only when the request can no longer arrive; *not sent* is our own sender's word."""
    if report.kind is ReportKind.NOT_FOUND:
        if order.venue_order_id is not None or order.filled_quantity:
            _record_anomaly(turn, order, ExecType.NOT_FOUND, "the venue had acknowledged it")
            return
        if order.status in (OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW):
            closes_at_ns = order.not_after_ns + turn.config.receive_window_ns
            if report.event_time_ns < closes_at_ns:
                order.timer_ns = max(order.timer_ns, turn.at_ns + turn.config.query_backoff_ns[0])
                turn.save_order(order)
                return
    late = report.kind is ReportKind.NOT_SENT
    before = order.status
    after = next_status(order, ExecType.NOT_FOUND)
    if after is None:
        _record_anomaly(turn, order, ExecType.NOT_FOUND, report.reason)
    elif after is not before:
        _move(turn, order, after)
        reasons = (DenyReason.NOT_SENT_IN_TIME,) if late else ()
        turn.say_order(order, ExecType.NOT_FOUND, report.reason, denied=reasons)


def settle(turn: Turn, order: OrderState) -> None:
    """Send what had to wait for the venue's word: the question about an UNKNOWN order, or a wanted cancel."""
    if order.status is OrderStatus.UNKNOWN and order.attempts == 0:
        turn.ask(order)
    elif order.cancel_wanted and order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
        cancel(turn, order)
    elif order.final and order.cancel_wanted:
        order.cancel_wanted = False
        turn.save_order(order)


def cancel(turn: Turn, order: OrderState) -> None:
    """Cancel a working order now; one the venue has not yet spoken of is cancelled as soon as it has."""
    if order.status not in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
        if not order.final and order.status is not OrderStatus.PENDING_CANCEL:
            order.cancel_wanted = True
            turn.save_order(order)
        return
    order.cancel_wanted = True
    _move(turn, order, OrderStatus.PENDING_CANCEL)
    turn.say_order(order, ExecType.PENDING_CANCEL, None)
    turn.request_cancel(order)
