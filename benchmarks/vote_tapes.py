"""Ballots of a whole run in this process, and the committee's pool made anew from them under other rules.

A capture or the simulated market is taken through every stage; tallies and scores are put together as the record of a
live run would have them. What the weights would have done under other bounds is then computed by the voting stage's own
functions, each loss as late as it was.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from agents.feedback.regret import best_fixed
from agents.feedback.scoring import PROBABILITY_FLOOR, Forecast, log_loss
from agents.voting.pool import PoolConfig, bounded_weights, pooled
from agents.voting.weights import Weights, WeightsConfig, join, learn, weights_of
from benchmarks.vote_games import score_of
from infra.settings import load_settings
from schemas.event import Event
from schemas.feedback import ExpertScore
from schemas.opinions import VoteTally
from schemas.values import NS_PER_S
from streams.composition import compose
from streams.demo.plan import DemoPlan
from streams.expert_record import Said, ScoredBallot, experts_of, losses_of, scored_ballot
from streams.offline.backtest import backtest

SETTINGS: Final = Path(__file__).resolve().parents[1] / "tradermind.toml"


@dataclass(frozen=True, slots=True)
class Series:
    """The scored ballots of one (instrument, horizon) in the order of their time."""

    instrument: str
    horizon_ns: int
    grid_ns: int
    taker_fee_rate: float
    ballots: list[ScoredBallot]

    @property
    def name(self) -> str:
        """The instrument and its horizon in seconds."""
        return f"{self.instrument} {self.horizon_ns / NS_PER_S:g} s"

    @property
    def delay(self) -> int:
        """Of how many ballots the outcome is unknown when one is tallied."""
        return self.horizon_ns // self.grid_ns


def series_of(
    feed: str, seconds: float = 60.0, seed: int = 7, observe: Callable[[Event], None] | None = None
) -> list[Series]:
    """Run every stage over a capture's path, or so long over the simulated market, and return what was scored.

    ``observe`` sees every event of the run.
    """
    plan = DemoPlan(directory=Path(".run"), feed=feed, policy="null", seed=seed)
    run = compose(load_settings(SETTINGS, plan.overrides(), environment={}))
    events: list[Event] = []
    backtest(run, seconds=seconds, observe=lambda event: _keep(events, event, observe))
    found = ballots_of(events)
    return [
        Series(name, horizon_ns, item.grid_ns, float(item.taker_fee_rate), ballots)
        for (name, horizon_ns), ballots in sorted(found.items())
        if (item := run.instruments[name])
    ]


def _keep(events: list[Event], event: Event, observe: Callable[[Event], None] | None) -> None:
    if observe is not None:
        observe(event)
    if isinstance(event, VoteTally | ExpertScore):
        events.append(event)


def ballots_of(events: Iterable[Event]) -> dict[tuple[str, int], list[ScoredBallot]]:
    """Return the scored ballots by (instrument, horizon)."""
    events = list(events)
    ends = {event.ballot_id: event for event in events if isinstance(event, ExpertScore)}
    found: dict[tuple[str, int], list[ScoredBallot]] = {}
    for event in events:
        if not isinstance(event, VoteTally) or event.advice_for is not None or event.ballot_id not in ends:
            continue
        end = ends[event.ballot_id]
        came = {"outcome": end.outcome, "base_loss": end.base_loss, "pool_loss": end.pool_loss}
        ballot = scored_ballot(msgspec.to_builtins(event) | came)
        if ballot is not None:
            found.setdefault((event.key, event.horizon_ns), []).append(ballot)
    return found


def repooled(
    series: Series, bounds: PoolConfig | None, text_fed: Sequence[str] = (), config: WeightsConfig | None = None
) -> float:
    """Return the pool's mean log-loss in nats under these bounds (None: the raw weights), learning as it goes.

    Votes are those that were pooled; ballots on which nobody gave a direction are left out.
    """
    losses = [loss for forecast, loss in answers(series, bounds, text_fed, config=config) if forecast is not None]
    return sum(losses) / len(losses) * -math.log(PROBABILITY_FLOOR) if losses else math.nan


def answers(
    series: Series,
    bounds: PoolConfig | None,
    text_fed: Sequence[str] = (),
    *,
    config: WeightsConfig | None = None,
    left_out: str | None = None,
) -> Iterator[tuple[Forecast | None, float]]:
    """Yield the pool's answer to each ballot and its scaled loss; without a vote None, and the base rate's loss.

    ``left_out`` is an expert that has never been there.
    """
    config = config or WeightsConfig()
    plain = PoolConfig()
    weights, told = Weights(), list[tuple[ScoredBallot, float]]()
    for number, ballot in enumerate(series.ballots):
        entries = {name: said for name, said in sorted(ballot.entries.items()) if name != left_out}
        votes = {name: said.meant for name, said in entries.items() if said.meant is not None}
        forecast, loss = None, ballot.base_loss
        if votes:
            for name in votes:
                join(config, weights, name)
            raw = weights_of(config, weights, list(votes))
            shares = raw if bounds is None else bounded_weights(bounds, raw, [name in text_fed for name in votes])
            forecast = pooled(plain, list(votes.values()), shares)
            loss = log_loss(forecast, ballot.outcome, PROBABILITY_FLOOR)
        yield forecast, loss
        told.append((replace(ballot, entries=entries), loss))
        if number >= series.delay:
            _charge(config, weights, number - series.delay, told[number - series.delay], series.delay)


def _charge(config: WeightsConfig, weights: Weights, number: int, told: tuple[ScoredBallot, float], delay: int) -> None:
    ballot, pool_loss = told
    for name, said in ballot.entries.items():
        loss = None if said.meant is None else log_loss(said.meant, ballot.outcome, PROBABILITY_FLOOR)
        learn(config, weights, score_of(number, name, loss, pool_loss), delay)


def with_a_fool(series: Series) -> Series:
    """Return the same with one more expert, who is sure each time of what does not happen: where floors cost most."""
    sure = {-1: (0.01, 0.98, 0.01), 0: (0.01, 0.01, 0.98), 1: (0.98, 0.01, 0.01)}
    ballots = [
        replace(ballot, entries=ballot.entries | {"fool": Said(sure[ballot.outcome], sure[ballot.outcome])})
        for ballot in series.ballots
    ]
    return replace(series, instrument=f"{series.instrument} and a fool", ballots=ballots)


def cost_of_bounds(series: Series) -> dict[str, float]:
    """Return the mean log-loss in nats by rule: raw weights, each bound alone, both, and the best expert text-fed."""
    experts = experts_of(series.ballots)
    best = experts[best_fixed(losses_of(series.ballots, experts)).first]
    return {
        "raw weights": repooled(series, None),
        "floor 0.01": repooled(series, PoolConfig(weight_cap=1.0)),
        "cap 0.4": repooled(series, PoolConfig(weight_floor=1e-9)),
        "floor and cap": repooled(series, PoolConfig()),
        "and best text-fed": repooled(series, PoolConfig(), (best,)),
    }
