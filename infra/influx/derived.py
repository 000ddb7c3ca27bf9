"""Numbers that a graph wants and that no event says, each a function of one event: delays, ages, drawdown."""

from collections.abc import Callable
from typing import Any, Final

from schemas.event import Event
from schemas.feedback import TradeFeedback
from schemas.market import Quote, Trade
from schemas.opinions import MarketMark
from schemas.orders import AccountMark, Fill, OrderEvent
from schemas.values import NS_PER_MS, NS_PER_S

_Derive = Callable[[Any], float | None]


def _delay_ms(event: Any) -> float:
    return float((event.available_at_ns - event.event_time_ns) / NS_PER_MS)


def _since_decided_ms(order: Any) -> float:
    return float((order.available_at_ns - order.decided_at_ns) / NS_PER_MS)


def _age_ms(mark: Any) -> float:
    return float((mark.available_at_ns - mark.newest_time_ns) / NS_PER_MS)


def _held_s(closed: Any) -> float:
    return float((closed.exit_time_ns - closed.entry_time_ns) / NS_PER_S)


def _drawdown_ratio(mark: Any) -> float | None:
    peak = float(mark.equity_peak)
    return 1.0 - float(mark.equity) / peak if peak > 0 else None


DERIVED: Final[dict[type[Event], dict[str, tuple[tuple[str, ...], _Derive]]]] = {
    Trade: {"delay_ms": (("event_time_ns",), _delay_ms)},
    Quote: {"delay_ms": (("event_time_ns",), _delay_ms)},
    MarketMark: {"age_ms": (("newest_time_ns",), _age_ms)},
    OrderEvent: {
        "delay_ms": (("event_time_ns",), _delay_ms),
        "since_decided_ms": (("decided_at_ns",), _since_decided_ms),
    },
    Fill: {"delay_ms": (("event_time_ns",), _delay_ms)},
    AccountMark: {"drawdown_ratio": (("equity", "equity_peak"), _drawdown_ratio)},
    TradeFeedback: {"held_s": (("entry_time_ns", "exit_time_ns"), _held_s)},
}
"""Event type -> field -> the attributes that it is made of, and how."""
