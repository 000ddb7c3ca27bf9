"""Drawdown and turnover against the plainest way of finding them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.statistics.paths import max_drawdown, turnover

CHANGES = st.lists(st.floats(-100, 100, allow_nan=False), max_size=30)


@given(CHANGES)
def test_the_largest_fall_is_that_of_every_pair(changes: list[float]) -> None:
    path = [sum(changes[:count]) for count in range(len(changes) + 1)]
    worst = max(path[begin] - path[end] for begin in range(len(path)) for end in range(begin, len(path)))
    assert max_drawdown(changes) == pytest.approx(worst, abs=1e-9)


def test_turnover_counts_every_move_and_the_first() -> None:
    assert turnover([]) == 0
    assert turnover([0.5, 0.5, -1.0, 0.0]) == 0.5 + 0 + 1.5 + 1
    assert turnover([1.0, 1.0], before=1.0) == 0


@given(CHANGES, st.floats(-100, 100, allow_nan=False))
def test_turnover_is_no_less_than_the_whole_way(exposures: list[float], before: float) -> None:
    end = exposures[-1] if exposures else before
    assert turnover(exposures, before) >= abs(end - before) - 1e-9
