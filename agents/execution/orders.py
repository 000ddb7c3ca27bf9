"""What an order is and how it may change: one transition table for everything a venue, or its silence, can say.

After the FIX specification "Order State Changes" (OrdStatus by ExecType), with two states of our own: UNKNOWN, for
an order of which we do not know whether the venue has it, and NOT_SENT, for one of which we know that it never
will. A pair that is not in the table is recorded as an anomaly; it never ends the process, because a venue's
word is not under our control.
"""

from decimal import Decimal
from typing import Final

import msgspec

from schemas.orders import ExecType, OrderStatus, ReportKind
from schemas.values import ZERO, Leg, OrderType, Side, TimeInForce

_S = OrderStatus
_X = ExecType

TRANSITIONS: Final[dict[OrderStatus, dict[ExecType, OrderStatus]]] = {
    _S.PENDING_NEW: {
        _X.TRIGGERED: _S.NEW,
        _X.NEW: _S.NEW,
        _X.TRADE: _S.PARTIALLY_FILLED,
        _X.CANCELED: _S.CANCELED,
        _X.EXPIRED: _S.EXPIRED,
        _X.REJECTED: _S.REJECTED,
        _X.TIMED_OUT: _S.UNKNOWN,
        _X.NOT_FOUND: _S.NOT_SENT,
        _X.STATUS: _S.PENDING_NEW,
    },
    _S.NEW: {
        _X.TRIGGERED: _S.NEW,
        _X.NEW: _S.NEW,
        _X.TRADE: _S.PARTIALLY_FILLED,
        _X.PENDING_CANCEL: _S.PENDING_CANCEL,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.NEW,
        _X.EXPIRED: _S.EXPIRED,
        _X.TIMED_OUT: _S.NEW,
        _X.STATUS: _S.NEW,
    },
    _S.PARTIALLY_FILLED: {
        _X.TRIGGERED: _S.PARTIALLY_FILLED,
        _X.NEW: _S.PARTIALLY_FILLED,
        _X.TRADE: _S.PARTIALLY_FILLED,
        _X.PENDING_CANCEL: _S.PENDING_CANCEL,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.PARTIALLY_FILLED,
        _X.EXPIRED: _S.EXPIRED,
        _X.TIMED_OUT: _S.PARTIALLY_FILLED,
        _X.STATUS: _S.PARTIALLY_FILLED,
    },
    _S.PENDING_CANCEL: {
        _X.TRIGGERED: _S.PENDING_CANCEL,
        _X.NEW: _S.PENDING_CANCEL,
        _X.TRADE: _S.PENDING_CANCEL,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.NEW,
        _X.EXPIRED: _S.EXPIRED,
        _X.TIMED_OUT: _S.UNKNOWN,
        _X.STATUS: _S.PENDING_CANCEL,
    },
    _S.UNKNOWN: {
        _X.TRIGGERED: _S.NEW,
        _X.NEW: _S.NEW,
        _X.TRADE: _S.PARTIALLY_FILLED,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.UNKNOWN,
        _X.EXPIRED: _S.EXPIRED,
        _X.REJECTED: _S.REJECTED,
        _X.TIMED_OUT: _S.UNKNOWN,
        _X.NOT_FOUND: _S.NOT_SENT,
        _X.STATUS: _S.UNKNOWN,
    },
    _S.FILLED: {
        _X.TRIGGERED: _S.FILLED,
        _X.NEW: _S.FILLED,
        _X.TRADE: _S.FILLED,
        _X.CANCEL_REJECTED: _S.FILLED,
        _X.TIMED_OUT: _S.FILLED,
        _X.STATUS: _S.FILLED,
    },
    _S.CANCELED: {
        _X.TRIGGERED: _S.CANCELED,
        _X.NEW: _S.CANCELED,
        _X.TRADE: _S.CANCELED,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.CANCELED,
        _X.TIMED_OUT: _S.CANCELED,
        _X.STATUS: _S.CANCELED,
    },
    _S.EXPIRED: {
        _X.TRIGGERED: _S.EXPIRED,
        _X.NEW: _S.EXPIRED,
        _X.TRADE: _S.EXPIRED,
        _X.EXPIRED: _S.EXPIRED,
        _X.CANCEL_REJECTED: _S.EXPIRED,
        _X.TIMED_OUT: _S.EXPIRED,
        _X.STATUS: _S.EXPIRED,
    },
    _S.REJECTED: {
        _X.REJECTED: _S.REJECTED,
        _X.CANCEL_REJECTED: _S.REJECTED,
        _X.TIMED_OUT: _S.REJECTED,
        _X.NOT_FOUND: _S.REJECTED,
        _X.STATUS: _S.REJECTED,
    },
    _S.NOT_SENT: {
        _X.REJECTED: _S.NOT_SENT,
        _X.CANCEL_REJECTED: _S.NOT_SENT,
        _X.TIMED_OUT: _S.NOT_SENT,
        _X.NOT_FOUND: _S.NOT_SENT,
        _X.STATUS: _S.NOT_SENT,
    },
    _S.DENIED: {},
}
"""Status after an ExecType. Two refinements depend on the quantity (``next_status``): NEW with a fill reads
PARTIALLY_FILLED, and a TRADE that completes the quantity always gives FILLED, even after CANCELED or EXPIRED."""

