"""What a venue's word, or the lack of it, does to an order, to the position and to the books."""

from collections.abc import Callable, Mapping
from typing import Final

from agents.execution.amending import take_replace_rejected, take_replaced, take_terms
from agents.execution.busts import forbid, take_bust
from agents.execution.fills import book_fill, say_fill
from agents.execution.moves import RESTING, change, move, record_anomaly, settle
from agents.execution.orders import OrderState, next_status
from agents.execution.transitions import EXEC_OF_REPORT, EXEC_OF_STATUS
from agents.execution.turn import Turn
from agents.execution.valuation import take_charge
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.decisions import DenyReason
from schemas.orders import ExecType, OrderStatus, ReportKind, VenueFill, VenueReport
from schemas.values import ZERO, Liquidity


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
    if report.kind in (ReportKind.TRADE_CANCEL, ReportKind.TRADE_CORRECT):
        _take_back(turn, order, report)
    for fill in fills:
        _take_fill(turn, order, fill)
    _take_word(turn, order, report)
    settle(turn, order)


def _take_word(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """Do what a report says of the order itself, once the fills that it lists are booked."""
    handler = _HANDLERS.get(report.kind)
    if handler is not None:
        handler(turn, order, report)
    elif _counts_more(order, report) and not order.final:
        # The venue counts a fill that has not come, and may never come: its word is whole only as an answer.
        turn.ask(order)
    elif report.kind not in _EXECUTIONS:
        if report.kind is ReportKind.CANCEL_REJECTED and order.status is OrderStatus.PENDING_CANCEL:
            # A venue refuses what a former holder asked for; that is no word on the cancel itself.
            order.cancel_wanted = order.cancel_epoch < turn.desk.epoch
        if report.kind in (ReportKind.CANCELED, ReportKind.EXPIRED):
            take_terms(turn, order, report)
        change(turn, order, EXEC_OF_REPORT[report.kind], report.reason)


def _counts_more(order: OrderState, report: VenueReport) -> bool:
    """Tell whether a report counts fills that have not come. What was taken back since is in an older count still."""
    return (report.filled_quantity or 0) > order.filled_quantity + order.busted_quantity


def _take_back(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """Undo the fill that a bust or a correction is about."""
    if report.refers_to is None:
        raise BadRecord(DeadLetterReason.INVALID_VALUE, f"a {report.kind} report needs the fill that it refers to")
    reason = report.reason
    if report.kind is ReportKind.TRADE_CORRECT:
        reason = f"corrected by {report.fill_id}"
    take_bust(turn, order, report.refers_to, EXEC_OF_REPORT[report.kind], reason)


def _fills_of(report: VenueReport) -> tuple[VenueFill, ...]:
    if report.kind not in (ReportKind.TRADE, ReportKind.TRADE_CORRECT):
        return report.fills
    if report.fill_id is None or not report.last_price or not report.last_quantity:
        detail = f"a {report.kind} report needs fill_id, last_price and last_quantity above 0"
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
        move(turn, order, after)
    turn.say_order(order, ExecType.TRIGGERED, report.reason)


def _take_fill(turn: Turn, order: OrderState, fill: VenueFill) -> None:
    """Book a fill once. Its OrderEvent comes before the Fill and the Position that it leads to."""
    if fill.busted and fill.fill_id in order.booked:
        take_bust(turn, order, fill.fill_id, ExecType.TRADE_CANCEL, "by the venue's status")
    elif fill.busted or fill.fill_id in order.busted_early:
        forbid(turn, order, fill)
    if fill.fill_id in order.fill_ids:
        return
    booked = book_fill(turn, order, fill)
    _after_fill(turn, order)
    say_fill(turn, order, fill, booked)


def _after_fill(turn: Turn, order: OrderState) -> None:
    """Move the order for a fill already booked: money is booked whatever the table says of the order."""
    after = next_status(order, ExecType.TRADE)
    if after is None:
        record_anomaly(turn, order, ExecType.TRADE, "a fill of an order that was given up")
        return
    overfilled = order.filled_quantity > order.quantity
    if after is not order.status:
        move(turn, order, after)
    if overfilled:
        order.anomalies += 1
    turn.save_order(order)
    turn.say_order(order, ExecType.TRADE, "OVERFILL" if overfilled else None)
    if order.busted_quantity and not order.final and _is_used_up(order):
        # What was taken back may not be offered again: only the venue knows whether anything is left.
        turn.ask(order)


def _is_used_up(order: OrderState) -> bool:
    """Tell whether all that was ordered was filled once, be it that some of it was taken back."""
    return order.filled_quantity + order.busted_quantity >= order.quantity


def _take_status(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """A status is worth what it lists: its fills are booked by now, and the rest is what its OrdStatus amounts to."""
    if _counts_more(order, report):
        record_anomaly(turn, order, ExecType.STATUS, "it counts fills that it does not list")
        return
    doubted = take_terms(turn, order, report)
    if report.status is OrderStatus.FILLED and not order.final and order.busted_quantity and _is_used_up(order):
        move(turn, order, OrderStatus.FILLED, answered=True)
        turn.say_order(order, ExecType.STATUS, report.reason)
        return
    exec_type = EXEC_OF_STATUS.get(report.status) if report.status is not None else None
    if exec_type is None:
        return
    before = order.status
    after = next_status(order, exec_type)
    if after is None:
        record_anomaly(turn, order, ExecType.STATUS, f"reported {report.status}")
    elif after is not before:
        move(turn, order, after, answered=True)
        turn.say_order(order, ExecType.STATUS, report.reason)
    elif not doubted and before is not OrderStatus.PENDING_CANCEL and order.time_in_force in RESTING:
        order.timer_ns = order.attempts = 0
        turn.save_order(order)


def _take_absence(turn: Turn, order: OrderState, report: VenueReport) -> None:
    """*Not found* is final only when the request can no longer arrive; *not sent* is our own sender's word."""
    if report.kind is ReportKind.NOT_FOUND:
        if order.venue_order_id is not None or order.filled_quantity:
            record_anomaly(turn, order, ExecType.NOT_FOUND, "the venue had acknowledged it")
            return
        if order.status in (OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW):
            closes_at_ns = order.not_after_ns + turn.config.takeover_wait_ns
            if report.event_time_ns < closes_at_ns:
                order.timer_ns = max(order.timer_ns, turn.at_ns + turn.config.query_backoff_ns[0])
                turn.save_order(order)
                return
    kept_back = report.kind is ReportKind.NOT_SENT
    before = order.status
    after = next_status(order, ExecType.NOT_FOUND)
    if after is None:
        record_anomaly(turn, order, ExecType.NOT_FOUND, report.reason)
    elif after is not before:
        move(turn, order, after)
        reasons = (report.deny_reason or DenyReason.NOT_SENT_IN_TIME,) if kept_back else ()
        turn.say_order(order, ExecType.NOT_FOUND, report.reason, denied=reasons)


_EXECUTIONS: Final = frozenset({ReportKind.TRADE, ReportKind.TRADE_CANCEL, ReportKind.TRADE_CORRECT})
_HANDLERS: Final[Mapping[ReportKind, Callable[[Turn, OrderState, VenueReport], None]]] = {
    ReportKind.STATUS: _take_status,
    ReportKind.NOT_FOUND: _take_absence,
    ReportKind.NOT_SENT: _take_absence,
    ReportKind.REPLACED: take_replaced,
    ReportKind.REPLACE_REJECTED: take_replace_rejected,
}
