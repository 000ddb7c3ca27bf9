"""How an order may change: one transition table for everything a venue, or its silence, can say.

After the FIX specification "Order State Changes" (OrdStatus by ExecType), with two states of our own: UNKNOWN, for
an order of which we do not know whether the venue has it, and NOT_SENT, for one of which we know that it never
will. A pair that is not in the table is recorded as an anomaly; it never ends the process, because a venue's
word is not under our control.
"""

from typing import Final

from schemas.orders import ExecType, OrderStatus, ReportKind

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
        _X.PENDING_REPLACE: _S.PENDING_REPLACE,
        _X.REPLACED: _S.NEW,
        _X.REPLACE_REJECTED: _S.NEW,
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
        _X.PENDING_REPLACE: _S.PENDING_REPLACE,
        _X.REPLACED: _S.PARTIALLY_FILLED,
        _X.REPLACE_REJECTED: _S.PARTIALLY_FILLED,
        _X.TRADE_CANCEL: _S.PARTIALLY_FILLED,
        _X.TRADE_CORRECT: _S.PARTIALLY_FILLED,
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
        _X.REPLACED: _S.PENDING_CANCEL,
        _X.REPLACE_REJECTED: _S.PENDING_CANCEL,
        _X.TRADE_CANCEL: _S.PENDING_CANCEL,
        _X.TRADE_CORRECT: _S.PENDING_CANCEL,
    },
    _S.PENDING_REPLACE: {
        _X.NEW: _S.PENDING_REPLACE,
        _X.TRIGGERED: _S.PENDING_REPLACE,
        _X.TRADE: _S.PENDING_REPLACE,
        _X.PENDING_CANCEL: _S.PENDING_CANCEL,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.PENDING_REPLACE,
        _X.REPLACED: _S.NEW,
        _X.REPLACE_REJECTED: _S.NEW,
        _X.EXPIRED: _S.EXPIRED,
        _X.TIMED_OUT: _S.UNKNOWN,
        _X.STATUS: _S.PENDING_REPLACE,
        _X.TRADE_CANCEL: _S.PENDING_REPLACE,
        _X.TRADE_CORRECT: _S.PENDING_REPLACE,
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
        _X.REPLACED: _S.NEW,
        _X.REPLACE_REJECTED: _S.UNKNOWN,
        _X.TRADE_CANCEL: _S.UNKNOWN,
        _X.TRADE_CORRECT: _S.UNKNOWN,
    },
    _S.FILLED: {
        _X.TRIGGERED: _S.FILLED,
        _X.NEW: _S.FILLED,
        _X.TRADE: _S.FILLED,
        _X.CANCEL_REJECTED: _S.FILLED,
        _X.TIMED_OUT: _S.FILLED,
        _X.STATUS: _S.FILLED,
        _X.REPLACED: _S.FILLED,
        _X.REPLACE_REJECTED: _S.FILLED,
        _X.TRADE_CANCEL: _S.FILLED,
        _X.TRADE_CORRECT: _S.FILLED,
    },
    _S.CANCELED: {
        _X.TRIGGERED: _S.CANCELED,
        _X.NEW: _S.CANCELED,
        _X.TRADE: _S.CANCELED,
        _X.CANCELED: _S.CANCELED,
        _X.CANCEL_REJECTED: _S.CANCELED,
        _X.TIMED_OUT: _S.CANCELED,
        _X.STATUS: _S.CANCELED,
        _X.REPLACED: _S.CANCELED,
        _X.REPLACE_REJECTED: _S.CANCELED,
        _X.TRADE_CANCEL: _S.CANCELED,
        _X.TRADE_CORRECT: _S.CANCELED,
    },
    _S.EXPIRED: {
        _X.TRIGGERED: _S.EXPIRED,
        _X.NEW: _S.EXPIRED,
        _X.TRADE: _S.EXPIRED,
        _X.EXPIRED: _S.EXPIRED,
        _X.CANCEL_REJECTED: _S.EXPIRED,
        _X.TIMED_OUT: _S.EXPIRED,
        _X.STATUS: _S.EXPIRED,
        _X.REPLACED: _S.EXPIRED,
        _X.REPLACE_REJECTED: _S.EXPIRED,
        _X.TRADE_CANCEL: _S.EXPIRED,
        _X.TRADE_CORRECT: _S.EXPIRED,
    },
    _S.REJECTED: {
        _X.REJECTED: _S.REJECTED,
        _X.CANCEL_REJECTED: _S.REJECTED,
        _X.TIMED_OUT: _S.REJECTED,
        _X.NOT_FOUND: _S.REJECTED,
        _X.STATUS: _S.REJECTED,
        _X.REPLACE_REJECTED: _S.REJECTED,
    },
    _S.NOT_SENT: {
        _X.REJECTED: _S.NOT_SENT,
        _X.CANCEL_REJECTED: _S.NOT_SENT,
        _X.TIMED_OUT: _S.NOT_SENT,
        _X.NOT_FOUND: _S.NOT_SENT,
        _X.STATUS: _S.NOT_SENT,
        _X.REPLACE_REJECTED: _S.NOT_SENT,
    },
    _S.DENIED: {},
}
"""Status after an ExecType; ``orders.next_status`` refines it by what is filled and by an amend that is under way. A
TRADE that completes the quantity always gives FILLED, even after CANCELED or EXPIRED; a bust never reopens an order."""

TERMINAL: Final = frozenset({_S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED, _S.DENIED, _S.NOT_SENT})
LIVE: Final = frozenset(_S) - TERMINAL

EXEC_OF_REPORT: Final[dict[ReportKind, ExecType]] = {
    ReportKind.ACCEPTED: _X.NEW,
    ReportKind.TRIGGERED: _X.TRIGGERED,
    ReportKind.REJECTED: _X.REJECTED,
    ReportKind.TRADE: _X.TRADE,
    ReportKind.CANCELED: _X.CANCELED,
    ReportKind.CANCEL_REJECTED: _X.CANCEL_REJECTED,
    ReportKind.REPLACED: _X.REPLACED,
    ReportKind.REPLACE_REJECTED: _X.REPLACE_REJECTED,
    ReportKind.TRADE_CANCEL: _X.TRADE_CANCEL,
    ReportKind.TRADE_CORRECT: _X.TRADE_CORRECT,
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
    _S.PENDING_REPLACE: _X.NEW,
    _S.CANCELED: _X.CANCELED,
    _S.EXPIRED: _X.EXPIRED,
    _S.REJECTED: _X.REJECTED,
}
"""What a STATUS report amounts to, once the fills it lists are booked; FILLED amounts to nothing more."""
