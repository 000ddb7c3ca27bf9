"""The controls in a short form: the leak is lived off, not at real costs, and where nothing is known nothing is earned.

Full size, five seeds: `make bench-controls`.
"""

from dataclasses import replace

import pytest

from streams.training.controls import CHEAP, SHARE_NEEDED, SHORT, at_real_cost, negative, positive

pytestmark = pytest.mark.train


def test_who_sees_the_next_return_earns_most_of_what_there_is_to_earn() -> None:
    found = positive(SHORT, seed=1)
    assert 0 < found.cost_in_sigmas <= CHEAP
    assert found.share >= SHARE_NEEDED


def test_at_real_costs_not_even_the_leak_earns() -> None:
    few = replace(SHORT, learning=replace(SHORT.learning, steps=2_000))
    assert at_real_cost(few, seed=1).lower_bound <= 0


def test_a_leak_of_other_moments_earns_nothing() -> None:
    assert negative(SHORT, seed=1).lower_bound <= 0
