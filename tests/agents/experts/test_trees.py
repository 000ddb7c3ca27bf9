"""Trees as arrays against trees walked one by one, and files that are no model."""

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.experts._trees import Booster, Curve, Forest, Model, read_model

COLUMNS = 5


def random_booster(seed: int, trees: int, depth: int) -> Booster:
    """Complete trees with random splits; the value of an inner node is the mean of its children."""
    draws = random.Random(seed)
    inner = 2**depth - 1
    values = []
    for _ in range(trees):
        row = [0.0] * inner + [draws.gauss(0, 1) for _ in range(inner + 1)]
        for at in reversed(range(inner)):
            row[at] = (row[2 * at + 1] + row[2 * at + 2]) / 2
        values.append(tuple(row))
    return Booster(
        depth=depth,
        features=tuple(tuple(draws.randrange(COLUMNS) for _ in range(inner)) for _ in range(trees)),
        thresholds=tuple(tuple(draws.gauss(0, 1) for _ in range(inner)) for _ in range(trees)),
        missing_right=tuple(tuple(draws.randrange(2) for _ in range(inner)) for _ in range(trees)),
        values=tuple(values),
    )


def walked(booster: Booster, row: list[float]) -> tuple[float, list[float]]:
    """The score of one row and what each column added, by following one tree after the other."""
    score, added = 0.0, [0.0] * COLUMNS
    for features, thresholds, missing_right, values in zip(
        booster.features, booster.thresholds, booster.missing_right, booster.values, strict=True
    ):
        at = 0
        for _ in range(booster.depth):
            value = row[features[at]]
            right = bool(missing_right[at]) if math.isnan(value) else value > thresholds[at]
            child = 2 * at + 1 + right
            added[features[at]] += values[child] - values[at]
            at = child
        score += values[at]
    return score, added


@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.lists(
        st.lists(st.one_of(st.floats(-3, 3), st.just(math.nan), st.just(math.inf)), min_size=COLUMNS, max_size=COLUMNS),
        min_size=1,
        max_size=5,
    ),
)
def test_a_forest_is_its_trees_walked_one_by_one(seed: int, depth: int, rows: list[list[float]]) -> None:
    boosters = [random_booster(seed, trees, depth) for trees in (1, 7, 3)]
    forest = Forest(boosters, COLUMNS)
    scores, reasons = forest.explained(np.array(rows))
    assert np.array_equal(scores, forest.scores(np.array(rows)))
    for row, found, why in zip(rows, scores, reasons, strict=True):
        for booster, score, columns in zip(boosters, found, why, strict=True):
            expected, added = walked(booster, row)
            assert score == pytest.approx(expected, abs=1e-12)
            assert columns == pytest.approx(added, abs=1e-12)
            roots = sum(values[0] for values in booster.values)
            assert score == pytest.approx(roots + columns.sum(), abs=1e-9)


def test_a_threshold_itself_goes_left() -> None:
    booster = Booster(1, ((0,),), ((0.5,),), ((0,),), ((0.0, -1.0, 1.0),))
    scores = Forest([booster], 1).scores(np.array([[0.5], [math.nextafter(0.5, 1)], [math.nan]]))
    assert scores[:, 0].tolist() == [-1.0, 1.0, -1.0]


def test_trees_that_are_none_are_refused() -> None:
    good = msgspec.to_builtins(random_booster(1, 2, 2))
    for flaw in (
        {"depth": 3},
        {"features": [], "thresholds": [], "missing_right": [], "values": []},
        {"values": [[0.0] * 6, [0.0] * 7]},
        {"thresholds": good["thresholds"][:1]},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(good | flaw, Booster)
    with pytest.raises(ValueError, match="column beyond"):
        Forest([random_booster(1, 9, 2)], 2)
    with pytest.raises(ValueError, match="one depth"):
        Forest([random_booster(1, 2, 2), random_booster(1, 2, 3)], COLUMNS)


def test_a_curve_is_linear_between_its_points_and_constant_beyond() -> None:
    curve = Curve((0.0, 1.0, 3.0), (0.1, 0.5, 0.5))
    assert [curve.at(x) for x in (-9.0, 0.0, 0.5, 1.0, 2.0, 3.0, 9.0)] == pytest.approx([0.1, 0.1, 0.3] + [0.5] * 4)


@pytest.mark.parametrize(
    ("xs", "ys"), [((), ()), ((0.0, 0.0), (0.1, 0.2)), ((0.0, 1.0), (0.2, 0.1)), ((0.0,), (0.1, 0.2))]
)
def test_points_that_are_no_curve_are_refused(xs: tuple[float, ...], ys: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):
        Curve(xs, ys)


def test_a_file_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(FileNotFoundError):
        read_model("agents.experts", "_no_such_model.json")


def test_the_digest_is_that_of_the_file() -> None:
    model, digest = read_model("agents.experts", "_quant.json")
    assert isinstance(model, Model)
    assert len(digest) == 64
    assert int(digest, 16) > 0
