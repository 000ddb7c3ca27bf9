"""A tape: what the market and the committee said to a strategy on one instrument, step by step, made once.

Tallies do not depend on what a policy does, so that ingestion, experts, voting and scoring need not run again for each
episode. A step is one ballot of the strategy's horizon with all that came to the money stages before it: alerts, marks,
and what was displayed, at which fills are made. Marks off the grid that tell no news are left out. A tape has no
trades either, so that an order which rests is filled only by a display that passes it.

Steps are kept as bytes and read when they are asked for: a day of seconds is some 100 MB that way, ten times less than
as objects.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, overload

import msgspec
from msgspec.structs import asdict, replace

from agents.sim.desk import Desk
from schemas.event import Event
from schemas.market import BookSnapshot, Quote
from schemas.opinions import AlertLevel, AnomalyAlert, MarketMark, TallyEntry, VoteTally


class TapeStep(msgspec.Struct, frozen=True, kw_only=True):
    """One ballot, and what came to the money stages since the last one, in order: alerts, marks, the tally.

    ``book`` is what was displayed at the tally; of a feed without depth ``quote`` is. ``later`` is what was displayed
    in the moment after it, each with its time, while an order that answers the tally is on its way. What experts cite
    as evidence is left out of the tally's entries.
    """

    alerts: tuple[AnomalyAlert, ...]
    marks: tuple[MarketMark, ...]
    tally: VoteTally
    book: BookSnapshot | None = None
    quote: Quote | None = None
    later_books: tuple[BookSnapshot, ...] = ()
    later_quotes: tuple[Quote, ...] = ()

    @property
    def later(self) -> tuple[BookSnapshot | Quote, ...]:
        """What was displayed after the tally, in order."""
        if not self.later_quotes:
            return self.later_books
        return tuple(sorted((*self.later_books, *self.later_quotes), key=_available_at_ns))


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
    later_books: tuple[_Book, ...]
    later_quotes: tuple[_Quote, ...]


class _Alerts(msgspec.Struct, frozen=True, array_like=True):
    alerts: tuple[AnomalyAlert, ...]


def _available_at_ns(event: Event) -> int:
    return event.available_at_ns


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
        later_books=tuple(_Book(**asdict(book)) for book in step.later_books),
        later_quotes=tuple(_Quote(**asdict(quote)) for quote in step.later_quotes),
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
        later_books=tuple([BookSnapshot(**asdict(book)) for book in step.later_books]),
        later_quotes=tuple([Quote(**asdict(quote)) for quote in step.later_quotes]),
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
