"""The training environment: the same stages, the same decisions and the same money as anywhere else."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import environments
import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.decider.encoding import MAX_VOTES
from agents.decider.policy import TARGETS, Observation, PolicyAnswer, PolicyContext
from agents.pipeline import Pipeline
from agents.reward.experience import Standing, rewarded
from agents.reward.shaping import RewardTerms
from agents.sim.desk import Session
from agents.sim.env import EnvironmentTerms, ImpactEnvironment, TradingEnvironment
from agents.sim.loopback import Loopback
from agents.sim.replay_engine import ReplayEngine
from agents.sim.tape import Tape, encode_step
from agents.sim.venue import SimulatedVenue
from infra.settings import SettingsError
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event
from schemas.feedback import Experience, TradeFeedback
from schemas.opinions import AlertLevel, AnomalyAlert, TallyEntry
from schemas.orders import AccountMark, Fill, OrderEvent, Position
from streams.offline.tapes import build_tape, impact_terms

COMPARED = (Decision, OrderApproved, OrderDenied, OrderEvent, Fill, Position, AccountMark, TradeFeedback, Experience)


class Told:
    """A policy that wants, on each ballot, what a list says."""

    name = "told"

    def __init__(self, targets: Mapping[str, float]) -> None:
        self._targets = targets

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        return PolicyAnswer(self._targets[context.tally.ballot_id])


def actions(count: int, seed: int = 5) -> list[int]:
    """Return actions that change every few steps."""
    draws = np.random.default_rng(seed)
    return [int(action) for action in np.repeat(draws.integers(len(TARGETS), size=count), 3)[:count]]


def played(environment: Any, wanted: Iterable[int], **reset: Any) -> list[tuple[Any, ...]]:
    """Return (observation, reward, over, info) of each step of one episode."""
    environment.reset(**reset)
    found = []
    for action in wanted:
        seen, reward, terminated, truncated, info = environment.step(action)
        found.append((seen, reward, terminated or truncated, info))
    return found


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """Return whether two episodes are equal to the bit."""
    return all(
        first[1:] == second[1:] and all((first[0][key] == second[0][key]).all() for key in first[0])
        for first, second in zip(one, other, strict=True)
    )


@pytest.mark.slow
def test_gymnasiums_own_checker_finds_nothing() -> None:
    check_env(environments.environment(), skip_render_check=True)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_episode_and_another_seed_another() -> None:
    wanted = actions(30)
    one, other = environments.environment(dropout=0.4), environments.environment(seed=99, dropout=0.4)
    first = played(one, wanted, seed=11)
    assert same(first, played(other, wanted, seed=11))
    assert same(played(one, wanted), played(other, wanted))
    assert not same(first, played(one, wanted, seed=12))
    again = [played(environments.environment(seed=seed, dropout=0.4), wanted) for seed in (1, 1, 2)]
    assert same(again[0], again[1])
    assert not same(again[0], again[2])


@pytest.mark.slow
def test_the_rewards_money_is_the_ledgers_to_the_last_digit() -> None:
    environment = environments.environment(steps=None)
    told: list[Event] = []
    environment.observe = told.append
    wanted = actions(len(environments.short_tape()) - 1)
    environment.reset(options={"tape": 0, "start": 0})
    begin = environment.session.equity
    infos = [environment.step(action)[4] for action in wanted]
    net = sum((info["pnl"] - info["fees"] - info["slippage"] for info in infos), Decimal(0))
    assert net == environment.session.equity - begin
    assert net != 0
    assert sum(info["fees"] for info in infos) == sum(event.fee for event in told if isinstance(event, Fill)) > 0
    assert sum(info["net_return"] for info in infos) == pytest.approx(float(net / environment.session.desk.budget))


@pytest.mark.slow
def test_rewards_are_those_of_the_experiences_and_moments_those_that_the_policy_saw() -> None:
    environment = environments.environment()
    told: list[Event] = []
    environment.observe = told.append
    steps = played(environment, actions(40), seed=4)
    standing, terms, rewards = Standing(), RewardTerms(), []
    experiences = [event for event in told if isinstance(event, Experience)]
    for experience in experiences:
        assert experience.observation["moment.mean"] == pytest.approx(standing.moments.mean, abs=1e-12)
        assert experience.observation["moment.square"] == pytest.approx(standing.moments.square, abs=1e-12)
        standing, reward = rewarded(standing, experience, environment.session.desk.budget, terms)
        rewards.append(reward)
    assert rewards == [reward for _, reward, _, _ in steps]
    assert len({round(reward, 9) for reward in rewards}) > 5
    assert [step[2] for step in steps] == [False] * 39 + [True]


@pytest.mark.slow
def test_an_episode_decides_what_the_same_stages_in_a_pipeline_decide() -> None:
    environment = environments.environment(steps=None)
    told: list[Event] = []
    environment.observe = told.append
    tape = environments.short_tape()
    wanted = actions(len(tape) - 1)
    played(environment, wanted, options={"tape": 0, "start": 0})
    plain = in_a_pipeline(tape, wanted)
    for kind in COMPARED:
        mine = [msgspec.json.encode(event) for event in told if type(event) is kind]
        theirs = [msgspec.json.encode(event) for event in plain if type(event) is kind]
        assert mine == theirs[: len(mine)]
        assert len(theirs) - len(mine) <= 1  # The pipeline also decides on the tally at which the episode is over.
    assert {type(event) for event in told} >= {Decision, OrderApproved, Fill, Experience}


def in_a_pipeline(tape: Tape, wanted: list[int]) -> list[Event]:
    """Return all that the stages of the money tell when they are given a tape as topics would give it to them."""
    told: list[Event] = []
    targets = {tally.ballot_id: TARGETS[action] for tally, action in zip(tape.tallies, [*wanted, 2], strict=True)}
    venue = Loopback(SimulatedVenue(tape.desk.venue, ReplayEngine(tape.desk.fill_max, tape.desk.slippage)))
    stages = (tape.desk.decider(Told(targets)), *tape.desk.stages)
    pipeline = Pipeline(stages, perform=venue.perform, observe=told.append)
    for index in range(len(tape)):
        step = tape.step(index)
        for shown in tape.step(index - 1).later if index else ():
            venue.on_market(shown)
        for report in venue.advance(step.tally.grid_time_ns):
            pipeline.feed("execution", report)
        assert step.book is not None
        venue.on_market(step.book)
        for event in (*step.alerts, *step.marks, step.tally):
            pipeline.publish(event)
    return told


@pytest.mark.slow
def test_being_asked_changes_nothing_of_the_decider() -> None:
    tape = environments.short_tape()
    session = Session(tape.desk, ReplayEngine(tape.desk.fill_max, tape.desk.slippage))
    for index in range(40):
        step = tape.step(index)
        session.pass_time(step.tally.grid_time_ns)
        assert step.book is not None
        session.display(step.book)
        for mark in step.marks:
            session.publish(mark)
        before = msgspec.json.encode(session.state("decider"))
        seen = session.consider(step.tally)
        assert session.consider(step.tally) == seen
        assert msgspec.json.encode(session.state("decider")) == before
        assert session.decide((-1.0, 1.0)[index // 4 % 2]).observation == seen
        assert msgspec.json.encode(session.state("decider")) != before


@pytest.mark.slow
def test_experts_are_away_at_random_and_one_always_stays() -> None:
    environment = environments.environment(dropout=0.9, steps=20)
    counts = set()
    for seed in range(6):
        seen, info = environment.reset(seed=seed, options={"tape": 0, "start": 38})
        whole = (
            environments.environment(steps=20).reset(seed=seed, options={"tape": 0, "start": 38})[0]["present"].sum()
        )
        assert 1 <= seen["present"].sum() == whole - len(info["away"])
        counts.add(float(seen["present"].sum()))
    assert len(counts) > 1


class Bull:
    """A voter that says the same at every second step."""

    def entry(self, tape: Any, index: int) -> TallyEntry | None:
        entry = next(entry for entry in tape.tallies[index].entries)
        said = {"p_down": 0.05, "p_flat": 0.05, "p_up": 0.9, "expert": "bull", "weight": 0.4, "abstained": None}
        meant = {"calibrated_down": 0.05, "calibrated_flat": 0.05, "calibrated_up": 0.9}
        return msgspec.structs.replace(entry, **said, **meant) if index % 2 else None


@pytest.mark.slow
def test_a_voter_sits_with_the_committee_when_it_has_something_to_say() -> None:
    options = {"tape": 0, "start": 38}
    alone = played(environments.environment(steps=20), [2] * 10, seed=1, options=options)
    joined = played(environments.environment(steps=20, voters=(Bull(),)), [2] * 10, seed=1, options=options)
    more = [int(b[0]["present"].sum() - a[0]["present"].sum()) for a, b in zip(alone, joined, strict=True)]
    assert more == [1, 0] * 5
    assert joined[0][0]["context"].tolist() != alone[0][0]["context"].tolist()


def alarmed(tape: Tape, levels: Mapping[int, AlertLevel]) -> Tape:
    """Return the tape with an alert at each of these steps, and no other."""
    steps = []
    for index in range(len(tape)):
        step = tape.step(index)
        said = {"key": step.tally.key, "event_time_ns": step.tally.grid_time_ns, "kind": "test", "score": 1.0}
        told = [
            AnomalyAlert(available_at_ns=step.tally.grid_time_ns, level=level, **said)
            for at, level in levels.items()
            if at == index
        ]
        steps.append(encode_step(msgspec.structs.replace(step, alerts=tuple(told))))
    return Tape(tape.desk, steps)


@pytest.mark.slow
def test_a_stretch_that_begins_amid_an_alert_is_told_of_it() -> None:
    levels = {10: AlertLevel.HIGH, 12: AlertLevel.ELEVATED, 40: AlertLevel.NORMAL}
    found = {}
    tape = alarmed(environments.short_tape(), levels)
    environment = TradingEnvironment([tape], EnvironmentTerms(episode_steps=3), 1)
    for start in (5, 11, 20, 41):
        environment.reset(options={"start": start})
        infos = [environment.step(4)[4] for _ in range(2)]
        found[start] = [info["target"] for info in infos]
    assert found == {5: [1.0, 1.0], 11: [0.0, 0.0], 20: [0.0, 0.0], 41: [1.0, 1.0]}


@pytest.mark.slow
def test_an_episode_that_cannot_be_is_refused() -> None:
    tape = environments.short_tape()
    with pytest.raises(ValueError, match="needs a tape"):
        TradingEnvironment([tape], EnvironmentTerms(episode_steps=len(tape)), 1)
    with pytest.raises(ValueError, match="dropout"):
        EnvironmentTerms(dropout=1.0)
    environment = environments.environment()
    with pytest.raises(ValueError, match="steps from"):
        environment.reset(options={"tape": 0, "start": len(tape) - 3})


@pytest.mark.slow
def test_on_the_full_exchange_size_moves_the_price() -> None:
    def cost_of(budget: str) -> float:
        run = environments.composed(**{"strategies.committee.risk_budget": budget, "limits.global": LOOSE})
        terms = EnvironmentTerms(episode_steps=12)
        environment = ImpactEnvironment(replace(impact_terms(run), warm_up_steps=3), terms, 1)
        infos = [info for *_, info in played(environment, [4, 4, 0, 0] * 3, seed=2)]
        traded = 1 + 2 * 5
        return float(sum(info["slippage"] for info in infos) / environment.session.desk.budget) / traded

    small, large = cost_of("0.01"), cost_of("0.5")
    assert 0 < small < large


LOOSE = {"order_value_max": 10**7, "position_value_max": 10**7, "gross_exposure_max": 10**7, "net_exposure_max": 10**7}


@pytest.mark.slow
def test_the_full_exchange_follows_its_seed_and_takes_no_voters_of_a_tape() -> None:
    terms = replace(impact_terms(environments.composed()), warm_up_steps=3)
    environment = ImpactEnvironment(terms, EnvironmentTerms(episode_steps=8), 1)
    first = played(environment, actions(8), seed=2)
    assert same(first, played(environment, actions(8), seed=2))
    assert not same(first, played(environment, actions(8), seed=3))
    with pytest.raises(ValueError, match="none but its own experts"):
        ImpactEnvironment(terms, EnvironmentTerms(voters=(Bull(),)), 1)


@pytest.mark.slow
def test_padding_has_room_for_every_expert_of_ours() -> None:
    names = {entry.expert for entry in environments.short_tape().tallies[0].entries}
    assert len(names) <= MAX_VOTES


def test_only_the_simulated_market_is_moved() -> None:
    run = environments.composed()
    live = run.settings.model_copy(update={"feed": run.settings.feed.model_copy(update={"kind": "binance"})})
    with pytest.raises(SettingsError, match="only the simulated market"):
        impact_terms(replace(run, settings=live))
    with pytest.raises(SettingsError, match="no strategy"):
        build_tape(run, 1.0, strategy="nobody")
