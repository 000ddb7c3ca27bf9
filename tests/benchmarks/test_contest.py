"""Contestants followed as the decider asks them, and what is said of their days."""

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from agents.decider.baseline import BaselinePolicy
from agents.decider.null import NullPolicy
from agents.decider.policy import TARGETS, Observation, Policy, PolicyAnswer, PolicyContext
from agents.sim.env import EnvironmentTerms, TradingEnvironment
from agents.sim.tape import Tape
from agents.stage import Stage
from agents.statistics.intervals import Interval, day_block_interval
from benchmarks.comparators import BASELINE, BEST_EXPERT, EQUAL, Comparators
from benchmarks.contest import HEADER, NULL, Day, in_buckets, leads, standings, table_rows, verdicts
from benchmarks.following import CLOSING_STEPS, follow
from benchmarks.simulated import simulated_tape


@cache
def tape(seed: int = 7, seconds: float = 150.0) -> Tape:
    return simulated_tape("mixed", seed, seconds, fee=0.0)


@dataclass
class Written:
    """Wants what is written for it, step by step, and writes down what it was shown."""

    actions: list[int]
    name: str = "written"
    shown: list[tuple[Observation, PolicyContext]] = field(default_factory=list)

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        self.shown.append((observation, context))
        return PolicyAnswer(TARGETS[self.actions[context.ballots]])


@dataclass
class Overheard:
    """Passes questions on, and writes down what the real decider showed."""

    policy: Policy
    shown: list[tuple[Observation, PolicyContext]]

    @property
    def name(self) -> str:
        return self.policy.name

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        self.shown.append((observation, context))
        return self.policy.decide(observation, context)


@pytest.mark.slow(seconds=4)
def test_what_is_followed_earns_what_the_environment_says() -> None:
    steps = len(tape()) - 1
    actions = np.random.default_rng(3).integers(0, 5, steps).tolist()
    actions[-CLOSING_STEPS:] = [TARGETS.index(0.0)] * CLOSING_STEPS
    actions[0] = TARGETS.index(0.0)
    day = follow(tape(), Written(actions), "day")
    environment = TradingEnvironment([tape()], EnvironmentTerms(episode_steps=None), 1)
    environment.reset(options={"tape": 0, "start": 0})
    infos = [environment.step(action)[4] for action in actions]
    assert day.net_returns.tolist() == [info["net_return"] for info in infos]
    assert day.exposures.tolist() == [info["effective"] for info in infos]
    budget = float(tape().desk.budget)
    assert day.fees == pytest.approx(float(sum(info["fees"] for info in infos)) / budget)
    assert day.slippage == pytest.approx(float(sum(info["slippage"] for info in infos)) / budget)
    assert abs(day.net_bp) > 1
    assert day.exposures[-1] == 0, "flat at the end"


@pytest.mark.slow(seconds=4)
def test_a_policy_is_shown_what_the_decider_would_show_it() -> None:
    shown: list[tuple[Observation, PolicyContext]] = []

    def decider(policy: Policy) -> Stage:
        return tape().desk.decider(Overheard(policy, shown))

    overheard = Tape(replace(tape().desk, decider=decider), tape().kept)
    asked = Written(np.random.default_rng(3).integers(0, 5, len(tape())).tolist())
    follow(overheard, asked, "day")
    real = {context.tally.ballot_id: (seen, context) for seen, context in shown}
    compared = 0
    for seen, context in asked.shown:
        if context.tally.ballot_id not in real:
            continue
        told, true = real[context.tally.ballot_id]
        assert seen == told
        assert (context.target, context.mark, context.instrument) == (true.target, true.mark, true.instrument)
        assert context.costs is not None
        assert context.one_way_cost(1e-4) == true.one_way_cost(1e-4)
        compared += 1
    assert compared > 100


@pytest.mark.slow(seconds=5)
def test_rules_are_what_they_say() -> None:
    contest = Comparators({"first": tape(7), "second": tape(8)})
    rules, chosen = contest.rules("second", ["first"])
    assert list(rules) == [NULL, BASELINE, BEST_EXPERT, EQUAL]
    assert not rules[NULL].net_returns.any()
    assert rules[NULL].fees == 0
    assert rules[BASELINE].net_bp == follow(tape(8), BaselinePolicy(), "again").net_bp
    best = max(contest.experts(["first"]), key=lambda name: contest.alone("first", name).net_bp)
    assert chosen == best
    assert rules[BEST_EXPERT] is contest.alone("second", best)
    assert len({rules[name].net_bp for name in (NULL, BASELINE, BEST_EXPERT, EQUAL)}) > 2, "they differ"


def day(label: str, *returns: float, step_s: float = 300.0) -> Day:
    return Day(label, np.array(returns), np.sign(returns), 1e-4, 0.0, step_s)


def test_buckets_are_whole_stretches_of_a_day_and_lose_nothing() -> None:
    days = [day("a", 1e-4, 2e-4, 3e-4), day("b", 5e-4)]
    assert in_buckets(days) == pytest.approx([3e-4, 3e-4, 5e-4])
    assert sum(in_buckets(days, 1e9)) == pytest.approx(11e-4)


def test_standings_tell_intervals_and_deflate_by_trials() -> None:
    generator = np.random.default_rng(1)
    found = {
        NULL: [day(str(number), *np.zeros(40)) for number in range(4)],
        "good": [day(str(number), *generator.normal(2e-4, 1e-4, 40)) for number in range(4)],
        "poor": [day(str(number), *generator.normal(-1e-4, 1e-4, 40)) for number in range(4)],
    }
    rows = standings(found, trials=10)
    nets = [one.net_bp for one in found["good"]]
    assert rows["good"]["net_bp"] == pytest.approx(sum(nets))
    assert Interval(**rows["good"]["net_bp_a_day"]) == day_block_interval(nets)
    assert rows[NULL]["sharpe"] == 0
    assert rows["good"]["deflated_sharpe"] < rows["good"]["probabilistic_sharpe"]
    assert standings(found, trials=1)["good"]["deflated_sharpe"] == rows["good"]["probabilistic_sharpe"]
    assert rows["good"]["turnover"] == pytest.approx(sum(one["turnover"] for one in rows["good"]["days"]))
    assert all(len(row) == len(HEADER) for row in table_rows(rows))
    assert "4/4" in table_rows(rows)[1]


def test_verdicts_say_plainly_who_is_behind() -> None:
    found = {
        "mine": [day("a", 1e-4), day("b", 1.1e-4), day("c", 0.9e-4)],
        "worse": [day("a", -1e-4), day("b", -1e-4), day("c", -1e-4)],
        "better": [day("a", 9e-4), day("b", 9e-4), day("c", 9e-4)],
        "alike": [day("a", 3e-4), day("b", -2e-4), day("c", 2e-4)],
    }
    sentences = verdicts("mine", leads(found, "mine"))
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "mine is ahead of worse",
        "mine is BEHIND better",
        "mine cannot be told from alike",
    ]


def test_a_policy_that_wants_nothing_costs_nothing() -> None:
    assert math.fsum(abs(follow(tape(7, 30.0), NullPolicy(), "still").net_returns)) == 0
