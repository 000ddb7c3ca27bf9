"""Events as points for graphs: few tags, everything else a field (docs/influx.md lists them all).

A tag is what a series is told apart by, and must be bounded: venue, symbol, account, strategy, policy, expert,
horizon, and words of closed lists. Ids are fields. Points of one series must differ in time or the later one replaces
the earlier, so the digits below a microsecond are taken from the event's ``seq``: writing an event again gives the
same point. Graphs need no exact money: prices and money become floats here and nowhere else.

Nothing here needs an event: whatever has the attributes of one will do, as a row of the record has.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from influxdb_client.client.write.point import Point
from influxdb_client.domain.write_precision import WritePrecision

from infra.influx.derived import DERIVED
from infra.influx.schema import (
    CLOSED,
    ENTRY_FIELDS,
    FIELDS,
    INSTRUMENT,
    MEASUREMENTS,
    NAMED,
    OF_AN_ENTRY,
    SPANNED,
    SPANS,
    WITHOUT_POINTS,
    Form,
)
from schemas.decisions import OrderDenied
from schemas.event import Event
from schemas.opinions import VoteTally
from schemas.values import NS_PER_S, UNITS_PER_ONE

TAG_VALUES_MAX: Final = 1_000
"""So many values of one tag, and names of fields of one map, are told apart; what comes after them is ``other``."""
OTHER: Final = "other"
_TEXT_MAX: Final = 1_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_Put = Callable[["_Draft", str, Any], None]


class _Draft:
    """One point while it is filled."""

    def __init__(self, name: str, maker: "PointMaker") -> None:
        self.point: Any = Point(name)
        self.name = name
        self._maker = maker

    def tag(self, name: str, value: str) -> None:
        """Add a tag, if it has a value."""
        if value:
            self.point.tag(name, self._maker.bounded(name, value))

    def number(self, name: str, value: float | Decimal) -> None:
        """Add a field that is a number; what is no number at all is left out."""
        number = float(value)
        if math.isfinite(number):
            self.point.field(name, number)

    def mapped(self, prefix: str, values: Mapping[str, float | None]) -> None:
        """Add a field for each entry of a map that has a value."""
        for key, item in values.items():
            if item is not None and (name := self._maker.bounded(f"{self.name}.{prefix}", key)) != OTHER:
                self.number(prefix + name, item)


class PointMaker:
    """Makes points. It remembers which values of tags it has seen, so that nobody from outside can add for ever."""

    def __init__(self, tag_values_max: int = TAG_VALUES_MAX) -> None:
        self._tag_values_max = tag_values_max
        self._seen: dict[str, dict[str, str]] = {}
        self.others = 0
        """How often a value was not told apart any more."""

    def points_of(self, kind: type[Event], source: Any) -> Iterator[Point]:
        """Yield the points of one event, or of a row with its attributes; none for the types of ``WITHOUT_POINTS``.

        Raises KeyError for a foreign type.
        """
        if kind in WITHOUT_POINTS:
            return
        draft = _Draft(MEASUREMENTS[kind], self)
        self._tags(draft, kind, source)
        for name, form in FIELDS[kind]:
            value = getattr(source, name)
            if value is not None:
                _PUT[form](draft, name, value)
        for name, (_, derive) in DERIVED.get(kind, {}).items():
            derived = derive(source)
            if derived is not None:
                draft.number(name, derived)
        yield draft.point
        if kind is VoteTally:
            yield from self._entries(source)

    def lines_of(self, kind: type[Event], source: Any) -> list[str]:
        """Return the same as line protocol; a point without a field is none."""
        points: Iterator[Any] = self.points_of(kind, source)
        return [line for point in points if (line := point.to_line_protocol())]

    def bounded(self, name: str, value: str) -> str:
        """Return a value as it may stand in a tag or in a field's name, or ``OTHER`` where there are too many."""
        seen = self._seen.setdefault(name, {})
        known = seen.get(value)
        if known is not None:
            return known
        if len(seen) >= self._tag_values_max:
            self.others += 1
            return OTHER
        # A backslash at the end would escape the comma after it, and the format has no way to write it.
        seen[value] = _CONTROL.sub("_", value).replace("\\", "_")
        return seen[value]

    def _entries(self, tally: Any) -> Iterator[Point]:
        for entry in tally.entries:
            draft = _Draft(OF_AN_ENTRY, self)
            self._tags(draft, VoteTally, tally, closed=())
            draft.tag("expert", entry.expert)
            for name in ENTRY_FIELDS:
                value = getattr(entry, name)
                if value is not None:
                    draft.number(name, value)
            yield draft.point

    def _tags(self, draft: _Draft, kind: type[Event], source: Any, closed: tuple[str, ...] | None = None) -> None:
        for name in INSTRUMENT[kind]:
            venue, separator, symbol = getattr(source, name).partition(":")
            if separator:
                draft.tag("venue", venue)
                draft.tag("symbol", symbol)
        for name in (*NAMED[kind], *(CLOSED.get(kind, ()) if closed is None else closed)):
            draft.tag(name, str(getattr(source, name) or ""))
        for name in SPANNED[kind]:
            draft.tag(SPANS[name], format(getattr(source, name) / NS_PER_S, "g"))
        if kind is OrderDenied:
            draft.tag("reason", str(next(iter(source.reasons), "")))
        draft.point.time(source.available_at_ns // 1000 * 1000 + (source.seq or 0) % 1000, WritePrecision.NS)


def lines_of(event: Event) -> list[str]:
    """Return the points of one event as line protocol."""
    return PointMaker().lines_of(type(event), event)


def _put_units(draft: _Draft, name: str, value: int) -> None:
    draft.point.field(name, value / UNITS_PER_ONE)


def _put_number(draft: _Draft, name: str, value: float | Decimal) -> None:
    draft.number(name, value)


def _put_whole(draft: _Draft, name: str, value: int) -> None:
    draft.point.field(name, value)


def _put_text(draft: _Draft, name: str, value: object) -> None:
    draft.point.field(name, str(value)[:_TEXT_MAX].replace("\0", "\ufffd"))


def _put_map(draft: _Draft, name: str, value: Mapping[str, float | None]) -> None:
    draft.mapped("" if name == "features" else f"{name}_", value)


def _put_count(draft: _Draft, name: str, value: tuple[Any, ...]) -> None:
    draft.point.field(f"{name}_count", len(value))


def _put_words(draft: _Draft, name: str, value: tuple[str, ...]) -> None:
    if value:
        _put_text(draft, name, ",".join(str(item) for item in value))


_PUT: Final[dict[Form, _Put]] = {
    Form.UNITS: _put_units,
    Form.NUMBER: _put_number,
    Form.WHOLE: _put_whole,
    Form.TRUTH: _put_whole,
    Form.TEXT: _put_text,
    Form.MAP: _put_map,
    Form.COUNT: _put_count,
    Form.WORDS: _put_words,
}
