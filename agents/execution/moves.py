"""How an order moves along the table: its status, its timer, the lists it stands in, and what is said of it."""

from typing import Final

from agents.execution.orders import OrderState, next_status
from agents.execution.state import FinishedBucket
from agents.execution.transitions import TERMINAL
from agents.execution.turn import Turn
from schemas.orders import ExecType, OrderStatus
from schemas.values import NS_PER_S, TimeInForce

BUCKET_NS: Final = 60 * NS_PER_S
RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.POST_ONLY})
_NOTHING_TO_ASK: Final = TERMINAL | {OrderStatus.UNKNOWN}
_PENDING: Final = frozenset({OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE})
_CANCELLABLE: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_REPLACE})
_GONE: Final = frozenset({OrderStatus.REJECTED, OrderStatus.NOT_SENT, OrderStatus.DENIED})


def change(turn: Turn, order: OrderState, exec_type: ExecType, reason: str | None) -> None:
    """Move an order along the table; say so if anything changed, and record what the table does not allow."""
    before = order.status
    after = next_status(order, exec_type)
    if after is None:
        record_anomaly(turn, order, exec_type, reason)
        return
    if after is before:
        return
    move(turn, order, after)
    turn.say_order(order, exec_type, reason)


def record_anomaly(turn: Turn, order: OrderState, exec_type: ExecType, reason: str | None) -> None:
    """Say what the table does not allow, and cancel what was given up and turns out to be alive."""
    order.anomalies += 1
    turn.save_order(order)
    told = f": {reason}" if reason else ""
    turn.say_order(order, exec_type, f"ANOMALY {exec_type} in {order.status}{told}")
    if order.status in _GONE and exec_type in (ExecType.NEW, ExecType.TRADE):
        turn.request_cancel(order)


def move(turn: Turn, order: OrderState, after: OrderStatus, *, answered: bool = False) -> None:
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
    elif after in _PENDING or order.time_in_force not in RESTING:
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


def settle(turn: Turn, order: OrderState) -> None:
    """Send what had to wait for the venue's word: the question about an UNKNOWN order, or a wanted cancel."""
    if order.status is OrderStatus.UNKNOWN and order.attempts == 0:
        turn.ask(order)
    elif order.cancel_wanted and order.status in _CANCELLABLE:
        cancel(turn, order)
    elif order.final and order.cancel_wanted:
        order.cancel_wanted = False
        turn.save_order(order)


def cancel(turn: Turn, order: OrderState) -> None:
    """Cancel a working order now; one the venue has not yet spoken of is cancelled as soon as it has."""
    if order.status not in _CANCELLABLE:
        if not order.final and order.status is not OrderStatus.PENDING_CANCEL:
            order.cancel_wanted = True
            turn.save_order(order)
        return
    order.cancel_wanted = True
    order.cancel_epoch = turn.desk.epoch
    move(turn, order, OrderStatus.PENDING_CANCEL)
    turn.say_order(order, ExecType.PENDING_CANCEL, None)
    turn.request_cancel(order)
