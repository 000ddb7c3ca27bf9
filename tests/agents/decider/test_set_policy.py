"""The learned policy: the formulas as written, blind to the order of votes, and never the cause of a wrong order."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import INSTRUMENTS, ONE, PERP, T0, approved, entry, mark, order_event, tally
from set_policies import constant, observation, raw_q, vote, votes, weights

from agents.costs.estimate import CostEstimate
from agents.decider.encoding import CONTEXT_FEATURES, VOTE_FEATURES, encode
from agents.decider.policy import TARGETS, PolicyContext
from agents.decider.set_policy import SetPolicy, tensor_shapes
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.stage import ShardState, run_step
from schemas.decisions import Decision, DecisionOutcome, NoTradeReason
from schemas.event import Event
from schemas.orders import OrderStatus
from schemas.values import NS_PER_S

POLICY = SetPolicy("test", weights(1))


def context(target: float = 0.0) -> PolicyContext:
    return PolicyContext(tally(1), mark(), INSTRUMENTS[PERP], target, 0, CostEstimate(0.0, 0.0004, 0.0, 0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [0, 1, 2, 5, 12, 40])
@pytest.mark.parametrize("widths", [((32, 32), (64, 64)), ((3, 5), (7, 4))])
def test_q_is_the_network_as_it_is_written_down(seed: int, count: int, widths: Any) -> None:
    tensors = weights(seed, *widths)
    encoded = encode(observation(votes(seed, count)))
    found = SetPolicy("test", tensors).q_values(encoded)
    assert (found.shape, found.dtype) == ((len(TARGETS),), np.float64)
    assert found == pytest.approx(raw_q(tensors, encoded.votes, encoded.context), abs=1e-9)


@given(st.integers(0, 2**32), st.integers(1, 16), st.randoms(use_true_random=False))
def test_the_order_of_the_votes_changes_no_q(seed: int, count: int, random: Any) -> None:
    told = list(enumerate(votes(seed, count)))
    before = POLICY.q_values(encode(observation([said for _, said in told], [f"expert_{name}" for name, _ in told])))
    random.shuffle(told)
    after = POLICY.q_values(encode(observation([said for _, said in told], [f"expert_{name}" for name, _ in told])))
    assert np.abs(after - before).max() <= 1e-6


@given(st.integers(0, 2**32), st.integers(0, 30))
def test_who_the_experts_are_changes_no_q(seed: int, count: int) -> None:
    told = votes(seed, count)
    others = [f"foreign.{place * 7}" for place in range(count)]
    before, after = (POLICY.q_values(encode(observation(told, names))) for names in (None, others))
    assert (after == before).all()


@given(st.integers(0, 2**32), st.integers(0, 30))
def test_any_number_of_experts_is_heard_without_a_change(seed: int, count: int) -> None:
    told = votes(seed, count + 1)
    fewer, more = (POLICY.decide(observation(said), context()) for said in (told[:-1], told))
    assert {fewer.target, more.target} <= set(TARGETS)
    assert NoTradeReason.POLICY_INVALID not in (fewer.reason, more.reason)


def test_each_vote_is_heard() -> None:
    told = votes(3, 8)
    whole = POLICY.q_values(encode(observation(told)))
    for place in range(len(told)):
        less = POLICY.q_values(encode(observation(told[:place] + told[place + 1 :])))
        assert np.abs(less - whole).max() > 1e-4


@pytest.mark.parametrize("place", range(len(TARGETS)))
def test_the_target_of_the_highest_q_is_wanted(place: int) -> None:
    values = [0.0, 0.1, 0.2, 0.1, 0.0]
    values[place] = 1.0
    found = SetPolicy("test", constant(values)).decide(observation([]), context(target=0.25))
    assert (found.target, found.reason, found.edge) == (TARGETS[place], None, None)
    assert found.cost == pytest.approx(2 * (0.0001 + 0.0004))


def test_what_is_in_force_already_is_unchanged() -> None:
    found = SetPolicy("test", constant([0, 0, 0, 1, 0])).decide(observation([]), context(target=0.5))
    assert (found.target, found.reason) == (0.5, NoTradeReason.TARGET_UNCHANGED)


@pytest.mark.parametrize(("target", "wanted"), [(1.0, 1.0), (-0.5, -0.5), (0.2, 0.0), (-0.9, -1.0)])
def test_of_equal_targets_the_nearest_is_wanted(target: float, wanted: float) -> None:
    found = SetPolicy("test", constant([1, 1, 1, 1, 1])).decide(observation([]), context(target=target))
    assert found.target == wanted


def test_no_word_of_costs_without_a_spread() -> None:
    assert POLICY.decide(observation([], spread_relative=None), context()).cost is None


@pytest.mark.parametrize("name", sorted(tensor_shapes()))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_weight_is_an_invalid_policy_that_keeps_the_target(name: str, bad: float) -> None:
    tensors = weights(1)
    tensors[name][(0,) * tensors[name].ndim] = bad
    found = SetPolicy("test", tensors).decide(observation(votes(1, 3)), context(target=-0.5))
    assert (found.target, found.reason) == (-0.5, NoTradeReason.POLICY_INVALID)


def test_a_scale_of_0_is_an_invalid_policy() -> None:
    tensors = weights(1)
    tensors["context.scale"][3] = 0.0
    found = SetPolicy("test", tensors).decide(observation(votes(1, 3)), context(target=1.0))
    assert (found.target, found.reason) == (1.0, NoTradeReason.POLICY_INVALID)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("name", ["volatility", "moment.square", "cost.fee", "vote.expert_1.skill", "spread_relative"])
def test_no_input_makes_it_invalid(name: str, bad: float) -> None:
    found = POLICY.decide(observation(votes(1, 3)) | {name: bad}, context())
    assert found.reason is not NoTradeReason.POLICY_INVALID
    assert found.target in TARGETS


def test_what_it_was_given_may_change_afterwards() -> None:
    tensors = weights(1)
    policy, seen = SetPolicy("test", tensors), encode(observation(votes(1, 3)))
    for tensor in tensors.values():
        tensor[:] = math.nan
    assert (policy.q_values(seen) == POLICY.q_values(seen)).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"head.weight": np.zeros((4, 64))}, r"head\.weight.*\(4, 64\), not \(5, 64\)"),
        ({"rho.0.weight": np.zeros((64, 64))}, r"rho\.0\.weight"),
        ({"extra": np.zeros(1)}, "'extra' is missing or too much"),
        ({"phi.0.bias": None}, r"phi\.0\.bias.*missing"),
        ({"votes.mean": None}, r"votes\.mean.*missing"),
        ({"phi.1.bias": np.float32(1)}, r"phi\.1\.weight"),
    ],
)
def test_other_tensors_are_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    tensors = {name: value for name, value in (weights(1) | changes).items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        SetPolicy("test", tensors)


def test_the_default_network_is_small() -> None:
    numbers = sum(math.prod(shape) for shape in tensor_shapes().values())
    assert numbers * 4 < 64 * 1024


def test_standardised_features_are_deviations_from_the_training() -> None:
    tensors = weights(2)
    seen = observation(votes(6, 4))
    encoded, found = encode(seen), SetPolicy("test", tensors).standardised(seen)
    votes_part, context_part = found[: len(VOTE_FEATURES)], found[len(VOTE_FEATURES) :]
    means = encoded.votes.astype(np.float64).mean(axis=0)
    assert votes_part == pytest.approx((means - tensors["votes.mean"]) / tensors["votes.scale"], abs=1e-4)
    wanted = (encoded.context - tensors["context.mean"]) / tensors["context.scale"]
    assert context_part == pytest.approx(wanted, abs=1e-4)
    silent = SetPolicy("test", tensors).standardised(observation([]))
    assert silent[: len(VOTE_FEATURES)] == (None,) * len(VOTE_FEATURES)
    assert len(silent) == len(VOTE_FEATURES) + len(CONTEXT_FEATURES)


class Bench:
    """One shard of the decider with a set policy."""

    def __init__(self, policy: SetPolicy, **changes: Any) -> None:
        strategies = (StrategyConfig("alpha", "main", (PERP,), NS_PER_S, policy),)
        self.stage = Decider(DeciderConfig(INSTRUMENTS, strategies, **changes))
        self.state = ShardState()

    def give(self, *events: Event) -> list[Any]:
        return [found for event in events for found in run_step(self.stage, self.state, event)[1]]

    def decide(self, second: int, **changes: Any) -> Decision:
        at_ns = T0 + second * NS_PER_S
        (found,) = self.give(mark(PERP, at_ns), tally(second, at_ns, **changes))
        assert isinstance(found, Decision)
        return found


def test_in_the_decider_a_bad_policy_keeps_what_is_in_force_and_asserts_nothing() -> None:
    bench = Bench(SetPolicy("test", constant([0, 0, 0, 0, 1])), retry_after_ns=NS_PER_S)
    first = bench.decide(0)
    assert (first.outcome, first.target) == (DecisionOutcome.TARGET, 1.0)
    bench.give(order_event(approved(decision_id=first.decision_id, quantity=ONE), OrderStatus.EXPIRED))
    bad = Bench(SetPolicy("test", constant([math.nan] * 5)), retry_after_ns=NS_PER_S)
    bad.state = bench.state
    found = bad.decide(60)
    assert (found.outcome, found.reason) == (DecisionOutcome.NO_TRADE, NoTradeReason.POLICY_INVALID)
    assert (found.target, found.previous_target) == (1.0, 1.0)
    assert bench.decide(61).outcome is DecisionOutcome.TARGET, "a sound policy asserts what did not come about"


def test_in_the_decider_an_expert_may_come_and_go() -> None:
    bench = Bench(POLICY)
    draws = np.random.default_rng(8)
    for second, count in enumerate((1, 3, 0, 14, 2)):
        said = tuple(_entry(f"expert_{place}", draws) for place in range(count))
        assert bench.decide(second, entries=said).reason is not NoTradeReason.POLICY_INVALID


def _entry(name: str, draws: np.random.Generator) -> Any:
    down, up = vote(draws)[:2]
    return entry(name, up, down)
