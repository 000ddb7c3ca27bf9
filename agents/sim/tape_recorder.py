"""How a tape is made: out of the events of a pipeline, as they would have gone to topics."""

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from agents.market.book import Book
from agents.sim.desk import Desk
from agents.sim.tape import TapeStep
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote
from schemas.opinions import AnomalyAlert, MarketMark, VoteTally
from schemas.values import NS_PER_MS

DISPLAY_LEVELS: Final = 10
"""Of a book so many levels of each side are kept at a step."""
LATER_NS: Final = 20 * NS_PER_MS
"""For so long after a tally each display is kept: an order that answers it meets the market after the latency."""
_LOST: Final = (QualityKind.RESYNC, QualityKind.UNSYNCHRONISED, QualityKind.GAP)


class TapeRecorder:
    """Makes the steps of one instrument and horizon out of the events of a pipeline that it is shown.

    A step is handed to ``keep`` once all is known that was displayed within ``later_ns`` after it; with 0 at its tally.
    """

    def __init__(self, desk: Desk, keep: Callable[[TapeStep], None], later_ns: int = LATER_NS) -> None:
        self._instrument = desk.instrument.key
        self._horizon_ns = desk.horizon_ns
        self._keep = keep
        self._later_ns = later_ns
        self._book = Book()
        self._quote: Quote | None = None
        self._alerts: list[AnomalyAlert] = []
        self._marks: list[MarketMark] = []
        self._since_grid: MarketMark | None = None
        self._open: TapeStep | None = None
        self._later: list[BookSnapshot | Quote] = []
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            BookSnapshot: self._snapshot,
            DepthUpdate: self._update,
            Quality: self._quality,
            Quote: self._quoted,
            AnomalyAlert: self._alerts.append,
            MarketMark: self._mark,
            VoteTally: self._tally,
        }

    def observe(self, event: Event) -> None:
        """Take an event of any type; those of other instruments are passed over."""
        handler = self._handlers.get(type(event))
        if handler is None or event.key != self._instrument:
            return
        if self._open is not None and event.available_at_ns > self._open.tally.available_at_ns + self._later_ns:
            self.close()
        handler(event)

    def close(self) -> None:
        """Hand over the step that is open, if any: nothing more is displayed in its time."""
        if self._open is None:
            return
        books = tuple(shown for shown in self._later if isinstance(shown, BookSnapshot))
        quotes = tuple(shown for shown in self._later if isinstance(shown, Quote))
        self._keep(replace(self._open, later_books=books, later_quotes=quotes))
        self._open = None
        self._later.clear()

    def _show(self, event: Event) -> None:
        """Note what is displayed after an event, in the time of an open step."""
        if self._open is None:
            return
        book = _displayed(self._book, event, event.available_at_ns)
        if book is not None and type(event) is not Quote:
            self._later.append(book)
        elif book is None and type(event) is Quote:
            self._later.append(event)

    def _snapshot(self, event: BookSnapshot) -> None:
        if event.update_id > self._book.update_id:
            self._book.replace_all(event)
            self._show(event)

    def _update(self, event: DepthUpdate) -> None:
        if 0 <= self._book.update_id < event.last_update_id:
            self._book.apply(event)
            self._show(event)

    def _quality(self, event: Quality) -> None:
        if event.kind in _LOST:
            self._book.clear()

    def _quoted(self, event: Quote) -> None:
        self._quote = event
        self._show(event)

    def _mark(self, event: MarketMark) -> None:
        if event.on_grid:
            self._marks.append(event)
            self._since_grid = None
        else:
            self._since_grid = event if not self._marks or _news(event) != _news(self._marks[-1]) else None

    def _tally(self, tally: VoteTally) -> None:
        if tally.horizon_ns != self._horizon_ns or tally.advice_for is not None:
            return
        entries = tuple(replace(entry, evidence={}) for entry in tally.entries)
        if self._since_grid is not None:
            self._marks.append(self._since_grid)
        self.close()
        book = _displayed(self._book, tally, tally.grid_time_ns)
        self._open = TapeStep(
            alerts=tuple(self._alerts),
            marks=tuple(self._marks),
            tally=replace(tally, entries=entries),
            book=book,
            quote=self._quote if book is None else None,
        )
        self._alerts.clear()
        self._marks.clear()
        self._since_grid = None
        if not self._later_ns:
            self.close()


def _news(mark: MarketMark) -> tuple[object, ...]:
    """Return what a mark tells of a market that nobody wants to value anything by."""
    return mark.available_at_ns, mark.newest_time_ns, mark.quality, mark.mid, mark.bid_price, mark.ask_price


def _displayed(book: Book, event: Event, at_ns: int) -> BookSnapshot | None:
    if not (book.bid_order and book.ask_order):
        return None
    bids, asks = book.top_bids(DISPLAY_LEVELS), book.top_asks(DISPLAY_LEVELS)
    return BookSnapshot(
        key=event.key,
        event_time_ns=at_ns,
        available_at_ns=at_ns,
        update_id=book.update_id,
        bid_prices=tuple(reversed(bids[0])),
        bid_quantities=tuple(reversed(bids[1])),
        ask_prices=tuple(-price for price in reversed(asks[0])),
        ask_quantities=tuple(reversed(asks[1])),
    )
