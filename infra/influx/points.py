"""Events as points for graphs: few tags, everything else a field (docs/influx.md lists them all).

A tag is what a series is told apart by, and must be bounded: venue, symbol, account, strategy, policy, expert,
horizon, and words of closed lists. Ids are fields. Points of one series must differ in time or the later one replaces
the earlier, so the digits below a microsecond are taken from the event's ``seq``: writing an event again gives the
same point. Graphs need no exact money: prices and money become floats here and nowhere else.

Nothing here needs an event: whatever has the attributes of one will do, as a row of the record has.
"""

import enum
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from influxdb_client.client.write.point import Point
from influxdb_client.domain.write_precision import WritePrecision

from infra.influx.derived import DERIVED, as_kept
from infra.unit_fields import UNIT_FIELDS
from schemas.changes import ControlOutcome
from schemas.control import ControlCommand
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event, Heartbeat
from schemas.feedback import BallotVoided, Experience, ExpertScore, ModelRelease, OutcomeReported, TradeFeedback
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade, VenueBar
from schemas.opinions import AnomalyAlert, BallotRequest, Bar, FeatureSnapshot, MarketMark, TallyEntry, Vote, VoteTally
from schemas.orders import AccountMark, Fill, OrderEvent, Position
from schemas.values import NS_PER_S, UNITS_PER_ONE

