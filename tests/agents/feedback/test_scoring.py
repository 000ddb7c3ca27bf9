"""The score of a vote: bounded, proper, and flat up to and including the band."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.feedback.scoring import base_rate, log_loss, outcome_of

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
