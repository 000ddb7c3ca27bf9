"""The policies: the baseline moves only for more than it costs, the probe flips by the clock, the null one never."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import INSTRUMENTS, PERP, instrument, mark, tally

from agents.costs.estimate import CostEstimate
from agents.decider.allowed import ANY_TARGET
from agents.decider.baseline import MEAN_BEYOND_BAND, BaselinePolicy, moving_cost
from agents.decider.null import NullPolicy
from agents.decider.observation import Standing, observe
from agents.decider.policy import TARGETS, PolicyAnswer, PolicyContext
from agents.decider.probe import ProbePolicy
from agents.decider.state import InstrumentOutlook, LineState
from schemas.decisions import NoTradeReason
from schemas.values import NS_PER_S


def ask(policy: Any, up: float | None, down: float | None, target: float = 0.0, **changes: Any) -> PolicyAnswer:
    fee = changes.pop("taker_fee_rate", None)
    ballots = changes.pop("ballots", 0)
    said = tally(1, up=up, down=down, **changes)
    terms = INSTRUMENTS[PERP] if fee is None else instrument(taker_fee_rate=fee)
    standing = Standing(ANY_TARGET, CostEstimate(0.0, 0.0, 0.0, 0))
    line = LineState(target=target)
    seen = observe(said, InstrumentOutlook(mark=mark()), line, said.available_at_ns, standing)
    return policy.decide(seen, PolicyContext(said, mark(), terms, target, ballots))


LOUD = {"volatility": 0.005, "horizon_ns": 10 * NS_PER_S}


def test_the_constant_is_the_mean_of_a_normal_beyond_the_band() -> None:
    density = math.exp(-(0.43**2) / 2) / math.sqrt(2 * math.pi)
    tail = 0.5 * math.erfc(0.43 / math.sqrt(2))
    assert pytest.approx(density / tail, abs=0.005) == MEAN_BEYOND_BAND


def test_a_strong_edge_beyond_the_cost_is_taken_on_its_side() -> None:
    policy = BaselinePolicy(volatility_target=0.005)
    up, down = ask(policy, 0.7, 0.1, **LOUD), ask(policy, 0.1, 0.7, **LOUD)
    assert (up.target, down.target) == (1.0, -1.0)
    assert up.edge is not None
    assert up.cost is not None
    assert up.edge == pytest.approx(0.6 * MEAN_BEYOND_BAND * 0.005 * math.sqrt(10))
    assert up.cost == pytest.approx(0.0002 + 2 * 0.0004)


def test_an_edge_below_the_cost_is_left_alone() -> None:
    quiet = ask(BaselinePolicy(), 0.7, 0.1, volatility=0.0001)
    assert (quiet.target, quiet.reason) == (0.0, NoTradeReason.EDGE_BELOW_COST)
    assert quiet.edge is not None
    assert quiet.cost is not None
    assert 0 < quiet.edge < quiet.cost


def test_hysteresis_keeps_a_position_that_a_fresh_start_would_not_open() -> None:
    policy = BaselinePolicy(volatility_target=0.005)
    faint = {"up": 0.31, "down": 0.30}
    assert ask(policy, **faint, target=1.0, **LOUD).target == 1.0
    assert ask(policy, **faint, target=0.0, **LOUD).target == 0.0
    assert ask(policy, 0.1, 0.7, target=1.0, **LOUD).target == -1.0


def test_volatility_above_the_target_shrinks_the_position() -> None:
    policy = BaselinePolicy(volatility_target=0.005)
    loud = LOUD | {"volatility": 0.01}
    assert ask(policy, 0.7, 0.1, **loud).target == 0.5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"up": None, "down": None}, NoTradeReason.NO_DIRECTION),
        ({"up": 0.7, "down": 0.1, "volatility": None}, NoTradeReason.WARMING_UP),
        ({"up": 0.7, "down": 0.1, "volatility": 0.0}, NoTradeReason.WARMING_UP),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_done(arguments: dict[str, Any], reason: NoTradeReason) -> None:
    answer = ask(BaselinePolicy(), target=0.5, **arguments)
    assert (answer.target, answer.reason) == (0.5, reason)


@given(
    up=st.floats(0, 1),
    share=st.floats(0, 1),
    target=st.sampled_from(TARGETS),
    volatility=st.floats(1e-7, 0.05),
)
def test_the_baseline_never_pays_more_than_it_expects_to_gain(
    up: float, share: float, target: float, volatility: float
) -> None:
    answer = ask(BaselinePolicy(), up, (1 - up) * share, target, volatility=volatility)
    assert answer.target in TARGETS
    if answer.target != target:
        assert answer.edge is not None
        assert answer.cost is not None
        gain = (answer.target - target) * answer.edge
        assert gain > moving_cost(target, answer.target, answer.cost / 2)
        assert answer.reason is None
    else:
        assert answer.reason is not None


@pytest.mark.parametrize(
    ("current", "target", "ways"),
    [(0, 1, 2), (1, 0, 1), (1, -1, 3), (0.5, 1, 1), (1, 0.5, 0.5), (-1, -0.5, 0.5), (0.5, 0.5, 0)],
)
def test_opening_pays_both_ways_and_closing_one(current: float, target: float, ways: float) -> None:
    assert moving_cost(current, target, 1.0) == ways


def test_the_null_policy_keeps_what_is_in_force() -> None:
    assert ask(NullPolicy(), 0.9, 0.0, 0.5) == PolicyAnswer(0.5, NoTradeReason.NULL_POLICY)


def test_the_probe_flips_every_k_ballots_whatever_it_sees() -> None:
    target, targets = 0.0, []
    for ballots in range(9):
        target = ask(ProbePolicy(3, 0.5), None, None, target, ballots=ballots).target
        targets.append(target)
    assert targets == [0.5, 0.5, 0.5, -0.5, -0.5, -0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("arguments", [{"every": 0}, {"size": 0.0}, {"size": 1.5}])
def test_an_impossible_probe_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="A probe flips"):
        ProbePolicy(**arguments)
