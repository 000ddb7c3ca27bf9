"""Regret: the dynamic programme finds what trying every sequence finds, and what it says of the sequence is so."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agents.feedback.regret import Losses, Path, best_fixed, best_shifting

TABLES = st.tuples(st.integers(1, 6), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
)


def followed(losses: Losses, path: Path) -> float:
    """The loss of doing what a path says."""
    changes, expert, total = dict(path.changes), path.first, 0.0
    for ballot, row in enumerate(losses):
        expert = changes.get(ballot, expert)
        total += row[expert]
    return total


@settings(max_examples=120, deadline=None)
@given(TABLES, st.integers(0, 3))
def test_no_sequence_with_so_many_changes_loses_less(losses: Losses, changes: int) -> None:
    path = best_shifting(losses, changes)
    ballots, experts = losses.shape
    least = min(
        sum(losses[ballot, expert] for ballot, expert in enumerate(sequence))
        for sequence in itertools.product(range(experts), repeat=ballots)
        if sum(first != second for first, second in itertools.pairwise(sequence)) <= changes
    )
    assert path.loss == pytest.approx(least)
    assert followed(losses, path) == pytest.approx(path.loss)
    assert len(path.changes) <= changes


@given(TABLES)
def test_without_a_change_it_is_the_best_expert(losses: Losses) -> None:
    assert best_shifting(losses, 0).loss == pytest.approx(best_fixed(losses).loss)


def test_a_change_is_found_where_it_is() -> None:
    losses = np.array([[0.1, 0.9]] * 40 + [[0.9, 0.1]] * 60)
    assert best_shifting(losses, 3) == Path(pytest.approx(10.0), 0, ((40, 1),))
    assert best_fixed(losses).first == 1
