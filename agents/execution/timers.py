"""Silence is information: answers that do not come turn orders UNKNOWN, and unknown orders are asked about."""

from typing import Final

from agents.execution.control import let_overrides_lapse
from agents.execution.moves import BUCKET_NS, change, settle
from agents.execution.open_orders import open_orders
from agents.execution.orders import OrderState
from agents.execution.reconciliation import ask_again, begin
from agents.execution.state import FinishedBucket
from agents.execution.turn import Turn
from schemas.event import WALL_CLOCK, Event, Heartbeat
from schemas.orders import Claimed, ExecType, OrderStatus

_UNANSWERED_BOOKS: Final = 3
_UNANSWERED: Final = frozenset({OrderStatus.PENDING_NEW, OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE})


def take_time(turn: Turn, event: Event) -> None:
    """Move *now* on and do what has fallen due. Time never runs backwards here."""
    desk = turn.desk
    if isinstance(event, Heartbeat) and event.clock == WALL_CLOCK:
        desk.clock_ns = event.available_at_ns
        turn.touch_desk()
    at_ns = event.available_at_ns
    if desk.clock_ns:
        # Whoever made a mark may have a clock that runs ahead: it moves ours by no more than is allowed.
        at_ns = min(at_ns, desk.clock_ns + turn.config.effective.clock_drift_max_ns(turn.book(desk.now_ns)))
    if at_ns > desk.now_ns:
        desk.now_ns = at_ns
        turn.touch_desk()
        ask_again(turn)
    let_overrides_lapse(turn)
    if desk.next_timer_ns and desk.next_timer_ns <= desk.now_ns:
        _ring(turn)
    if desk.oldest_bucket and (desk.oldest_bucket + 1) * BUCKET_NS + turn.config.retention_ns < desk.now_ns:
        _forget(turn)


def _ring(turn: Turn) -> None:
    desk = turn.desk
    desk.next_timer_ns = 0
    for order in open_orders(turn):
        if order.timer_ns and order.timer_ns <= desk.now_ns:
            _expire(turn, order)
        elif order.timer_ns:
            turn.save_order(order)
    turn.touch_desk()


def _expire(turn: Turn, order: OrderState) -> None:
    if order.status in _UNANSWERED:
        change(turn, order, ExecType.TIMED_OUT, "no answer in time")
        settle(turn, order)
    else:
        turn.ask(order)


def _forget(turn: Turn) -> None:
    """Drop the orders of every slice of time that has been over for longer than the retention."""
    desk = turn.desk
    while desk.oldest_bucket and (desk.oldest_bucket + 1) * BUCKET_NS + turn.config.retention_ns < desk.now_ns:
        key = f"finished/{desk.oldest_bucket}"
        bucket: FinishedBucket | None = turn.state.get(key)
        if bucket is not None:
            for order_id in bucket.order_ids:
                if f"order/{order_id}" in turn.state:
                    del turn.state[f"order/{order_id}"]
            del turn.state[key]
        desk.oldest_bucket = 0 if desk.oldest_bucket >= desk.newest_bucket else desk.oldest_bucket + 1
        desk.newest_bucket = desk.newest_bucket if desk.oldest_bucket else 0
    turn.touch_desk()


def take_claim(turn: Turn, claim: Claimed) -> None:
    """A new holder does not know what the last one sent: intents without an answer are UNKNOWN, and the venues asked.

    They tell everything at once. An order of which they have not told for a while is asked about by its name.
    """
    turn.desk.epoch = claim.epoch
    turn.touch_desk()
    for order in open_orders(turn):
        if order.status is OrderStatus.PENDING_NEW:
            change(turn, order, ExecType.TIMED_OUT, f"claimed by epoch {claim.epoch}")
        order.attempts = max(order.attempts, 1)
        order.timer_ns = turn.at_ns + sum(turn.config.query_backoff_ns[:_UNANSWERED_BOOKS])
        turn.save_order(order)
    begin(turn, claim.epoch)
