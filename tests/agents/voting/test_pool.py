"""The pool is a probability, bounded in what one voter can do to it, and never worse than its voters' mean."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agents.voting.pool import PoolConfig, Probabilities, bounded_weights, disagreement, pooled

CONFIG = PoolConfig()
UNIT = st.floats(0.001, 1.0)


@st.composite
def opinions(draw: st.DrawFn) -> Probabilities:
    down, flat, up = draw(st.tuples(UNIT, UNIT, UNIT))
    total = down + flat + up
    return (down / total, flat / total, up / total)


VOTES = st.lists(opinions(), min_size=1, max_size=12)


@st.composite
def voters(draw: st.DrawFn) -> tuple[list[Probabilities], list[float], list[bool]]:
    votes = draw(VOTES)
    raw = draw(st.lists(st.floats(0, 1), min_size=len(votes), max_size=len(votes)))
    text = draw(st.lists(st.booleans(), min_size=len(votes), max_size=len(votes)))
    assume(sum(raw) > 1e-6)
    return votes, raw, text


@given(voters())
def test_weights_are_bounded(case: tuple[list[Probabilities], list[float], list[bool]]) -> None:
    _, raw, text = case
    weights = bounded_weights(CONFIG, raw, text)
    assert all(0 < weight <= CONFIG.weight_cap + 1e-12 for weight in weights)
    assert sum(weight for weight, fed in zip(weights, text, strict=True) if fed) <= CONFIG.text_cap + 1e-12
    assert sum(weights) <= 1 + 1e-9
    own = sum(not fed for fed in text)
    if own * CONFIG.weight_cap >= 1:
        assert sum(weights) == pytest.approx(1)


def by_bisection(weights: list[float], budget: float, floor: float, cap: float) -> list[float]:
    """The oracle of water-filling: halve the interval of the one multiplier until nothing is left of it."""
    low, high = 0.0, 1e13
    for _ in range(110):
        middle = (low + high) / 2
        if sum(min(cap, max(floor, middle * max(weight, 1e-12))) for weight in weights) < budget:
            low = middle
        else:
            high = middle
    return [min(cap, max(floor, high * max(weight, 1e-12))) for weight in weights]


@given(voters())
def test_the_bounds_are_filled_as_by_bisection(
    case: tuple[list[Probabilities], list[float], list[bool]],
) -> None:
    _, raw, text = case
    weights = bounded_weights(CONFIG, raw, text)
    floored = by_bisection([weight / sum(raw) for weight in raw], 1.0, CONFIG.weight_floor, 1.0)
    fed = [weight for weight, is_fed in zip(floored, text, strict=True) if is_fed]
    own = [weight for weight, is_fed in zip(floored, text, strict=True) if not is_fed]
    budget = 1.0 - min(sum(fed), CONFIG.text_cap)
    found = [weight for weight, is_fed in zip(weights, text, strict=True) if not is_fed]
    assert found == pytest.approx(by_bisection(own, budget, CONFIG.weight_floor, CONFIG.weight_cap), abs=1e-9)
    assert all(weight >= CONFIG.weight_floor - 1e-12 for weight in found)
    assert sum(weights) == pytest.approx(sum(found) + min(sum(fed), CONFIG.text_cap))


@given(st.integers(11, 40))
def test_many_text_fed_experts_share_what_they_may_weigh(count: int) -> None:
    weights = bounded_weights(CONFIG, [1.0] * (count + 3), [True] * count + [False] * 3)
    assert weights == pytest.approx([CONFIG.text_cap / count] * count + [0.3] * 3)


@given(voters())
def test_bounds_keep_the_order(case: tuple[list[Probabilities], list[float], list[bool]]) -> None:
    _, raw, text = case
    weights = bounded_weights(CONFIG, raw, text)
    for kind in (True, False):
        pairs = sorted((r, w) for r, w, fed in zip(raw, weights, text, strict=True) if fed is kind)
        assert all(first[1] <= second[1] + 1e-12 for first, second in itertools.pairwise(pairs))


@given(voters())
def test_the_pool_is_a_probability_whatever_the_order(
    case: tuple[list[Probabilities], list[float], list[bool]],
) -> None:
    votes, raw, text = case
    weights = bounded_weights(CONFIG, raw, text)
    answer = pooled(CONFIG, votes, weights)
    assert all(0 < value < 1 for value in answer)
    assert sum(answer) == pytest.approx(1)
    assert pooled(CONFIG, votes[::-1], weights[::-1]) == pytest.approx(answer)


@given(voters())
def test_the_pools_loss_is_at_most_the_weighted_mean_loss(
    case: tuple[list[Probabilities], list[float], list[bool]],
) -> None:
    """What the regret bound rests on (Hoelder), for weights that sum to 1 and votes above the floor."""
    votes, raw, _ = case
    total = sum(raw)
    weights = [weight / total for weight in raw]
    kept = 1 - 3 * CONFIG.probability_floor
    votes = [
        (CONFIG.probability_floor + kept * d, CONFIG.probability_floor + kept * f, CONFIG.probability_floor + kept * u)
        for d, f, u in votes
    ]
    answer = pooled(CONFIG, votes, weights)
    for outcome in (0, 1, 2):
        mean = sum(-weight * math.log(vote[outcome]) for vote, weight in zip(votes, weights, strict=True))
        assert -math.log(answer[outcome]) <= mean + 1e-9


@given(voters())
def test_disagreement_lies_between_nothing_and_ln_3(
    case: tuple[list[Probabilities], list[float], list[bool]],
) -> None:
    votes, raw, _ = case
    assert 0 <= disagreement(votes, raw) <= math.log(3) + 1e-9
    assert disagreement([votes[0]] * 3, [0.2, 0.3, 0.5]) == pytest.approx(0, abs=1e-12)


def test_known_values() -> None:
    certain = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    assert disagreement(certain, [1.0, 1.0, 1.0]) == pytest.approx(math.log(3))
    votes = [(0.6, 0.3, 0.1), (0.1, 0.3, 0.6)]
    down, flat, up = pooled(CONFIG, votes, [0.5, 0.5])
    assert down == pytest.approx(up)
    assert flat == pytest.approx(0.3 / (0.3 + 2 * math.sqrt(0.06)))


def test_what_a_cap_takes_goes_to_the_others_in_proportion() -> None:
    weights = bounded_weights(CONFIG, [0.7, 0.2, 0.1], [False] * 3)
    assert weights == pytest.approx([0.4, 0.4, 0.2])
    assert bounded_weights(CONFIG, [0.6, 0.2, 0.1, 0.1], [False] * 4) == pytest.approx([0.4, 0.3, 0.15, 0.15])


def test_few_voters_stay_below_certainty_and_text_alone_says_next_to_nothing() -> None:
    assert bounded_weights(CONFIG, [1.0], [False]) == pytest.approx([0.4])
    assert bounded_weights(CONFIG, [0.5, 0.5], [True, True]) == pytest.approx([0.05, 0.05])
    lone = pooled(CONFIG, [(0.01, 0.04, 0.95)], bounded_weights(CONFIG, [1.0], [True]))
    assert max(lone) < 0.43


@pytest.mark.parametrize("wrong", [{"weight_floor": 0.5}, {"text_cap": 0.6}, {"probability_floor": 0.4}])
def test_contradicting_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        PoolConfig(**wrong)
