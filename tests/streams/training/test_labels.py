"""Labels by hand, and that nothing of a test leaks into what it is tested against."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.training.labels import purged_folds, triple_barrier, uniqueness


def labelled(prices: list[float], starts: list[int], width: float, horizon: int) -> list[tuple[int, int, bool]]:
    """Labels on a path of one price a tick, which a price of nan interrupts."""
    path = (np.arange(len(prices)), np.array(prices))
    at = np.array(starts)
    found = triple_barrier(path, at, path[1][at], np.full(len(at), width), horizon)
    return [
        (int(side), int(end), bool(known))
        for side, end, known in zip(found.sides, found.ended_ns, found.known, strict=True)
    ]


def test_the_first_barrier_that_is_touched_is_the_label() -> None:
    assert labelled([10, 11, 12, 9, 9, 9], [0], 2, 4) == [(1, 2, True)]
    assert labelled([10, 11, 8, 13, 9, 9], [0], 2, 4) == [(-1, 2, True)]
    assert labelled([10, 11, 10, 9, 10, 12], [0], 2, 4) == [(0, 4, True)]


def test_a_path_that_ends_or_has_a_hole_tells_nothing_unless_a_barrier_was_touched_before() -> None:
    nan = float("nan")
    assert labelled([10, 11, 10], [0], 2, 4) == [(0, 4, False)]
    assert labelled([10, 12, 10], [0], 2, 4) == [(1, 1, True)]
    assert labelled([10, nan, 13, 10, 10], [0], 2, 4) == [(0, 4, False)]
    assert labelled([10, 13, nan, 10, 10], [0], 2, 4) == [(1, 1, True)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_uniqueness_is_the_mean_share_of_each_moment(lives: list[int]) -> None:
    """Against counting: at each start the labels alive there share it."""
    starts = np.arange(len(lives)) * 2
    ended = starts + np.array(lives)
    alive = [
        [bool(start <= at < end or start == at) for start, end in zip(starts, ended, strict=True)] for at in starts
    ]
    for number, found in enumerate(uniqueness(starts, ended)):
        shares = [1 / sum(row) for row in alive if row[number]]
        assert found == pytest.approx(sum(shares) / len(shares))


def test_labels_that_never_meet_are_whole_and_twins_are_halves() -> None:
    assert uniqueness(np.array([0, 10, 20]), np.array([5, 15, 25])).tolist() == [1.0, 1.0, 1.0]
    assert uniqueness(np.arange(100), np.arange(100) + 4)[50] == pytest.approx(0.25)


@given(
    st.integers(1, 3),
    st.integers(2, 6),
    st.lists(st.integers(1, 12), min_size=12, max_size=60),
    st.integers(12, 30),
)
def test_nothing_that_is_trained_on_overlaps_what_is_tested(
    tapes: int, folds: int, lives: list[int], embargo: int
) -> None:
    of = np.sort(np.arange(len(lives)) % tapes)
    starts = np.concatenate([np.arange((of == tape).sum()) * 3 for tape in range(tapes)])
    ended = starts + np.array(lives)
    tested = np.zeros(len(lives), dtype=int)
    for train, test in purged_folds(of, starts, ended, folds, embargo):
        tested += test
        assert not (train & test).any()
        for tape in range(tapes):
            mine = np.flatnonzero(test & (of == tape))
            others = np.flatnonzero(train & (of == tape))
            if not len(mine):
                continue
            begin, end = starts[mine].min(), ended[mine].max()
            for other in others:
                assert ended[other] <= begin or starts[other] > end + embargo
    assert (tested == 1).all()


def test_an_embargo_shorter_than_a_label_is_refused() -> None:
    starts = np.arange(10)
    with pytest.raises(ValueError, match="embargo"):
        next(purged_folds(np.zeros(10, dtype=int), starts, starts + 5, 2, 4))
