"""A tape: what the market and the committee said to a strategy on one instrument, step by step, made once.

Tallies do not depend on what a policy does, so that ingestion, experts, voting and scoring need not run again for each
episode. A step is one ballot of the strategy's horizon with all that came to the money stages before it: alerts, marks
on the grid, and what was displayed, at which fills are made. Marks off the grid are left out: they only say that time
has passed. A tape has no trades either, so that an order which rests is filled only by a display that passes it.

Steps are kept as bytes and read when they are asked for: a day of seconds is some 100 MB that way, ten times less than
as objects.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, overload

import msgspec
from msgspec.structs import asdict, replace

from agents.market.book import Book
from agents.sim.desk import Desk
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark, TallyEntry, VoteTally

DISPLAY_LEVELS: Final = 10
"""Of a book so many levels of each side are kept at a step."""
_LOST: Final = (QualityKind.RESYNC, QualityKind.UNSYNCHRONISED, QualityKind.GAP)


class TapeStep(msgspec.Struct, frozen=True, kw_only=True):
    """One ballot, and what came to the money stages since the last one, in order: alerts, marks, the tally.

    ``book`` is what was displayed at the tally; of a feed without depth ``quote`` is. What experts cite as evidence is
    left out of the tally's entries.
    """

    alerts: tuple[AnomalyAlert, ...]
    marks: tuple[MarketMark, ...]
    tally: VoteTally
    book: BookSnapshot | None = None
    quote: Quote | None = None


class _Entry(TallyEntry, frozen=True, kw_only=True, array_like=True):
    """As kept: by place, without names."""


class _Tally(VoteTally, frozen=True, kw_only=True, array_like=True):
    entries: tuple[_Entry, ...]


class _Mark(MarketMark, frozen=True, kw_only=True, array_like=True):
    """As kept."""


class _Book(BookSnapshot, frozen=True, kw_only=True, array_like=True):
    """As kept."""


class _Quote(Quote, frozen=True, kw_only=True, array_like=True):
    """As kept."""


class _Step(msgspec.Struct, frozen=True, array_like=True):
    alerts: tuple[AnomalyAlert, ...]
    marks: tuple[_Mark, ...]
    tally: _Tally
    book: _Book | None
    quote: _Quote | None


class _Alerts(msgspec.Struct, frozen=True, array_like=True):
    alerts: tuple[AnomalyAlert, ...]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Step)
_ALERTS: Final = msgspec.msgpack.Decoder(_Alerts)


def encode_step(step: TapeStep) -> bytes:
    """Return a step as it is kept."""
    said: dict[str, Any] = asdict(step.tally)
    said["entries"] = tuple(_Entry(**asdict(entry)) for entry in step.tally.entries)
    kept = _Step(
        alerts=step.alerts,
        marks=tuple(_Mark(**asdict(mark)) for mark in step.marks),
        tally=_Tally(**said),
        book=None if step.book is None else _Book(**asdict(step.book)),
        quote=None if step.quote is None else _Quote(**asdict(step.quote)),
    )
    return _ENCODER.encode(kept)


def decode_step(kept: bytes) -> TapeStep:
    """Return the step of these bytes. Raises msgspec.DecodeError for what is none."""
    step = _DECODER.decode(kept)
    return TapeStep(
        alerts=step.alerts,
        marks=tuple([MarketMark(**asdict(mark)) for mark in step.marks]),
        tally=_tally_of(step.tally),
        book=None if step.book is None else BookSnapshot(**asdict(step.book)),
        quote=None if step.quote is None else Quote(**asdict(step.quote)),
    )


def _tally_of(kept: _Tally) -> VoteTally:
    said = asdict(kept)
    said["entries"] = tuple([TallyEntry(**asdict(entry)) for entry in kept.entries])
    return VoteTally(**said)


class Tape:
    """Steps in the order of their grid times, and the desk that trades on them."""

    def __init__(self, desk: Desk, steps: Sequence[bytes]) -> None:
        self.desk = desk
        self.kept = steps
        self._alerts: list[tuple[int, AnomalyAlert]] | None = None

    def __len__(self) -> int:
        return len(self.kept)

    def step(self, index: int) -> TapeStep:
        """Return a step. Raises IndexError beyond the end."""
        return decode_step(self.kept[index])

    @property
    def tallies(self) -> Sequence[VoteTally]:
        """The tallies, each read when it is asked for."""
        return _Tallies(self.kept)

    def alerts_before(self, index: int) -> tuple[AnomalyAlert, ...]:
        """Return the alerts that still stand as a step begins: without them its stages would know of no danger."""
        if self._alerts is None:
            found = ((place, _ALERTS.decode(kept).alerts) for place, kept in enumerate(self.kept))
            self._alerts = [(place, alert) for place, alerts in found for alert in alerts]
        return still_standing(alert for place, alert in self._alerts if place < index)

    def with_tallies(self, tallies: Iterable[VoteTally]) -> "Tape":
        """Return the same market with another committee's tallies, one for each step (ValueError for another count)."""
        pairs = zip(self.kept, tallies, strict=True)
        return Tape(self.desk, [encode_step(replace(decode_step(kept), tally=tally)) for kept, tally in pairs])


