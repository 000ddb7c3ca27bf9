"""Ingress: what other systems write becomes what the platform reads, or is refused with a closed reason.

A writer is trusted with nothing: not with names that are ours, not with times, not with probabilities. Its market
records then go through the same book-keeping as a feed's, so a writer that loses a diff causes a gap, not a wrong
book. A refusal raises BadRecord before anything has changed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents.market.feed_state import FeedState
from agents.market.settings import IngestionConfig
from agents.market.stage import Ingestion
from agents.market.well_formed import flaw_of_quote, flaw_of_snapshot, flaw_of_trade, flaw_of_update
from agents.stage import ShardState
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.event import Event, Heartbeat
from schemas.feedback import OutcomeReported
from schemas.ingress import (
    IngestDepth,
    IngestOutcome,
    IngestQuote,
    IngestRequest,
    IngestTrade,
    IngestVote,
    IngressEnvelope,
)
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quote, Trade
from schemas.opinions import AbstainReason, BallotRequest, Vote
from schemas.values import NS_PER_S

_UNLIMITED: Final = 2**62
_SUM_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressConfig:
    """Settings. Times are nanoseconds.

    ``native_experts`` are names no other system may vote under; ``fed_instruments`` are those whose market data
    comes from a feed of ours, so nobody else's trades, quotes or depth are taken for them. ``expiry_max_ns`` is how
    long after its receipt a vote may still answer requests.
    """

    instruments: Mapping[str, InstrumentDefined]
    native_experts: frozenset[str]
    fed_instruments: frozenset[str] = frozenset()
    future_limit_ns: int = 5 * NS_PER_S
    expiry_max_ns: int = 300 * NS_PER_S
    evidence_max: int = 64


class Ingress:
    """The stage of one partition of one public topic. State: as ingestion's, one FeedState per instrument."""

    name = "ingress"

    def __init__(self, config: IngressConfig) -> None:
        self._config = config
        self._native = frozenset(name.casefold() for name in config.native_experts)
        # Times have been judged here, and silence on one of several topics says nothing about the instrument.
        self._ingestion = Ingestion(
            IngestionConfig(
                instruments=config.instruments, future_limit_ns=_UNLIMITED, stale_after_ns=_UNLIMITED, skew_max_ns=0
            )
        )
        self._market: dict[type, Callable[[IngressEnvelope, Any], Event]] = {
            IngestTrade: _trade,
            IngestQuote: _quote,
            IngestDepth: _depth,
        }
        self._others: dict[type, Callable[[IngressEnvelope, Any], Event]] = {
            IngestVote: self._vote,
            IngestRequest: self._request,
            IngestOutcome: self._outcome,
        }

    def state_type(self, key: str) -> type:  # noqa: ARG002 - the Stage protocol names it
        """Every key holds a FeedState."""
        return FeedState

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one IngressEnvelope or a Heartbeat, which keeps time and is not passed on. Raises BadRecord."""
        if type(event) is Heartbeat:
            state, outputs = self._ingestion.step(state, event)
            return state, outputs[1:]
        if not isinstance(event, IngressEnvelope):
            raise BadRecord(DeadLetterReason.TYPE_UNEXPECTED, f"{type(event).__name__} is not for ingress")
        record = event.record
        if record.instrument not in self._config.instruments:
            raise BadRecord(DeadLetterReason.INSTRUMENT_REFUSED, f"{record.instrument[:64]!r} is not defined here")
        if record.event_time_ns > event.available_at_ns + self._config.future_limit_ns:
            ahead = record.event_time_ns - event.available_at_ns
            raise BadRecord(DeadLetterReason.FUTURE_TIME, f"{ahead} ns ahead of its receipt")
        build = self._others.get(type(record))
        if build is not None:
            return state, (build(event, record),)
        build = self._market.get(type(record))
        if build is None:
            raise BadRecord(DeadLetterReason.TYPE_UNEXPECTED, f"{type(record).__name__} is not for ingress")
        if record.instrument in self._config.fed_instruments:
            raise BadRecord(DeadLetterReason.INSTRUMENT_REFUSED, f"{record.instrument} has a feed of its own")
        return self._ingestion.step(state, build(event, record))

    def _vote(self, envelope: IngressEnvelope, vote: IngestVote) -> Event:
        self._check_name(vote.expert, "expert")
        if vote.expert.casefold() in self._native:
            raise BadRecord(DeadLetterReason.NAME_CLAIMED, f"{vote.expert} is one of ours")
        self._check_horizon(vote.instrument, vote.horizon_ns)
        if vote.expires_at_ns > envelope.available_at_ns + self._config.expiry_max_ns:
            _refuse(f"expires more than {self._config.expiry_max_ns} ns after its receipt")
        if len(vote.evidence) > self._config.evidence_max:
            _refuse(f"{len(vote.evidence)} pieces of evidence, {self._config.evidence_max} allowed")
        if not all(value is None or math.isfinite(value) for value in vote.evidence.values()):
            raise BadRecord(DeadLetterReason.NOT_FINITE, "evidence holds a number that is not finite")
        return Vote(
            key=vote.instrument,
            event_time_ns=vote.event_time_ns,
            available_at_ns=envelope.available_at_ns,
            ballot_id=vote.ballot_id,
            expert=vote.expert,
            horizon_ns=vote.horizon_ns,
            expires_at_ns=vote.expires_at_ns,
            p_down=vote.p_down,
            p_flat=vote.p_flat,
            p_up=vote.p_up,
            abstained=None if _gives_direction(vote) else AbstainReason.NO_EDGE,
            text_fed=vote.text_fed,
            evidence=vote.evidence,
        )

    def _request(self, envelope: IngressEnvelope, request: IngestRequest) -> Event:
        self._check_name(request.strategy, "strategy")
        self._check_horizon(request.instrument, request.horizon_ns)
        return BallotRequest(
            key=request.instrument,
            event_time_ns=request.event_time_ns,
            available_at_ns=envelope.available_at_ns,
            request_id=request.request_id,
            strategy=request.strategy,
            horizon_ns=request.horizon_ns,
        )

    def _outcome(self, envelope: IngressEnvelope, outcome: IngestOutcome) -> Event:
        self._check_name(outcome.kind, "kind")
        if not math.isfinite(outcome.value):
            raise BadRecord(DeadLetterReason.NOT_FINITE, "value is not finite")
        return OutcomeReported(
            key=outcome.instrument,
            event_time_ns=outcome.event_time_ns,
            available_at_ns=envelope.available_at_ns,
            decision_id=outcome.decision_id,
            kind=outcome.kind,
            value=outcome.value,
            note=outcome.note,
        )

    def _check_horizon(self, instrument: str, horizon_ns: int) -> None:
        horizons = self._config.instruments[instrument].horizons_ns
        if horizon_ns not in horizons:
            _refuse(f"{instrument} has no ballots over {horizon_ns} ns; its horizons are {horizons}")

    def _check_name(self, name: str, what: str) -> None:
        # A look-alike letter or a blank would let a stranger pass for someone else on a screen.
        if not (name.isascii() and name.isprintable() and " " not in name and name):
            _refuse(f"{what} must be printable ASCII without blanks")


def _refuse(detail: str) -> None:
    raise BadRecord(DeadLetterReason.INVALID_VALUE, detail)


def _gives_direction(vote: IngestVote) -> bool:
    given = [value for value in (vote.p_down, vote.p_flat, vote.p_up) if value is not None]
    if not given:
        return False
    if len(given) < 3:
        _refuse("three probabilities are needed, or none to abstain")
    if not all(map(math.isfinite, given)):
        raise BadRecord(DeadLetterReason.NOT_FINITE, "a probability is not finite")
    if not all(0.0 <= value <= 1.0 for value in given):
        _refuse("a probability lies outside [0, 1]")
    if abs(math.fsum(given) - 1.0) > _SUM_TOLERANCE:
        _refuse(f"the probabilities sum to {math.fsum(given)!r}, not 1")
    return True


def _sound(event: Event, flaw: str | None) -> Event:
    if flaw is not None:
        _refuse(flaw)
    return event


def _trade(envelope: IngressEnvelope, record: IngestTrade) -> Event:
    trade = Trade(
        key=record.instrument,
        event_time_ns=record.event_time_ns,
        available_at_ns=envelope.available_at_ns,
        trade_id=record.trade_id,
        price=record.price,
        quantity=record.quantity,
        aggressor=record.aggressor,
    )
    return _sound(trade, flaw_of_trade(trade))


def _quote(envelope: IngressEnvelope, record: IngestQuote) -> Event:
    quote = Quote(
        key=record.instrument,
        event_time_ns=record.event_time_ns,
        available_at_ns=envelope.available_at_ns,
        bid_price=record.bid_price,
        bid_quantity=record.bid_quantity,
        ask_price=record.ask_price,
        ask_quantity=record.ask_quantity,
    )
    return _sound(quote, flaw_of_quote(quote))


def _depth(envelope: IngressEnvelope, record: IngestDepth) -> Event:
    if record.snapshot:
        book = BookSnapshot(
            key=record.instrument,
            event_time_ns=record.event_time_ns,
            available_at_ns=envelope.available_at_ns,
            update_id=record.last_update_id,
            bid_prices=record.bid_prices,
            bid_quantities=record.bid_quantities,
            ask_prices=record.ask_prices,
            ask_quantities=record.ask_quantities,
        )
        return _sound(book, flaw_of_snapshot(book))
    update = DepthUpdate(
        key=record.instrument,
        event_time_ns=record.event_time_ns,
        available_at_ns=envelope.available_at_ns,
        first_update_id=record.first_update_id,
        last_update_id=record.last_update_id,
        bid_prices=record.bid_prices,
        bid_quantities=record.bid_quantities,
        ask_prices=record.ask_prices,
        ask_quantities=record.ask_quantities,
    )
    return _sound(update, flaw_of_update(update))