MEASUREMENTS: Final[dict[type[Event], str]] = {
    Trade: "trade",
    Quote: "quote",
    VenueBar: "venue_bar",
    Quality: "quality",
    FeatureSnapshot: "feature_snapshot",
    Bar: "bar",
    Vote: "vote",
    AnomalyAlert: "alert",
    MarketMark: "market_mark",
    BallotRequest: "ballot_request",
    VoteTally: "tally",
    Decision: "decision",
    OrderApproved: "order_approved",
    OrderDenied: "order_denied",
    OrderEvent: "order",
    Fill: "fill",
    Position: "position",
    AccountMark: "account",
    TradeFeedback: "trade_feedback",
    ExpertScore: "expert_score",
    BallotVoided: "ballot_voided",
    OutcomeReported: "outcome",
    Experience: "experience",
    ModelRelease: "model_release",
    ControlCommand: "command",
}
OF_AN_ENTRY: Final = "expert_weight"
"""The measurement of what a tally says of each expert: one point per entry, beside the tally's own."""
WITHOUT_POINTS: Final[tuple[type[Event], ...]] = (
    *(Heartbeat, InstrumentDefined, BookSnapshot, DepthUpdate, ControlOutcome),
)
"""Time itself, definitions, whole books and sets of limits: nothing that a graph could draw."""
TAG_VALUES_MAX: Final = 1_000
"""So many values of one tag, and names of fields of one map, are told apart; what comes after them is ``other``."""
OTHER: Final = "other"
_TEXT_MAX: Final = 1_000
_NAMED: Final = ("account", "strategy", "policy", "expert")
_CLOSED: Final[dict[type[Event], tuple[str, ...]]] = {
    Trade: ("aggressor",),
    Quality: ("kind",),
    AnomalyAlert: ("level",),
    Vote: ("abstained",),
    VoteTally: ("closed_by",),
    Decision: ("outcome", "reason", "policy_stage"),
    OrderApproved: ("side", "order_type"),
    OrderDenied: ("side",),
    OrderEvent: ("side", "order_type", "status", "exec_type"),
    Fill: ("side", "liquidity"),
    TradeFeedback: ("side",),
    BallotVoided: ("reason",),
    Experience: ("policy_stage",),
    ModelRelease: ("release_stage",),
    ControlCommand: ("action", "scope", "level"),
}
"""Attributes that are words of a closed list, and tags."""
_SPANS: Final = {"horizon_ns": "horizon_s", "interval_ns": "interval_s"}
_EVENT: Final = frozenset(
    ("key", "event_time_ns", "available_at_ns", "event_id", "cause_id", "source", "generation", "seq")
)
_LEFT_OUT: Final = frozenset(("checks", "questions", "approvals", "postings", "observation", "next_observation"))
"""What is long and of no use in a graph; the record has it."""
_LEFT_OUT_OF: Final[dict[type[Event], frozenset[str]]] = {ControlCommand: frozenset(("change", "ordinal"))}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_Set = Callable[["_Draft", str, Any], None]


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
        number = as_kept(value) if isinstance(value, Decimal) else float(value)
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
        for name, put in _SETTERS[kind]:
            value = getattr(source, name)
            if value is not None:
                put(draft, name, value)
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
        for name in _INSTRUMENT[kind]:
            venue, separator, symbol = getattr(source, name).partition(":")
            if separator:
                draft.tag("venue", venue)
                draft.tag("symbol", symbol)
        for name in (*_TAGS[kind], *(_CLOSED.get(kind, ()) if closed is None else closed)):
            draft.tag(name, str(getattr(source, name) or ""))
        for name in _SPANNED[kind]:
            draft.point.tag(_SPANS[name], format(getattr(source, name) / NS_PER_S, "g"))
        if kind is OrderDenied:
            draft.tag("reason", str(next(iter(source.reasons), "")))
        draft.point.time(source.available_at_ns // 1000 * 1000 + (source.seq or 0) % 1000, WritePrecision.NS)


def lines_of(event: Event) -> list[str]:
    """Return the points of one event as line protocol."""
    return PointMaker().lines_of(type(event), event)


def attributes_of(kind: type[Event]) -> tuple[str, ...]:
    """Return every attribute that the points of an event type are made of."""
    names = [*_INSTRUMENT[kind], "available_at_ns", "seq", *_TAGS[kind], *_CLOSED.get(kind, ()), *_SPANNED[kind]]
    names += [name for name, _ in _SETTERS[kind]]
    names += [name for needs, _ in DERIVED.get(kind, {}).values() for name in needs]
    return tuple(dict.fromkeys(names))


def field_types_of(kind: type[Event]) -> dict[str, str]:
    """Return the fields of an event type's own measurement and what is in them; a map's begin with the name given."""
    types_of = {_label(name, put): _SAID[put] for name, put in _SETTERS[kind]}
    return types_of | dict.fromkeys(DERIVED.get(kind, {}), "number")


def tags_of(kind: type[Event]) -> tuple[str, ...]:
    """Return the tags that a point of an event type may have."""
    of_orders = ("reason",) if kind is OrderDenied else ()
    spans = tuple(_SPANS[name] for name in _SPANNED[kind])
    of_markets = ("venue", "symbol") if _INSTRUMENT[kind] else ()
    return (*of_markets, *_TAGS[kind], *_CLOSED.get(kind, ()), *of_orders, *spans)


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


_SAID: Final[dict[_Set, str]] = {
    _put_units: "number",
    _put_number: "number",
    _put_whole: "whole number or truth",
    _put_text: "text",
    _put_map: "numbers",
    _put_count: "whole number",
    _put_words: "text",
}


def _label(name: str, put: _Set) -> str:
    if put is _put_map:
        return "<feature>" if name == "features" else f"{name}_<name>"
    return f"{name}_count" if put is _put_count else name


def _setter(name: str, hint: Any) -> _Set:
    if typing.get_origin(hint) is types.UnionType:
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return _put_words if isinstance(item, type) and issubclass(item, enum.Enum) else _put_count
    if typing.get_origin(hint) is dict:
        return _put_map
    if name in UNIT_FIELDS and hint is int:
        return _put_units
    if hint in (float, Decimal):
        return _put_number
    return _put_whole if hint in (int, bool) else _put_text


def _fields(record: type[Event]) -> tuple[str, ...]:
    tags = {*_NAMED, "instrument", *_SPANS, *_CLOSED.get(record, ())}
    left_out = _EVENT | _LEFT_OUT | _LEFT_OUT_OF.get(record, frozenset())
    kept = {"strategy"} if record is BallotRequest else set()
    return tuple(name for name in record.__struct_fields__ if name in kept or name not in tags | left_out)


def _setters(record: type[Event]) -> tuple[tuple[str, _Set], ...]:
    hints = typing.get_type_hints(record)
    return tuple((name, _setter(name, hints[name])) for name in _fields(record))


_OF_NO_INSTRUMENT: Final = (ModelRelease, ControlCommand)
_INSTRUMENT: Final = {
    record: ()
    if record in _OF_NO_INSTRUMENT
    else ("instrument" if "instrument" in record.__struct_fields__ else "key",)
    for record in MEASUREMENTS
}
"""Where an event says its instrument, if it is about one."""
# Who asks for a ballot is whoever writes to a public topic: no tag.
_TAGS: Final = {
    record: tuple(name for name in _NAMED if name in record.__struct_fields__ and record is not BallotRequest)
    for record in MEASUREMENTS
}
_SPANNED: Final = {
    record: tuple(name for name in _SPANS if name in record.__struct_fields__) for record in MEASUREMENTS
}
_SETTERS: Final = {record: _setters(record) for record in MEASUREMENTS}
ENTRY_FIELDS: Final = tuple(
    name for name, hint in typing.get_type_hints(TallyEntry).items() if hint in (float, float | None)
)
