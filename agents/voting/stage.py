"""The stage ``voting``: ballots opened by snapshots, answered by votes, pooled under weights that learn from scores.

It reads two topics whose order means nothing to each other. Each carries Heartbeats whose ``key`` says which topic
they keep time on (``feature.snapshot`` or ``expert.vote``); *now* is the lower of the two, so a ballot closes only
when neither topic can still bring something that was in time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from agents.stage import NO_EVENTS, ShardState
from agents.voting.ballot import (
    BallotConfig,
    Committee,
    OpenBallot,
    Sheet,
    answer_of,
    close_due,
    has_due,
    open_ballot,
    sheet_of,
    take_answer,
    unexpired_answers,
)
from agents.voting.calibration import CalibrationConfig, take_outcome
from agents.voting.pool import PoolConfig
from agents.voting.tally import Closing, Tallying, let_in, tally
from agents.voting.weights import Weights, WeightsConfig, learn
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.event import Event, Heartbeat, derive_id
from schemas.feedback import ExpertScore
from schemas.market import InstrumentDefined
from schemas.opinions import BallotRequest, FeatureSnapshot, Vote, VoteTally

_CLOCK: Final = "clock"
_STRAYS: Final = "strays"
_SUM_TOLERANCE: Final = 1e-3


class Clock(msgspec.Struct):
    """The newest Heartbeat (``available_at_ns``) of each topic, and the *now* that follows from them."""

    snapshot_ns: int = 0
    vote_ns: int = 0

    @property
    def now_ns(self) -> int:
        """The lower of the two: what neither topic can still fall behind of."""
        return min(self.snapshot_ns, self.vote_ns)


class Strays(msgspec.Struct):
    """How many votes were on a horizon or an instrument that has no ballots."""

    votes: int = 0


@dataclass(frozen=True)
class VotingConfig:
    """The instruments whose ballots are held, and the settings of ballots, pool, weights and calibrators."""

    instruments: Mapping[str, InstrumentDefined]
    ballots: BallotConfig = field(default_factory=BallotConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


class Voting:
    """Emits one VoteTally per ballot and per request.

    State: ``clock``; ``strays``; per instrument ``<instrument>/sheet``; per instrument and horizon (ns)
    ``<instrument>/<horizon>/ballots`` and ``<instrument>/<horizon>/weights``.
    """

    name = "voting"

    def __init__(self, config: VotingConfig) -> None:
        self._config = config
        self._tallying = Tallying(config.pool, config.weights, config.calibration)
        self._served = {
            (name, horizon_ns): f"{name}/{horizon_ns}"
            for name, instrument in config.instruments.items()
            for horizon_ns in instrument.horizons_ns
        }
        self._handlers: dict[type[Event], Callable[[ShardState, Any], Sequence[Event]]] = {
            FeatureSnapshot: self._on_snapshot,
            Vote: self._on_vote,
            ExpertScore: self._on_score,
            Heartbeat: self._on_heartbeat,
            BallotRequest: self._on_request,
        }

    def state_type(self, key: str) -> type:
        """Return the Struct kept under ``key``. Raises KeyError for a key that is not this stage's."""
        if key in (_CLOCK, _STRAYS):
            return Clock if key == _CLOCK else Strays
        return {"sheet": Sheet, "ballots": Committee, "weights": Weights}[key.rpartition("/")[2]]

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event of its four topics. Raises BadRecord for a vote that is no probability."""
        handler = self._handlers.get(type(event))
        return state, NO_EVENTS if handler is None else handler(state, event)

    def _on_snapshot(self, state: ShardState, snapshot: FeatureSnapshot) -> Sequence[Event]:
        sheet = sheet_of(snapshot)
        state[f"{snapshot.key}/sheet"] = sheet
        now_ns = _now_ns(state)
        tallies: list[Event] = []
        for question in snapshot.questions:
            prefix = self._served[snapshot.key, question.horizon_ns]
            committee = _committee(state, prefix)
            closed = open_ballot(self._config.ballots, committee, sheet, question)
            if sheet.deadline_ns <= now_ns:
                # Too late already, as after a re-run: nothing that was in time can still come.
                closed += close_due(self._config.ballots, committee, now_ns)
            state[f"{prefix}/ballots"] = committee
            tallies += self._tallies(state, prefix, closed)
        return tallies

    def _on_vote(self, state: ShardState, vote: Vote) -> Sequence[Event]:
        _check(vote)
        prefix = self._served.get((vote.key, vote.horizon_ns))
        if prefix is None:
            # A foreign expert may name any horizon; a dead letter here would let it stop the line.
            strays: Strays = state.get(_STRAYS) or Strays()
            strays.votes += 1
            state[_STRAYS] = strays
            return NO_EVENTS
        committee = _committee(state, prefix)
        answer = answer_of(self._config.ballots, vote)
        closed = take_answer(self._config.ballots, committee, vote.ballot_id, answer)
        state[f"{prefix}/ballots"] = committee
        return self._tallies(state, prefix, closed)

    def _on_score(self, state: ShardState, score: ExpertScore) -> Sequence[Event]:
        """Charge the vote's expert, then teach its calibrator, which so read no vote by the vote's own outcome."""
        key = f"{self._served[score.key, score.horizon_ns]}/weights"
        weights = state.get(key) or Weights()
        delay = score.horizon_ns // self._config.instruments[score.key].grid_ns
        counted = learn(self._config.weights, weights, score, delay)
        if counted and score.p_down is not None and score.p_flat is not None and score.p_up is not None:
            said = (score.p_down, score.p_flat, score.p_up)
            calibrator = weights.standings[score.expert].calibrator
            take_outcome(self._config.calibration, calibrator, said, score.outcome, overlap=delay)
        state[key] = weights
        return NO_EVENTS

    def _on_heartbeat(self, state: ShardState, heartbeat: Heartbeat) -> Sequence[Event]:
        clock = state.get(_CLOCK) or Clock()
        before_ns = clock.now_ns
        if heartbeat.key == "feature.snapshot":
            clock.snapshot_ns = max(clock.snapshot_ns, heartbeat.available_at_ns)
        elif heartbeat.key == "expert.vote":
            clock.vote_ns = max(clock.vote_ns, heartbeat.available_at_ns)
        else:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, f"a Heartbeat of {heartbeat.key} keeps no time here")
        state[_CLOCK] = clock
        now_ns = clock.now_ns
        if now_ns == before_ns:
            return NO_EVENTS
        tallies: list[Event] = []
        for prefix in self._served.values():
            committee = state.get(f"{prefix}/ballots")
            if committee is not None and has_due(self._config.ballots, committee, now_ns):
                closed = close_due(self._config.ballots, committee, now_ns)
                state[f"{prefix}/ballots"] = committee
                tallies += self._tallies(state, prefix, closed)
        return tallies

    def _on_request(self, state: ShardState, request: BallotRequest) -> Sequence[Event]:
        """Answer from the newest votes that still hold; with none, or no such ballots, say so by an empty tally."""
        if request.key not in self._config.instruments:
            raise BadRecord(DeadLetterReason.INSTRUMENT_REFUSED, f"no ballots are held on {request.key}")
        now_ns = _now_ns(state)
        prefix = self._served.get((request.key, request.horizon_ns))
        committee = Committee() if prefix is None else _committee(state, prefix)
        sheet = state.get(f"{request.key}/sheet") or _no_sheet(request)
        closing = Closing(
            instrument=request.key,
            ballot_id=derive_id(request.event_id, self.name, 0),
            horizon_ns=request.horizon_ns,
            flat_band=committee.flat_band,
            closed_by="REQUEST",
            closed_at_ns=now_ns,
            advice_for=request.strategy,
            request_id=request.request_id,
        )
        answers = unexpired_answers(self._config.ballots, committee, now_ns)
        weights = Weights() if prefix is None else state.get(f"{prefix}/weights") or Weights()
        if let_in(self._tallying, weights, answers):
            state[f"{prefix}/weights"] = weights
        return [tally(self._tallying, closing, sheet, answers, weights)]

    def _tallies(self, state: ShardState, prefix: str, closed: list[OpenBallot]) -> Sequence[VoteTally]:
        if not closed:
            return ()
        instrument, _, horizon = prefix.rpartition("/")
        weights = state.get(f"{prefix}/weights") or Weights()
        tallies = []
        for ballot in closed:
            if let_in(self._tallying, weights, ballot.answers):
                state[f"{prefix}/weights"] = weights
            closing = Closing(
                instrument=instrument,
                ballot_id=ballot.ballot_id,
                horizon_ns=int(horizon),
                flat_band=ballot.flat_band,
                closed_by=ballot.closed_by,
                closed_at_ns=_now_ns(state),
                late=tuple(ballot.awaiting),
            )
            tallies.append(tally(self._tallying, closing, ballot.sheet, ballot.answers, weights))
        return tallies


def _now_ns(state: ShardState) -> int:
    clock: Clock | None = state.get(_CLOCK)
    return 0 if clock is None else clock.now_ns


def _committee(state: ShardState, prefix: str) -> Committee:
    committee: Committee | None = state.get(f"{prefix}/ballots")
    return Committee() if committee is None else committee


def _no_sheet(request: BallotRequest) -> Sheet:
    return Sheet(
        snapshot_id="",
        grid_time_ns=0,
        deadline_ns=0,
        event_time_ns=request.event_time_ns,
        available_at_ns=0,
        mid=None,
        volatility=None,
        spread=None,
    )


def _check(vote: Vote) -> None:
    given = (vote.p_down, vote.p_flat, vote.p_up)
    said = [value for value in given if value is not None]
    if not said and vote.abstained is not None:
        return
    # Written so that a NaN, for which no comparison holds, is refused too.
    sound = len(said) == len(given) and vote.abstained is None and min(said) >= 0
    if not (sound and abs(sum(said) - 1) <= _SUM_TOLERANCE):
        raise BadRecord(DeadLetterReason.INVALID_VALUE, f"{vote.expert} votes {given}, which is no answer")
