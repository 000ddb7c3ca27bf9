"""THE table of topics: who writes what to whom, keyed and kept how.

Topic admin, the docs and the Kubernetes resources are generated from it; nothing else names a topic.
"""

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.changes import ControlOutcome
from schemas.control import ControlCommand
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Heartbeat
from schemas.feedback import BallotVoided, Experience, ExpertScore, ModelRelease, OutcomeReported, TradeFeedback
from schemas.ingress import IngestDepth, IngestOutcome, IngestQuote, IngestRequest, IngestTrade, IngestVote
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade, VenueBar
from schemas.opinions import AnomalyAlert, BallotRequest, Bar, FeatureSnapshot, MarketMark, Vote, VoteTally
from schemas.orders import AccountMark, Fill, OrderEvent, Position

PREFIX: Final = "tradermind"


class Spread(enum.Enum):
    """How many partitions a topic has: as many as all instrument topics, or one."""

    BY_INSTRUMENT = "by instrument"
    SINGLE = "one"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``money`` topics stop the line on an unknown type; ``public`` ones are written by other systems."""

    name: str
    records: tuple[type[msgspec.Struct], ...]
    spread: Spread
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    purpose: str
    retention_hours: int = 72
    money: bool = False
    public: bool = False

    @property
    def dead_letters(self) -> str:
        """The topic of this topic's dead letters."""
        return f"{self.name}.dlq"

    def partitions(self, instrument_partitions: int) -> int:
        """Return the partition count when instrument topics have ``instrument_partitions``."""
        return instrument_partitions if self.spread is Spread.BY_INSTRUMENT else 1

    def subject(self, record: type[msgspec.Struct]) -> str:
        """Return the registry subject of one record type on this topic."""
        return f"{self.name}-{record.__name__}"


def _name(short: str) -> str:
    return f"{PREFIX}.{short}.v1"


def _internal(
    short: str,
    records: tuple[type[msgspec.Struct], ...],
    spread: Spread,
    flow: tuple[str, str],
    purpose: str,
    *,
    money: bool = False,
) -> Topic:
    producers, consumers = flow
    hours = 24 * 30 if money else 72
    names = (tuple(producers.split()), (*consumers.split(), "sinks"))
    return Topic(_name(short), records, spread, *names, purpose, retention_hours=hours, money=money)


def _public(short: str, record: type[msgspec.Struct], purpose: str) -> Topic:
    return Topic(
        _name(f"ingest.{short}"), (record,), Spread.BY_INSTRUMENT, ("others",), ("ingestion",), purpose, public=True
    )


_MARKET = (InstrumentDefined, BookSnapshot, DepthUpdate, Quote, Trade, VenueBar, Heartbeat, Quality)
_BY, _ONE = Spread.BY_INSTRUMENT, Spread.SINGLE

MARKET_EVENT = _internal("market.event", _MARKET, _BY, ("ingestion", "experts"), "Trusted market data, in order.")
FEATURE_SNAPSHOT = _internal(
    "feature.snapshot",
    (FeatureSnapshot, Bar, Heartbeat),
    _BY,
    ("experts", "voting"),
    "Features on the grid, and the ballots they open.",
)
EXPERT_VOTE = _internal(
    "expert.vote", (Vote, Heartbeat), _BY, ("experts ingestion", "voting"), "What each expert says."
)
EXPERT_ALERT = _internal("expert.alert", (AnomalyAlert,), _ONE, ("experts", "decider risk"), "Changes of alert level.")
MARKET_MARK = _internal(
    "market.mark",
    (MarketMark,),
    _ONE,
    ("experts", "decider risk execution feedback"),
    "Where each instrument stands, and time for the money stages.",
)
BALLOT_REQUEST = _internal("ballot.request", (BallotRequest,), _BY, ("ingestion", "voting"), "Questions out of turn.")
VOTE_TALLY = _internal("vote.tally", (VoteTally,), _ONE, ("voting", "decider feedback"), "Pooled answers.")
DECISION = _internal(
    "decision.target", (Decision,), _ONE, ("decider", "risk feedback"), "Targets, and reasons for none.", money=True
)
DECISION_SHADOW = _internal("decision.shadow", (Decision,), _ONE, ("decider", ""), "What a shadow model would do.")
ORDER_APPROVED = _internal(
    "order.approved", (OrderApproved,), _ONE, ("risk", "execution"), "Orders sized and approved.", money=True
)
ORDER_DENIED = _internal("order.denied", (OrderDenied,), _ONE, ("risk", ""), "Orders refused.", money=True)
ACCOUNT_EVENT = _internal(
    "account.event",
    (OrderEvent, Fill, Position, AccountMark, ControlOutcome),
    _ONE,
    ("execution", "decider risk feedback"),
    "Orders, fills, positions and valuations, and the limits in force, in one order.",
    money=True,
)
FEEDBACK_TRADE = _internal("feedback.trade", (TradeFeedback,), _ONE, ("feedback", ""), "Closed slices of positions.")
FEEDBACK_SCORE = _internal(
    "feedback.score", (ExpertScore, BallotVoided), _BY, ("feedback", "voting"), "Scores of votes at their horizon."
)
FEEDBACK_OUTCOME = _internal(
    "feedback.outcome", (OutcomeReported,), _ONE, ("ingestion", "feedback"), "Outcomes that other systems report."
)
RL_EXPERIENCE = _internal("rl.experience", (Experience,), _ONE, ("feedback", "trainer"), "Transitions of the decider.")
MODEL_RELEASE = _internal(
    "model.release",
    (ModelRelease,),
    _ONE,
    ("trainer control decider", "decider trainer"),
    "Stages of models.",
    money=True,
)
CONTROL = _internal(
    "control.command", (ControlCommand,), _ONE, ("control", "risk"), "People's commands, as heard.", money=True
)
INGEST_TRADE = _public("trade", IngestTrade, "Trades from other systems.")
INGEST_QUOTE = _public("quote", IngestQuote, "Quotes from other systems.")
INGEST_DEPTH = _public("depth", IngestDepth, "Depth from other systems.")
INGEST_VOTE = _public("vote", IngestVote, "Votes of foreign experts.")
INGEST_REQUEST = _public("request", IngestRequest, "Questions from other systems.")
INGEST_OUTCOME = _public("outcome", IngestOutcome, "Outcomes from other systems.")

TOPICS: Final[dict[str, Topic]] = {
    topic.name: topic
    for topic in (
        *(MARKET_EVENT, FEATURE_SNAPSHOT, EXPERT_VOTE, EXPERT_ALERT, MARKET_MARK, BALLOT_REQUEST, VOTE_TALLY),
        *(DECISION, DECISION_SHADOW, ORDER_APPROVED, ORDER_DENIED, ACCOUNT_EVENT),
        *(FEEDBACK_TRADE, FEEDBACK_SCORE, FEEDBACK_OUTCOME, RL_EXPERIENCE, MODEL_RELEASE, CONTROL),
        *(INGEST_TRADE, INGEST_QUOTE, INGEST_DEPTH, INGEST_VOTE, INGEST_REQUEST, INGEST_OUTCOME),
    )
}

ROUTES: Final[dict[type[msgspec.Struct], Topic]] = {
    record: topic
    for topic in TOPICS.values()
    for record in topic.records
    if record not in (Heartbeat, Decision, ModelRelease)
} | {Decision: DECISION, ModelRelease: MODEL_RELEASE}
"""Where an event of a type goes. Heartbeats go to every partition of the topics that a stage names."""
