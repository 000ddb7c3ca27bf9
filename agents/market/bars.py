"""Bars of open, high, low, close and volume over fixed intervals, from trades, or from mids where nothing trades.

An interval in which nothing happened gets an imputed bar: the last close, no volume, and marked, so that nobody takes
it for a price that was seen. After a bounded run of them the line stops until something happens again; a bar that
begins or goes on across a break in the feed is marked incomplete.
"""

from collections.abc import Sequence

import msgspec

from schemas.event import Event
from schemas.market import Quality, QualityKind, Trade
from schemas.opinions import Bar

_BREAKS = (QualityKind.RESYNC, QualityKind.GAP)
NO_BARS: tuple[Bar, ...] = ()


class BarState(msgspec.Struct, kw_only=True):
    """The bar being built for one instrument and interval. Prices and volume are in units of 1e-8.

    Intervals end at multiples of ``interval_ns``; ``end_ns`` 0 says that nothing has happened yet. ``trades`` 0 with
    ``empty`` false is a bar of mids. ``imputed_run`` counts the imputed bars since the last real one; ``stopped``
    says that the bound was reached and no bar is made until something happens.
    """

    instrument: str
    interval_ns: int
    imputed_max: int = 60
    end_ns: int = 0
    open_price: int = 0
    high_price: int = 0
    low_price: int = 0
    close_price: int = 0
    volume: int | None = 0
    trades: int = 0
    empty: bool = True
    broken: bool = True
    trades_seen: bool = False
    imputed_run: int = 0
    stopped: bool = False


def apply(state: BarState, event: Event, mid: int | None) -> Sequence[Bar]:
    """Take one market event and the mid after it; return the bars that ended before it, oldest first.

    An instrument that has ever traded gets its bars from trades alone.
    """
    now_ns = event.available_at_ns
    finished = advance(state, now_ns) if now_ns >= state.end_ns and state.end_ns else NO_BARS
    kind = type(event)
    if kind is Trade:
        _take_trade(state, event)  # type: ignore[arg-type]
    elif kind is Quality:
        if event.kind in _BREAKS:  # type: ignore[attr-defined]
            state.broken = True
    elif mid is not None and not state.trades_seen:
        _take_price(state, mid, now_ns)
        state.volume = None
    return finished


def advance(state: BarState, now_ns: int) -> Sequence[Bar]:
    """Return the bars that ended at or before ``now_ns``, oldest first: one that was built, and the imputed."""
    if not state.end_ns or now_ns < state.end_ns:
        return NO_BARS
    if state.stopped:
        _skip_to(state, now_ns)
        return NO_BARS
    interval_ns = state.interval_ns
    bars: list[Bar] = []
    while state.end_ns <= now_ns and not state.stopped:
        if not state.empty:
            state.imputed_run = 0
        elif state.imputed_run >= state.imputed_max:
            state.stopped = True
            break
        else:
            state.imputed_run += 1
        bars.append(_finish(state))
        state.end_ns += interval_ns
    if state.stopped:
        _skip_to(state, now_ns)
    return bars


def _skip_to(state: BarState, now_ns: int) -> None:
    """Stand in the interval that holds ``now_ns``, without bars for those between: what comes next is incomplete."""
    state.end_ns = now_ns - now_ns % state.interval_ns + state.interval_ns
    state.broken = True


def _finish(state: BarState) -> Bar:
    imputed = state.empty
    close = state.close_price
    bar = Bar(
        key=state.instrument,
        event_time_ns=state.end_ns,
        available_at_ns=state.end_ns,
        interval_ns=state.interval_ns,
        open_time_ns=state.end_ns - state.interval_ns,
        open_price=close if imputed else state.open_price,
        high_price=close if imputed else state.high_price,
        low_price=close if imputed else state.low_price,
        close_price=close,
        volume=None if imputed else state.volume,
        trades=state.trades,
        complete=not state.broken,
        imputed=imputed,
    )
    state.empty = True
    state.broken = False
    state.volume = 0
    state.trades = 0
    return bar


def _take_trade(state: BarState, trade: Trade) -> None:
    if not state.trades_seen:
        state.trades_seen = True
        if not state.empty:
            # What was gathered of mids so far is no bar of trades: the bar starts again here, and says so.
            state.empty = True
            state.broken = True
            state.volume = 0
    _take_price(state, trade.price, trade.available_at_ns)
    state.trades += 1
    quantity = trade.quantity
    state.volume = None if quantity is None or state.volume is None else state.volume + quantity


def _take_price(state: BarState, price: int, now_ns: int) -> None:
    if not state.end_ns or state.stopped:
        state.end_ns = now_ns - now_ns % state.interval_ns + state.interval_ns
        state.stopped = False
        state.imputed_run = 0
    if state.empty:
        state.open_price = state.high_price = state.low_price = price
        state.empty = False
    elif price > state.high_price:
        state.high_price = price
    elif price < state.low_price:
        state.low_price = price
    state.close_price = price
