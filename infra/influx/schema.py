"""What of an event is a measurement, a tag or a field: said once, for the sink, a rebuild and docs/influx.md."""

import enum
import types
import typing
from decimal import Decimal
from typing import Any, Final

from infra.influx.derived import DERIVED
from infra.unit_fields import UNIT_FIELDS
from schemas.changes import ControlOutcome
from schemas.control import ControlCommand
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event, Heartbeat
from schemas.feedback import BallotVoided, Experience, ExpertScore, ModelRelease, OutcomeReported, TradeFeedback
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade, VenueBar
from schemas.opinions import AnomalyAlert, BallotRequest, Bar, FeatureSnapshot, MarketMark, TallyEntry, Vote, VoteTally
from schemas.orders import AccountMark, Fill, OrderEvent, Position

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
_NAMES: Final = ("account", "strategy", "policy", "expert")
CLOSED: Final[dict[type[Event], tuple[str, ...]]] = {
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
SPANS: Final = {"horizon_ns": "horizon_s", "interval_ns": "interval_s"}
_EVENT: Final = frozenset(
    ("key", "event_time_ns", "available_at_ns", "event_id", "cause_id", "source", "generation", "seq")
)
_LEFT_OUT: Final = frozenset(("checks", "questions", "approvals", "postings", "observation", "next_observation"))
"""What is long and of no use in a graph; the record has it."""
_LEFT_OUT_OF: Final[dict[type[Event], frozenset[str]]] = {ControlCommand: frozenset(("change", "ordinal"))}


class Form(enum.Enum):
    """How an attribute becomes a field, and what the field holds."""

    UNITS = "number"
    NUMBER = "number, too"
    WHOLE = "whole number"
    TRUTH = "true or false"
    TEXT = "text"
    MAP = "numbers"
    COUNT = "how many"
    WORDS = "words, with commas"


def attributes_of(kind: type[Event]) -> tuple[str, ...]:
    """Return every attribute that the points of an event type are made of."""
    names = [*INSTRUMENT[kind], "available_at_ns", "seq", *NAMED[kind], *CLOSED.get(kind, ()), *SPANNED[kind]]
    names += [name for name, _ in FIELDS[kind]]
    names += [name for needs, _ in DERIVED.get(kind, {}).values() for name in needs]
    return tuple(dict.fromkeys(names))


def field_forms_of(kind: type[Event]) -> dict[str, Form]:
    """Return the fields of an event type's own measurement and what is in them; a map's begin with the name given."""
    forms = {_label(name, form): form for name, form in FIELDS[kind]}
    return forms | dict.fromkeys(DERIVED.get(kind, {}), Form.NUMBER)


def tags_of(kind: type[Event]) -> tuple[str, ...]:
    """Return the tags that a point of an event type may have."""
    of_orders = ("reason",) if kind is OrderDenied else ()
    of_markets = ("venue", "symbol") if INSTRUMENT[kind] else ()
    spans = tuple(SPANS[name] for name in SPANNED[kind])
    return (*of_markets, *NAMED[kind], *CLOSED.get(kind, ()), *of_orders, *spans)


def _label(name: str, form: Form) -> str:
    if form is Form.MAP:
        return "<feature>" if name == "features" else f"{name}_<name>"
    return f"{name}_count" if form is Form.COUNT else name


def _form(name: str, hint: Any) -> Form:
    if typing.get_origin(hint) is types.UnionType:
        hint = next(argument for argument in typing.get_args(hint) if argument is not type(None))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return Form.WORDS if isinstance(item, type) and issubclass(item, enum.Enum) else Form.COUNT
    if typing.get_origin(hint) is dict:
        return Form.MAP
    if name in UNIT_FIELDS and hint is int:
        return Form.UNITS
    return _PLAIN.get(hint, Form.TEXT)


def _fields(record: type[Event]) -> tuple[tuple[str, Form], ...]:
    hints = typing.get_type_hints(record)
    tags = {*_NAMES, "instrument", *SPANS, *CLOSED.get(record, ())}
    left_out = _EVENT | _LEFT_OUT | _LEFT_OUT_OF.get(record, frozenset())
    kept = {"strategy"} if record is BallotRequest else set()
    names = (name for name in record.__struct_fields__ if name in kept or name not in tags | left_out)
    return tuple((name, _form(name, hints[name])) for name in names)


_PLAIN: Final = {float: Form.NUMBER, Decimal: Form.NUMBER, int: Form.WHOLE, bool: Form.TRUTH}
_OF_NO_INSTRUMENT: Final = (ModelRelease, ControlCommand)
INSTRUMENT: Final = {
    record: ()
    if record in _OF_NO_INSTRUMENT
    else ("instrument" if "instrument" in record.__struct_fields__ else "key",)
    for record in MEASUREMENTS
}
"""Where an event says its instrument, if it is about one."""
# Who asks for a ballot is whoever writes to a public topic: no tag.
NAMED: Final = {
    record: tuple(name for name in _NAMES if name in record.__struct_fields__ and record is not BallotRequest)
    for record in MEASUREMENTS
}
SPANNED: Final = {record: tuple(name for name in SPANS if name in record.__struct_fields__) for record in MEASUREMENTS}
FIELDS: Final = {record: _fields(record) for record in MEASUREMENTS}
"""Event type -> the attributes that are fields, and how."""
ENTRY_FIELDS: Final = tuple(
    name for name, hint in typing.get_type_hints(TallyEntry).items() if hint in (float, float | None)
)