TERMINAL: Final = frozenset({_S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED, _S.DENIED, _S.NOT_SENT})
LIVE: Final = frozenset(_S) - TERMINAL

EXEC_OF_REPORT: Final[dict[ReportKind, ExecType]] = {
    ReportKind.ACCEPTED: _X.NEW,
    ReportKind.TRIGGERED: _X.TRIGGERED,
    ReportKind.REJECTED: _X.REJECTED,
    ReportKind.TRADE: _X.TRADE,
    ReportKind.CANCELED: _X.CANCELED,
    ReportKind.CANCEL_REJECTED: _X.CANCEL_REJECTED,
    ReportKind.EXPIRED: _X.EXPIRED,
    ReportKind.STATUS: _X.STATUS,
    ReportKind.NOT_FOUND: _X.NOT_FOUND,
    ReportKind.TIMED_OUT: _X.TIMED_OUT,
    ReportKind.NOT_SENT: _X.NOT_FOUND,
}

EXEC_OF_STATUS: Final[dict[OrderStatus, ExecType]] = {
    _S.NEW: _X.NEW,
    _S.PARTIALLY_FILLED: _X.NEW,
    _S.PENDING_CANCEL: _X.NEW,
    _S.CANCELED: _X.CANCELED,
    _S.EXPIRED: _X.EXPIRED,
    _S.REJECTED: _X.REJECTED,
}
"""What a STATUS report amounts to, once the fills it lists are booked; FILLED amounts to nothing more."""


class OrderState(msgspec.Struct, kw_only=True):
    """One order of ours as execution knows it. Quantities and prices in units of 1e-8, times in ns.

    ``filled_notional`` is the sum of price x quantity, exact and without the multiplier. ``timer_ns`` is when the
    order wants attention (0: never), ``attempts`` how often the venue was asked since it last answered. ``triggered``:
    its stop price has been reached.
    """

    order_id: str
    decision_id: str
    account: str
    strategy: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int | None
    quantity: int
    decision_mid: int
    decided_at_ns: int
    created_at_ns: int
    not_after_ns: int
    status: OrderStatus = OrderStatus.PENDING_NEW
    venue_order_id: str | None = None
    filled_quantity: int = 0
    filled_notional: Decimal = ZERO
    fill_ids: list[str] = []
    cancel_wanted: bool = False
    timer_ns: int = 0
    attempts: int = 0
    anomalies: int = 0
    finished_at_ns: int = 0
    stop_price: int | None = None
    triggered: bool = False
    parent_order_id: str | None = None
    leg: Leg | None = None

    @property
    def final(self) -> bool:
        """Whether no further outcome can come, save a late fill."""
        return self.status in TERMINAL

    @property
    def leaves_quantity(self) -> int:
        """Return what may still be filled; 0 once the order is final."""
        return 0 if self.status in TERMINAL else max(self.quantity - self.filled_quantity, 0)

    @property
    def average_price(self) -> int | None:
        """Return the mean fill price in units of 1e-8, rounded half-even, or None without a fill."""
        if not self.filled_quantity:
            return None
        numerator = int(self.filled_notional.scaleb(16))
        return round_half_even(numerator, self.filled_quantity)


def round_half_even(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded half-even, in whole numbers, for a positive denominator."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


def next_status(order: OrderState, exec_type: ExecType) -> OrderStatus | None:
    """Return the status after ``exec_type`` (for TRADE: with the fill already counted), or None if it is illegal."""
    status = TRANSITIONS[order.status].get(exec_type)
    if status is None:
        return None
    if exec_type is ExecType.TRADE and order.filled_quantity >= order.quantity:
        return OrderStatus.FILLED
    if status is OrderStatus.NEW and order.filled_quantity:
        return OrderStatus.PARTIALLY_FILLED
    return status
