"""Bayesian online change points against the same without pruning, against scipy-free theory, and on known changes."""

import math
import random

import numpy as np
import pytest

from agents.experts._change_points import ChangePoints, Runs

PLAIN = ChangePoints(length_mean=100.0)


def unpruned(values: list[float], model: ChangePoints) -> list[list[float]]:
    """Adams and MacKay's algorithm 1 as printed, over every run length there can be, in log space with numpy."""
    hazard = 1 / model.length_mean
    joint = np.array([0.0])
    mu, kappa = np.array([model.mean]), np.array([model.kappa])
    alpha, beta = np.array([model.alpha]), np.array([model.beta])
    posteriors = []
    for value in values:
        scale2 = beta * (kappa + 1) / (alpha * kappa)
        predictive = np.array(
            [
                math.lgamma((2 * a + 1) / 2) - math.lgamma(a) - 0.5 * math.log(2 * a * math.pi * s2)
                - (2 * a + 1) / 2 * math.log(1 + (value - m) ** 2 / (2 * a * s2))
                for a, s2, m in zip(alpha, scale2, mu, strict=True)
            ]
        )  # fmt: skip
        grown = joint + predictive + math.log(1 - hazard)
        ended = np.logaddexp.reduce(joint + predictive + math.log(hazard))
        joint = np.concatenate(([ended], grown))
        joint -= np.logaddexp.reduce(joint)
        posteriors.append(np.exp(joint).tolist())
        gap = value - mu
        beta = np.concatenate(([model.beta], beta + kappa * gap**2 / (2 * (kappa + 1))))
        mu = np.concatenate(([model.mean], (kappa * mu + value) / (kappa + 1)))
        kappa = np.concatenate(([model.kappa], kappa + 1))
        alpha = np.concatenate(([model.alpha], alpha + 0.5))
    return posteriors


def pieces(seed: int, *parts: tuple[int, float, float]) -> list[float]:
    """Normal values: so many of a mean and a deviation, one part after the other."""
    draws = random.Random(seed)
    return [draws.gauss(mean, deviation) for count, mean, deviation in parts for _ in range(count)]


def followed(values: list[float], model: ChangePoints) -> list[Runs]:
    runs, found = Runs(), []
    for value in values:
        runs = model.after(runs, value)
        found.append(runs)
    return found


SERIES = {
    "calm": pieces(1, (200, 0, 1)),
    "wilder": pieces(2, (120, 0, 1), (80, 0, 4)),
    "calmer": pieces(3, (100, 0, 3), (100, 0, 0.3)),
    "shifted": pieces(4, (90, 0, 1), (60, 3, 1), (50, -3, 1)),
}


@pytest.mark.parametrize("values", SERIES.values(), ids=SERIES)
def test_with_nothing_dropped_it_is_the_algorithm_as_printed(values: list[float]) -> None:
    model = ChangePoints(length_mean=100.0, chance_min=0.0, runs_max=10_000)
    for runs, expected in zip(followed(values, model), unpruned(values, model), strict=True):
        assert runs.lengths == tuple(range(len(expected)))
        assert runs.chances == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("values", SERIES.values(), ids=SERIES)
def test_what_is_dropped_changes_no_probability_by_a_hundredth(values: list[float]) -> None:
    for runs, expected in zip(followed(values, PLAIN), unpruned(values, PLAIN), strict=True):
        assert len(runs.lengths) <= PLAIN.runs_max
        assert PLAIN.recent(runs, 10) == pytest.approx(sum(expected[:10]), abs=1e-2)


@pytest.mark.parametrize("seed", range(10))
def test_a_change_of_variance_is_seen_within_seconds_and_calm_is_left_alone(seed: int) -> None:
    model = ChangePoints(length_mean=200.0)
    values = pieces(100 + seed, (300, 0, 1), (100, 0, 4), (200, 0, 0.5))
    recent = [model.recent(runs, 10) for runs in followed(values, model)]
    assert max(recent[300:315]) > 0.9
    assert max(recent[400:430]) > 0.8
    calm = recent[30:300]
    assert sum(chance > 0.5 for chance in calm) <= 0.05 * len(calm)
    assert sum(calm) / len(calm) < 0.15


def test_a_value_that_nothing_explains_begins_a_run() -> None:
    runs = followed(pieces(7, (60, 0, 1)), PLAIN)[-1]
    after = PLAIN.after(runs, 1e200)
    assert all(math.isfinite(value) for value in (*after.chances, *after.means, *after.scales))
    assert sum(after.chances) == pytest.approx(1)


def test_probabilities_stay_probabilities_however_long_it_runs() -> None:
    model = ChangePoints(length_mean=50.0, runs_max=20)
    for runs in followed(pieces(8, (3_000, 0, 1)), model)[::50]:
        assert sum(runs.chances) == pytest.approx(1)
        assert len(runs.lengths) <= 20
