"""Features as they run: one market event changes one instrument's state, in constant time, in place.

``apply`` takes what ingestion has trusted; what a grid time makes of the state is in ``agents.features.snapshot``.
"""

from agents.features.book_features import mid_price
from agents.features.order_flow import LevelFlow, OrderFlow
from agents.features.state import HISTORY_SECONDS, WINDOW_SECONDS, FeatureState
from agents.features.trade_flow import TradeFlow
from agents.market.book import Book
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote, Trade
from schemas.values import NS_PER_S

_LOST = (QualityKind.GAP, QualityKind.UNSYNCHRONISED)


def apply(state: FeatureState, event: Event) -> None:
    """Take one event of ``market.event``; types that feed no feature change nothing.

    Snapshots that are due before the event must have been taken: windows close at ``event.available_at_ns``.
    """
    if event.available_at_ns >= state.bucket_end_ns:
        pass_buckets(state, event.available_at_ns)
    kind = type(event)
    if kind is Quote:
        _quote(state, event)  # type: ignore[arg-type]
    elif kind is Trade:
        _trade(state, event)  # type: ignore[arg-type]
    elif kind is DepthUpdate:
        _update(state, event)  # type: ignore[arg-type]
    elif kind is BookSnapshot:
        _snapshot(state, event)  # type: ignore[arg-type]
    elif kind is Quality:
        _quality(state, event)  # type: ignore[arg-type]


def due_grid_time(state: FeatureState, now_ns: int, grid_ns: int) -> int | None:
    """Return the grid time that an event at ``now_ns`` closes, once, or None. Of several passed in silence, the last.

    The first call opens the grid. The caller takes the snapshot before it applies the event.
    """
    grid_time = now_ns - now_ns % grid_ns
    if grid_time <= state.grid_time_ns:
        return None
    opened = state.grid_time_ns == 0
    state.grid_time_ns = grid_time
    return None if opened else grid_time


def pass_buckets(state: FeatureState, now_ns: int) -> None:
    """Close every time bucket that ends at or before ``now_ns``, which at least the open one does."""
    bucket_ns = state.bucket_ns
    if not state.bucket_end_ns:
        state.bucket_end_ns = now_ns - now_ns % bucket_ns + bucket_ns
        return
    passed = (now_ns - state.bucket_end_ns) // bucket_ns + 1
    state.bucket_end_ns += passed * bucket_ns
    per_second = NS_PER_S // bucket_ns
    kept = WINDOW_SECONDS * per_second
    state.order_flow.roll(passed, kept)
    state.level_flow.roll(passed, kept)
    state.trade_flow.roll(passed, kept)
    mids = state.mids
    history = HISTORY_SECONDS * per_second
    mids.extend([current_mid(state) or 0] * min(passed, history))
    if len(mids) > 2 * history:
        del mids[:-history]


def current_mid(state: FeatureState) -> int | None:
    """Return the mid of the top in units of 1e-8; None when it is one-sided, or from a book that is crossed.

    A crossed quote keeps its mid: on some feeds (EURUSD) the two sides are simply not of one moment.
    """
    top = state.order_flow
    bid, ask = top.bid_price, top.ask_price
    if state.top_from_book and bid is not None and ask is not None and bid >= ask:
        return None
    return mid_price(bid, ask)


def _quote(state: FeatureState, quote: Quote) -> None:
    state.newest_ns = quote.available_at_ns
    update_id = quote.update_id
    if update_id is None:
        update_id = -1
    elif update_id <= state.top_update_id:
        return
    state.top_update_id = update_id
    state.top_from_book = False
    state.order_flow.move(quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity)


def _trade(state: FeatureState, trade: Trade) -> None:
    state.newest_ns = trade.available_at_ns
    state.trade_flow.take(trade)
    state.vpin.take(trade)
    quantity = trade.quantity
    if quantity is None:
        state.sized = False
    else:
        state.sized = True
        state.volume += quantity


def _update(state: FeatureState, update: DepthUpdate) -> None:
    book = state.book
    if not state.synchronised or update.last_update_id <= book.update_id:
        return
    state.newest_ns = update.available_at_ns
    book.apply(update)
    state.level_flow.move(book)
    if book.update_id > state.top_update_id:
        _take_top(state, book)


def _snapshot(state: FeatureState, snapshot: BookSnapshot) -> None:
    book = state.book
    if state.synchronised and snapshot.update_id <= book.update_id:
        # Ingestion repeats the book every minute for whoever starts later; it is no news and refreshes nothing.
        return
    state.newest_ns = snapshot.available_at_ns
    book.replace_all(snapshot)
    state.synchronised = True
    state.level_flow.move(book)
    if book.update_id > state.top_update_id:
        _take_top(state, book)


def _take_top(state: FeatureState, book: Book) -> None:
    state.top_update_id = book.update_id
    state.top_from_book = True
    bid, ask = book.best_bid, book.best_ask
    bid_quantity = None if bid is None else book.bids[bid]
    ask_quantity = None if ask is None else book.asks[ask]
    state.order_flow.move(bid, bid_quantity, ask, ask_quantity)


def _quality(state: FeatureState, quality: Quality) -> None:
    if quality.kind is QualityKind.RESYNC:
        _start_afresh(state)
    elif quality.kind in _LOST:
        if quality.kind is QualityKind.GAP or state.synchronised:
            state.gap = True
        _lose_book(state)


def _lose_book(state: FeatureState) -> None:
    state.synchronised = False
    state.book.clear()
    state.level_flow.forget()
    if state.top_from_book:
        state.top_update_id = -1
        state.top_from_book = False
        state.order_flow.move(None, None, None, None)


def _start_afresh(state: FeatureState) -> None:
    """A new connection: no difference and no window may span the time between the two."""
    state.gap = True
    state.synchronised = False
    state.book.clear()
    state.top_update_id = -1
    state.top_from_book = False
    state.mids = []
    state.order_flow = OrderFlow()
    state.level_flow = LevelFlow()
    state.trade_flow = TradeFlow()
    state.vpin.forget()
