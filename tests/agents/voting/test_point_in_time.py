"""Nothing that was tallied or scored depends on what came later: the future of a tape is cut, delayed and replaced.

Features, votes, tallies with their weights and calibrators, and scores are made anew under each future by the stages
themselves, and compared to the byte up to a second before the cut. An expert that looks ahead is put in as well, and
must be found, or the test would prove nothing.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec
import pytest

from agents.pipeline import Pipeline
from infra.settings import load_settings
from schemas.event import Event, Heartbeat, derive_id
from schemas.feedback import BallotVoided, ExpertScore
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade
from schemas.opinions import FeatureSnapshot, Vote, VoteTally
from schemas.values import NS_PER_S
from streams.composition import Run, build_stage, compose
from streams.offline.backtest import Backtest

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"
SECONDS, CUT_S = 45.0, 30
OF_THE_MARKET = (BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade)
COMPARED = (FeatureSnapshot, Vote, VoteTally, ExpertScore, BallotVoided)
INSTRUMENT = "SIM:BTCUSD"
LOOKS_AHEAD_NS = 5 * NS_PER_S


def composed(seed: int = 7) -> Run:
    return compose(load_settings(SETTINGS, {"run.seed": seed}, environment={}))


@cache
def tape(seed: int) -> tuple[Event, ...]:
    """Everything on ``market.event`` of some seconds of the simulated market."""
    events: list[Event] = []
    test = Backtest(composed(seed), events.append)
    for record in test.records(SECONDS):
        test.take(record)
    return tuple(event for event in events if isinstance(event, OF_THE_MARKET) or _is_beat(event))


def _is_beat(event: Event) -> bool:
    return isinstance(event, Heartbeat) and event.key not in ("feature.snapshot", "expert.vote")


def outputs(events: Iterable[Event], *, leak: bool = False) -> list[Event]:
    """What experts, voting and feedback say of a tape; with ``leak`` beside an expert that knows its future."""
    run, seen = composed(), list[Event]()
    stages = [build_stage(run, name) for name in ("experts", "voting", "feedback")]
    pipeline = Pipeline(stages, perform=lambda _: (), observe=seen.append)
    events = list(events)
    trades = [(event.available_at_ns, event.price) for event in events if isinstance(event, Trade)]
    answered = 0
    for event in events:
        pipeline.publish(event)
        for snapshot in [item for item in seen[answered:] if leak and isinstance(item, FeatureSnapshot)]:
            for vote in _knowing(snapshot, trades):
                pipeline.publish(vote)
        answered = len(seen)
    return [event for event in seen if isinstance(event, COMPARED)]


def _knowing(snapshot: FeatureSnapshot, trades: list[tuple[int, int]]) -> list[Vote]:
    """Answer by the last price until some seconds after the question."""
    known = [price for at_ns, price in trades if at_ns <= snapshot.grid_time_ns + LOOKS_AHEAD_NS]
    up = 0.8 if known and snapshot.mid is not None and known[-1] > snapshot.mid else 0.1
    return [
        Vote(
            key=snapshot.key,
            event_time_ns=snapshot.event_time_ns,
            available_at_ns=snapshot.available_at_ns,
            event_id=derive_id(question.ballot_id, "leak", 0),
            ballot_id=question.ballot_id,
            expert="leak",
            horizon_ns=question.horizon_ns,
            expires_at_ns=snapshot.available_at_ns,
            p_down=0.9 - up,
            p_flat=0.1,
            p_up=up,
        )
        for question in snapshot.questions
    ]


def begin_ns() -> int:
    return tape(7)[0].available_at_ns


def future(kind: str) -> list[Event]:
    """The tape with what comes after the cut gone, delayed, or that of another market."""
    cut_ns = begin_ns() + CUT_S * NS_PER_S
    past = [event for event in tape(7) if event.available_at_ns <= cut_ns]
    if kind == "cut":
        return past
    if kind == "another":
        return past + [event for event in tape(8) if event.available_at_ns > cut_ns]
    late_ns = 7 * NS_PER_S
    return past + [
        msgspec.structs.replace(
            event, event_time_ns=event.event_time_ns + late_ns, available_at_ns=event.available_at_ns + late_ns
        )
        for event in tape(7)
        if event.available_at_ns > cut_ns
    ]


def until_the_cut(events: list[Event]) -> dict[str, bytes]:
    end_ns = begin_ns() + (CUT_S - 1) * NS_PER_S
    return {
        f"{type(event).__name__} {event.event_id}": msgspec.msgpack.encode(event)
        for event in events
        if event.available_at_ns <= end_ns
    }


@cache
def as_it_was(leak: bool) -> dict[str, bytes]:
    return until_the_cut(outputs(tape(7), leak=leak))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "delayed", "another"])
def test_no_tally_and_no_score_of_the_past_changes_with_the_future(kind: str) -> None:
    before = as_it_was(leak=False)
    kinds = {name.split()[0] for name in before}
    assert kinds >= {"FeatureSnapshot", "Vote", "VoteTally", "ExpertScore"}
    after = until_the_cut(outputs(future(kind)))
    assert [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "delayed", "another"])
def test_an_expert_that_looks_ahead_is_found(kind: str) -> None:
    before, after = as_it_was(leak=True), until_the_cut(outputs(future(kind), leak=True))
    changed = {name.split()[0] for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert "VoteTally" in changed


@pytest.mark.slow
def test_a_score_is_of_a_ballot_tallied_before_and_a_horizon_that_is_over() -> None:
    events = outputs(tape(7))
    tallied = {event.ballot_id: event for event in events if isinstance(event, VoteTally)}
    scores = [event for event in events if isinstance(event, ExpertScore)]
    assert scores
    for score in scores:
        tally = tallied[score.ballot_id]
        assert score.available_at_ns >= tally.grid_time_ns + score.horizon_ns
        assert events.index(tally) < events.index(score)
