"""Events as points for graphs: few tags, everything else a field.

A tag is what a series is told apart by, and must be bounded: venue, symbol, account, strategy, policy, expert,
horizon. Ids are fields. Points of one series must differ in time or the later one replaces the earlier, so the
digits below a microsecond are taken from the event's ``seq``: writing an event again gives the same point.
Graphs need no exact money: prices and money become floats here and nowhere else.
"""

import enum
import math
import types
import typing
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from influxdb_client.client.write.point import Point
from influxdb_client.domain.write_precision import WritePrecision

from infra.unit_fields import UNIT_FIELDS
from schemas.changes import ControlOutcome
from schemas.control import ControlCommand
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event, Heartbeat
from schemas.feedback import BallotVoided, Experience, ExpertScore, ModelRelease, OutcomeReported, TradeFeedback
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade, VenueBar
from schemas.opinions import AnomalyAlert, BallotRequest, Bar, FeatureSnapshot, MarketMark, Vote, VoteTally
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
WITHOUT_POINTS: Final[tuple[type[Event], ...]] = (
    *(Heartbeat, InstrumentDefined, BookSnapshot, DepthUpdate, ControlOutcome),
)
"""Time itself, definitions, whole books and sets of limits: nothing that a graph could draw."""
_TAGS: Final = ("account", "strategy", "policy", "expert")
_NOT_FIELDS: Final = frozenset(
    (*_TAGS, "key", "instrument", "horizon_ns", "event_time_ns", "available_at_ns", "cause_id", "source")
    + ("generation", "seq")
)
_KEYED_BY_ACCOUNT: Final = (Decision, OrderApproved, OrderDenied, OrderEvent, Fill, Position, AccountMark)
_Set = Callable[[Point, str, Any], None]


def points_of(event: Event) -> Iterator[Point]:
    """Yield the points of one event; none for the types of ``WITHOUT_POINTS``. Raises KeyError for a foreign type."""
    kind = type(event)
    if kind in WITHOUT_POINTS:
        return
    point = _tagged(Point(MEASUREMENTS[kind]), event)
    for name, put in _SETTERS[kind]:
        value = getattr(event, name)
        if value is not None:
            put(point, name, value)
    yield point
    if kind is VoteTally:
        yield from _weights(typing.cast(VoteTally, event))


def lines_of(event: Event) -> list[str]:
    """Return the points of one event as line protocol."""
    points: Iterator[Any] = points_of(event)
    return [point.to_line_protocol() for point in points]


def _weights(tally: VoteTally) -> Iterator[Point]:
    for entry in tally.entries:
        point = _tagged(Point("expert_weight"), tally).tag("expert", entry.expert.replace("\\", "_"))
        _put_number(point, "weight", entry.weight)
        if entry.skill is not None:
            _put_number(point, "skill", entry.skill)
        yield point


# A backslash at the end of a tag would escape the comma after it, and the format has no way to write it.
def _tagged(point: Point, event: Any) -> Point:
    instrument = getattr(event, "instrument", None) or event.key
    venue, separator, symbol = instrument.partition(":")
    if separator:
        point.tag("venue", venue).tag("symbol", symbol)
    for name in _TAGS:
        value = getattr(event, name, None)
        if value:
            point.tag(name, value.replace("\\", "_") if "\\" in value else value)
    if (horizon_ns := getattr(event, "horizon_ns", None)) is not None:
        point.tag("horizon_s", format(horizon_ns / NS_PER_S, "g"))
    point.time(event.available_at_ns // 1000 * 1000 + event.seq % 1000, WritePrecision.NS)
    return point


def _put_units(point: Point, name: str, value: int) -> None:
    point.field(name, value / UNITS_PER_ONE)


def _put_number(point: Point, name: str, value: float | Decimal) -> None:
    number = float(value)
    if math.isfinite(number):
        point.field(name, number)


def _put_plain(point: Point, name: str, value: Any) -> None:
    point.field(name, value)


def _put_enum(point: Point, name: str, value: enum.Enum) -> None:
    point.field(name, str(value.value))


def _put_map(point: Point, name: str, value: dict[str, float | None]) -> None:
    prefix = "" if name == "features" else f"{name}_"
    for key, item in value.items():
        if item is not None:
            _put_number(point, prefix + key, item)


def _put_count(point: Point, name: str, value: tuple[Any, ...]) -> None:
    point.field(f"{name}_count", len(value))


def _setter(name: str, hint: Any) -> _Set:
    if typing.get_origin(hint) is types.UnionType:
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if typing.get_origin(hint) is tuple:
        return _put_count
    if typing.get_origin(hint) is dict:
        return _put_map
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _put_enum
    if name in UNIT_FIELDS and hint is int:
        return _put_units
    return _put_number if hint in (float, Decimal) else _put_plain


def _setters(record: type[Event]) -> tuple[tuple[str, _Set], ...]:
    hints = typing.get_type_hints(record)
    names = (name for name in record.__struct_fields__ if name not in _NOT_FIELDS)
    return tuple((name, _setter(name, hints[name])) for name in names)


_SETTERS: Final = {record: _setters(record) for record in MEASUREMENTS}
