"""The forward filter against sums over every path of states, which is what it stands for."""

import itertools
import math
import random

import pytest

from agents.experts._hidden_markov import HiddenMarkov

MODEL = HiddenMarkov(
    means=((-1.0, 0.5), (0.0, 0.0), (1.5, -0.5)), widths=((0.5, 1.0), (0.4, 0.8), (0.9, 1.5)), stay_s=5.0
)
START = (0.2, 0.5, 0.3)


def density(state: int, seen: tuple[float | None, ...]) -> float:
    total = 1.0
    for value, mean, width in zip(seen, MODEL.means[state], MODEL.widths[state], strict=True):
        if value is not None:
            total *= math.exp(-0.5 * ((value - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return total


def by_paths(story: list[tuple[float, tuple[float | None, ...]]]) -> list[float]:
    """The posterior of the last state: every path's probability, added up by where it ends."""
    ends = [0.0, 0.0, 0.0]
    for path in itertools.product(range(3), repeat=len(story) + 1):
        chance = START[path[0]]
        for (was, now), (elapsed_s, seen) in zip(itertools.pairwise(path), story, strict=True):
            left = 2 / 3 * (1 - math.exp(-1.5 * elapsed_s / MODEL.stay_s))
            chance *= (1 - left if was == now else left / 2) * density(now, seen)
        ends[path[-1]] += chance
    return [end / sum(ends) for end in ends]


@pytest.mark.parametrize("seed", range(5))
def test_the_filter_is_the_sum_over_all_paths(seed: int) -> None:
    draws = random.Random(seed)
    posterior: tuple[float, ...] = START
    story: list[tuple[float, tuple[float | None, ...]]] = []
    for step in range(6):
        seen = (draws.gauss(0, 1), None if step == 3 else draws.gauss(0, 1))
        story.append((draws.choice((0.0, 1.0, 4.0)), seen))
        posterior = MODEL.filtered(MODEL.predicted(posterior, story[-1][0]), seen)
        assert posterior == pytest.approx(by_paths(story), abs=1e-12)


def test_what_is_far_beyond_every_state_still_has_a_posterior() -> None:
    posterior = MODEL.filtered(START, (1e6, -1e6))
    assert sum(posterior) == pytest.approx(1)
    assert posterior[2] == pytest.approx(1), "the widest state explains it best"


def test_nothing_seen_tells_nothing_and_a_long_time_forgets() -> None:
    assert MODEL.filtered(START, (None, None)) == pytest.approx(START)
    assert MODEL.predicted((1.0, 0.0, 0.0), 1e9) == pytest.approx((1 / 3,) * 3)


def test_two_short_steps_are_one_long_one_and_a_state_lasts_as_long_as_it_says() -> None:
    assert MODEL.predicted(MODEL.predicted(START, 1.5), 4.0) == pytest.approx(MODEL.predicted(START, 5.5))
    assert MODEL.predicted((0.0, 1.0, 0.0), 1e-6)[1] == pytest.approx(1 - 1e-6 / MODEL.stay_s)