def still_standing(alerts: Iterable[AnomalyAlert]) -> tuple[AnomalyAlert, ...]:
    """Return those of an instrument's alerts, oldest first, by which its level and any restriction are told."""
    newest: AnomalyAlert | None = None
    decisive: AnomalyAlert | None = None
    for newest in alerts:
        if newest.level is not AlertLevel.ELEVATED:
            decisive = newest
    return tuple(alert for alert in (decisive, newest if newest is not decisive else None) if alert is not None)


class _Tallies(Sequence[VoteTally]):
    def __init__(self, kept: Sequence[bytes]) -> None:
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[VoteTally]:
        return (_tally_of(_DECODER.decode(kept).tally) for kept in self._kept)

    @overload
    def __getitem__(self, index: int) -> VoteTally: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[VoteTally]: ...
    def __getitem__(self, index: int | slice) -> VoteTally | Sequence[VoteTally]:
        if isinstance(index, slice):
            return _Tallies(self._kept[index])
        return _tally_of(_DECODER.decode(self._kept[index]).tally)


class TapeRecorder:
    """Makes the steps of one instrument and horizon out of the events of a pipeline that it is shown."""

    def __init__(self, instrument: str, horizon_ns: int, keep: Callable[[TapeStep], None]) -> None:
        self._instrument = instrument
        self._horizon_ns = horizon_ns
        self._keep = keep
        self._book = Book()
        self._quote: Quote | None = None
        self._alerts: list[AnomalyAlert] = []
        self._marks: list[MarketMark] = []
        self._since_grid: MarketMark | None = None
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
        if handler is not None and event.key == self._instrument:
            handler(event)

    def _snapshot(self, event: BookSnapshot) -> None:
        if event.update_id > self._book.update_id:
            self._book.replace_all(event)

    def _update(self, event: DepthUpdate) -> None:
        if 0 <= self._book.update_id < event.last_update_id:
            self._book.apply(event)

    def _quality(self, event: Quality) -> None:
        if event.kind in _LOST:
            self._book.clear()

    def _quoted(self, event: Quote) -> None:
        self._quote = event

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
        book = _displayed(self._book, tally)
        step = TapeStep(
            alerts=tuple(self._alerts),
            marks=tuple(self._marks),
            tally=replace(tally, entries=entries),
            book=book,
            quote=self._quote if book is None else None,
        )
        self._alerts.clear()
        self._marks.clear()
        self._since_grid = None
        self._keep(step)


def _news(mark: MarketMark) -> tuple[object, ...]:
    """Return what a mark tells of a market that nobody wants to value anything by."""
    return mark.available_at_ns, mark.newest_time_ns, mark.quality, mark.mid, mark.bid_price, mark.ask_price


def _displayed(book: Book, tally: VoteTally) -> BookSnapshot | None:
    if not (book.bid_order and book.ask_order):
        return None
    bids, asks = book.top_bids(DISPLAY_LEVELS), book.top_asks(DISPLAY_LEVELS)
    return BookSnapshot(
        key=tally.key,
        event_time_ns=tally.grid_time_ns,
        available_at_ns=tally.grid_time_ns,
        update_id=book.update_id,
        bid_prices=tuple(reversed(bids[0])),
        bid_quantities=tuple(reversed(bids[1])),
        ask_prices=tuple(-price for price in reversed(asks[0])),
        ask_quantities=tuple(reversed(asks[1])),
    )
