"""Boosted trees as arrays: what was grown elsewhere is data here, evaluated without the library that grew it.

Every tree is stored as a complete binary tree of one depth in heap order (the children of node i are 2i + 1 and
2i + 2); a leaf above the last level is repeated below itself. So all trees of all boosters go down one level at a time
in a few array operations, whatever their number. A value goes left when it is at most the threshold; a missing one
(NaN) goes where the tree learned to send it. Every node has a value, the mean of the leaves below it by how much
training data they hold, so that what a split adds is known for each path.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Curve(msgspec.Struct, frozen=True):
    """A function that never falls, as corner points: linear between them, constant beyond. ``xs`` rise strictly."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for points that are no such function."""
        if not self.xs or len(self.xs) != len(self.ys):
            raise ValueError("a curve needs as many values as points, and one at least")
        if any(a >= b for a, b in zip(self.xs, self.xs[1:], strict=False)):
            raise ValueError("the points of a curve rise strictly")
        if any(a > b for a, b in zip(self.ys, self.ys[1:], strict=False)):
            raise ValueError("a curve never falls")

    def at(self, x: float) -> float:
        """Return the value at ``x``."""
        xs, ys = self.xs, self.ys
        above = bisect_right(xs, x)
        if above == 0:
            return ys[0]
        if above == len(xs):
            return ys[-1]
        low, high = xs[above - 1], xs[above]
        return ys[above - 1] + (ys[above] - ys[above - 1]) * ((x - low) / (high - low))


class Booster(msgspec.Struct, frozen=True):
    """The trees of one question, a row each, in heap order. The score is the sum of the leaves that are reached.

    ``features`` (which column is asked), ``thresholds`` and ``missing_right`` (1: a missing value goes right) hold
    2 ** depth - 1 inner nodes; ``values`` holds 2 ** (depth + 1) - 1 nodes, leaves last.
    """

    depth: int
    features: tuple[tuple[int, ...], ...]
    thresholds: tuple[tuple[float, ...], ...]
    missing_right: tuple[tuple[int, ...], ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Raise ValueError for rows that are not complete trees of that depth."""
        inner = 2**self.depth - 1
        rows = zip(self.features, self.thresholds, self.missing_right, self.values, strict=True)
        if self.depth < 1 or not self.features:
            raise ValueError("a booster has a tree at least, of one level at least")
        if any([len(part) for part in row] != [inner, inner, inner, 2 * inner + 1] for row in rows):
            raise ValueError("a tree of a booster is not complete")


class Forest:
    """Several boosters of one depth over the same columns, evaluated together."""

    __slots__ = (
        "_booster_at",
        "_columns",
        "_depth",
        "_features",
        "_inner_at",
        "_missing_right",
        "_starts",
        "_thresholds",
        "_value_at",
        "_values",
    )

    def __init__(self, boosters: Sequence[Booster], columns: int) -> None:
        """Raise ValueError for boosters of several depths, or that ask for a column that is not there."""
        depths = {booster.depth for booster in boosters}
        if len(depths) != 1:
            raise ValueError("the boosters of a forest have one depth")
        if any(not 0 <= column < columns for booster in boosters for tree in booster.features for column in tree):
            raise ValueError(f"a tree asks for a column beyond the {columns} there are")
        self._depth, self._columns = depths.pop(), columns
        counts = [len(booster.features) for booster in boosters]
        trees = np.arange(sum(counts))
        inner = 2**self._depth - 1
        self._inner_at, self._value_at = trees * inner, trees * (2 * inner + 1)
        self._starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
        self._booster_at = np.repeat(np.arange(len(counts)), counts)
        self._features = _flat([booster.features for booster in boosters], np.int64)
        self._thresholds = _flat([booster.thresholds for booster in boosters], np.float64)
        self._missing_right = _flat([booster.missing_right for booster in boosters], np.bool_)
        self._values = _flat([booster.values for booster in boosters], np.float64)

    def scores(self, rows: Floats) -> Floats:
        """Return the score of each row by each booster: (rows, boosters) for (rows, columns); NaN is missing."""
        *_, last = self._levels(rows)
        found: Floats = np.add.reduceat(self._values.take(self._value_at + last[1]), self._starts, axis=1)
        return found

    def explained(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the scores, and what each column adds along the paths: (rows, boosters, columns).

        The score is the sum over the columns plus that of the roots' values, whatever the row.
        """
        rows_count, boosters = len(rows), len(self._starts)
        keys, added = [], []
        before = self._values.take(self._value_at)
        slots = (np.arange(rows_count)[:, None] * boosters + self._booster_at) * self._columns
        values = before
        for columns, nodes in self._levels(rows):
            values = self._values.take(self._value_at + nodes)
            keys.append((slots + columns).ravel())
            added.append((values - before).ravel())
            before = values
        scores: Floats = np.add.reduceat(values, self._starts, axis=1)
        size = rows_count * boosters * self._columns
        reasons: Any = np.bincount(np.concatenate(keys), np.concatenate(added), size)
        return scores, reasons.reshape(rows_count, boosters, self._columns)

    def _levels(self, rows: Floats) -> list[tuple[Any, Any]]:
        """Return, level by level, the column asked for by each row and tree, and the node gone to: (rows, trees)."""
        flat = rows.ravel()
        missing = np.isnan(flat)
        some_missing = bool(missing.any())
        row_at = (np.arange(len(rows)) * self._columns)[:, None]
        nodes: Any = np.zeros((len(rows), len(self._inner_at)), dtype=np.int64)
        levels = []
        for _ in range(self._depth):
            at = self._inner_at + nodes
            columns = self._features.take(at)
            asked = columns + row_at
            right = flat.take(asked) > self._thresholds.take(at)
            if some_missing:
                right |= missing.take(asked) & self._missing_right.take(at)
            nodes = 2 * nodes + 1 + right
            levels.append((columns, nodes))
        return levels


def _flat(parts: Sequence[Sequence[Sequence[float]]], kind: Any) -> Any:
    return np.array([row for part in parts for row in part], dtype=kind).ravel()


class Horizon(msgspec.Struct, frozen=True):
    """What was learned of one horizon: the trees' score for *up*, and how often up came at each score."""

    horizon_ns: int
    booster: Booster
    chance: Curve


class Model(msgspec.Struct, frozen=True):
    """A trained file: the columns it was trained on, what it learned by horizon, and how it was made."""

    columns: tuple[str, ...]
    horizons: tuple[Horizon, ...]
    training: dict[str, Any]


def read_model(package: str, name: str) -> tuple[Model, str]:
    """Return a model from a package's data, and the SHA-256 of its file in 64 hex digits.

    Raises FileNotFoundError, and msgspec.ValidationError for a file that is no model.
    """
    content = files(package).joinpath(name).read_bytes()
    return msgspec.json.decode(content, type=Model), hashlib.sha256(content).hexdigest()
