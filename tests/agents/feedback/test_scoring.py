"""The score of a vote: bounded, proper, and flat up to and including the band."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.feedback.scoring import base_rate, brier, calibration_error, log_loss, outcome_of

FLOOR = 0.001


@pytest.mark.parametrize(("move", "outcome"), [(5, 0), (-5, 0), (6, 1), (-6, -1), (0, 0)])
def test_the_band_itself_is_flat(move: int, outcome: int) -> None:
    assert outcome_of(move, 5) == outcome


def test_certainty_costs_nothing_when_right_and_all_when_wrong() -> None:
    assert log_loss((0.0, 0.0, 1.0), 1, FLOOR) == 0.0
    assert log_loss((0.0, 0.0, 1.0), -1, FLOOR) == 1.0
    assert log_loss((1 / 3, 1 / 3, 1 / 3), 0, FLOOR) == pytest.approx(math.log(3) / math.log(1000))


@given(st.tuples(*[st.floats(0.01, 1.0)] * 3), st.tuples(*[st.floats(0.01, 1.0)] * 3))
def test_no_other_forecast_does_better_than_the_true_one(
    raw: tuple[float, float, float], other: tuple[float, float, float]
) -> None:
    truth, said = (tuple(part / sum(parts) for part in parts) for parts in (raw, other))
    honest = sum(truth[k + 1] * log_loss(truth, k, FLOOR) for k in (-1, 0, 1))
    dishonest = sum(truth[k + 1] * log_loss(said, k, FLOOR) for k in (-1, 0, 1))
    assert 0 <= honest <= dishonest + 1e-12


def test_the_base_rate_starts_even_and_follows_what_happens() -> None:
    assert base_rate([0, 0, 0]) == (1 / 3, 1 / 3, 1 / 3)
    assert base_rate([0, 6, 0]) == pytest.approx((1 / 9, 7 / 9, 1 / 9))


@given(st.tuples(*[st.floats(0.01, 1.0)] * 3), st.tuples(*[st.floats(0.01, 1.0)] * 3))
def test_the_quadratic_score_too_is_least_for_the_truth(
    raw: tuple[float, float, float], other: tuple[float, float, float]
) -> None:
    truth, said = (tuple(part / sum(parts) for part in parts) for parts in (raw, other))
    honest = sum(truth[k + 1] * brier(truth, k) for k in (-1, 0, 1))
    assert 0 <= honest <= sum(truth[k + 1] * brier(said, k) for k in (-1, 0, 1)) + 1e-12


def test_calibration_is_about_what_came_how_often_and_not_about_being_right() -> None:
    even = [((1 / 3, 1 / 3, 1 / 3), outcome) for outcome in (-1, 0, 1)] * 50
    assert calibration_error(even) == pytest.approx(0.0)
    sure = [((0.0, 0.0, 1.0), outcome) for outcome in (-1, 0, 1)] * 50
    assert calibration_error(sure) == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert calibration_error([((0.0, 0.0, 1.0), 1)]) == 0.0
    assert brier((0.0, 0.0, 1.0), -1) == 2.0
