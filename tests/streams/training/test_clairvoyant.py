"""The clairvoyant against every path there is, and against bounds that hold for any."""

import itertools

import numpy as np
import pytest

from agents.decider.policy import TARGETS
from streams.training.clairvoyant import foresee, net_of


@pytest.mark.parametrize("seed", range(8))
def test_no_path_of_targets_earns_more(seed: int) -> None:
    draws = np.random.default_rng(seed)
    returns, costs = draws.normal(size=5), draws.uniform(0.0, 1.5, size=5)
    best = max(net_of(np.array(path), returns, costs) for path in itertools.product(TARGETS, repeat=5))
    found = foresee(returns, costs)
    assert found.net == pytest.approx(best, abs=1e-12)
    assert net_of(found.targets, returns, costs) == pytest.approx(found.net, abs=1e-12)


def test_without_costs_it_takes_every_move_whole() -> None:
    returns = np.array([0.5, -0.2, 0.1, -3.0])
    assert foresee(returns, np.zeros(4)).net == pytest.approx(np.abs(returns).sum())


def test_where_no_move_pays_its_cost_it_does_nothing() -> None:
    returns = np.array([0.5, -0.2, 0.1, -0.3])
    assert foresee(returns, np.full(4, 2.0)).net == 0
    assert not foresee(returns, np.full(4, 2.0)).targets.any()


def test_what_never_moves_is_not_traded_even_for_nothing() -> None:
    assert not foresee(np.zeros(6), np.zeros(6)).targets.any()
