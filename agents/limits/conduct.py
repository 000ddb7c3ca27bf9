"""How each strategy of an account has behaved, and when that is reason to stop it until a person says otherwise.

Risk and execution keep this each from what they see themselves, by the same code: neither can talk the other out of it.
No day's roll and no restart changes it; only a person who sets the strategy's level anew does (``forgive``).
"""

from decimal import Decimal
from typing import Final

import msgspec

from agents.limits.limit_set import LimitSet
from agents.limits.windows import SlicedCount
from schemas.decisions import DenyReason, OrderDenied
from schemas.event import Event
from schemas.orders import AccountMark, ExecType, OrderEvent, OrderStatus

_TAKEN: Final = frozenset(
    {
        OrderStatus.NEW,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.EXPIRED,
    }
)
_TAKING: Final = frozenset({ExecType.NEW, ExecType.TRADE, ExecType.EXPIRED, ExecType.STATUS, ExecType.REPLACED})
_NOT_ITS_DOING: Final = frozenset(
    {
        DenyReason.KILLED,
        DenyReason.REDUCE_ONLY,
        DenyReason.DATA_STALE,
        DenyReason.REF_PRICE_STALE,
        DenyReason.CLOCK_DRIFT,
        DenyReason.UNKNOWN_ORDER_OPEN,
        DenyReason.RECONCILING,
        DenyReason.NOT_SENT_IN_TIME,
        DenyReason.OVERRIDE_EXPIRED,
        DenyReason.NOT_AMENDABLE,
    }
)
"""What an order is denied for by a person, by a backlog or by the state of the world: no fault of its strategy."""


class Conduct(msgspec.Struct, kw_only=True):
    """By strategy: orders let out of late, rejects in a row, and the P&L of the day in the account's currency.

    An order counts as executed when it is let out, not when it fills: what was sent counts at once.
    """

    sent: dict[str, SlicedCount] = {}
    rejects: dict[str, int] = {}
    day_pnl: dict[str, Decimal] = {}

    def count_sent(self, strategy: str, now_ns: int, limits: LimitSet) -> None:
        """Count an order of a strategy that was let out."""
        counted = self.sent.get(strategy)
        if counted is None:
            counted = self.sent[strategy] = SlicedCount()
        counted.add(now_ns, limits.execution_window_ms)

    def sent_within(self, strategy: str, now_ns: int, limits: LimitSet) -> int:
        """Return how many orders of a strategy were let out in the window that ends now."""
        counted = self.sent.get(strategy)
        return 0 if counted is None else counted.within(now_ns, limits.execution_window_ms)

    def take_order_event(self, event: OrderEvent) -> None:
        """Count a reject, or begin anew with an order that the venue has taken."""
        if event.deny_reasons:
            rejected = not _NOT_ITS_DOING.issuperset(event.deny_reasons)
        elif event.status is OrderStatus.REJECTED:
            rejected = event.exec_type in (ExecType.REJECTED, ExecType.STATUS)
        else:
            rejected = event.exec_type is ExecType.REPLACE_REJECTED
        if rejected:
            self.rejects[event.strategy] = self.rejects.get(event.strategy, 0) + 1
        elif event.exec_type in _TAKING and event.status in _TAKEN:
            self.rejects.pop(event.strategy, None)

    def take_account_mark(self, mark: AccountMark) -> None:
        """Take a strategy's P&L of the day, if the mark tells it."""
        if mark.strategy_day_pnl is not None:
            self.day_pnl[mark.strategy] = mark.strategy_day_pnl

    def forgive(self, strategy: str) -> None:
        """Begin anew with a strategy that a person has set free."""
        self.sent.pop(strategy, None)
        self.rejects.pop(strategy, None)


def stopped_by(conduct: Conduct, event: Event, limits: LimitSet) -> tuple[str, DenyReason] | None:
    """Return the strategy that is to be stopped after this event, which ``conduct`` has taken, and why; else None."""
    if isinstance(event, OrderDenied) and DenyReason.EXEC_THROTTLE in event.reasons:
        return event.strategy, DenyReason.EXEC_THROTTLE
    if isinstance(event, OrderEvent):
        if DenyReason.EXEC_THROTTLE in event.deny_reasons:
            return event.strategy, DenyReason.EXEC_THROTTLE
        if conduct.rejects.get(event.strategy, 0) > limits.rejects_max:
            return event.strategy, DenyReason.REJECT_STREAK
    if isinstance(event, AccountMark):
        day_pnl = conduct.day_pnl.get(event.strategy)
        if day_pnl is not None and -day_pnl > limits.loss_threshold(event.strategy):
            return event.strategy, DenyReason.RISK_THRESHOLD
    return None
