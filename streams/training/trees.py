"""What LightGBM has grown, as the arrays that the core evaluates without it."""

from typing import Any, Final

from agents.experts._trees import Booster, Curve

_NO_MISSING: Final = "None"


def booster_of(dump: dict[str, Any], depth: int) -> Booster:
    """Return the trees of ``lightgbm.Booster.dump_model()``, each filled up to ``depth`` levels of splits.

    Raises ValueError for a tree that is deeper, and for splits on categories.
    """
    trees = [_complete(tree["tree_structure"], depth) for tree in dump["tree_info"]]
    inner = 2**depth - 1
    return Booster(
        depth=depth,
        features=tuple(tuple(int(node[0]) for node in tree[:inner]) for tree in trees),
        thresholds=tuple(tuple(node[1] for node in tree[:inner]) for tree in trees),
        missing_right=tuple(tuple(node[2] for node in tree[:inner]) for tree in trees),
        values=tuple(tuple(node[3] for node in tree) for tree in trees),
    )


def curve_of(xs: list[float], ys: list[float]) -> Curve:
    """Return the corner points of an isotonic fit, less those that lie on a level stretch between two others."""
    kept = [at for at in range(len(xs)) if at in (0, len(xs) - 1) or not (ys[at - 1] == ys[at] == ys[at + 1])]
    return Curve(tuple(xs[at] for at in kept), tuple(ys[at] for at in kept))


def _complete(root: dict[str, Any], depth: int) -> list[tuple[int, float, int, float]]:
    """Return (feature, threshold, missing goes right, value) by node in heap order."""
    filled: list[tuple[int, float, int, float]] = [(0, 0.0, 0, 0.0)] * (2 ** (depth + 1) - 1)
    inner = 2**depth - 1

    def fill(node: dict[str, Any], at: int) -> tuple[float, float]:
        """Fill the subtree at a place; return its value and how much data it holds."""
        if "split_feature" not in node:
            value = float(node["leaf_value"])
            below = [at]
            for place in below:
                filled[place] = (0, 0.0, 0, value)
                if place < inner:
                    below += [2 * place + 1, 2 * place + 2]
            return value, float(node.get("leaf_count", 1))
        if at >= inner:
            raise ValueError(f"a tree has more than {depth} levels")
        if node["decision_type"] != "<=":
            raise ValueError(f"a split by {node['decision_type']!r} is not known")
        left, left_count = fill(node["left_child"], 2 * at + 1)
        right, right_count = fill(node["right_child"], 2 * at + 2)
        count = left_count + right_count
        value = (left * left_count + right * right_count) / count
        filled[at] = (node["split_feature"], float(node["threshold"]), int(_missing_right(node)), value)
        return value, count

    fill(root, 0)
    return filled


def _missing_right(node: dict[str, Any]) -> bool:
    """Return where a NaN goes: LightGBM takes it for 0 at a split that has never met one."""
    if node["missing_type"] == _NO_MISSING:
        return bool(float(node["threshold"]) < 0)
    if node["missing_type"] != "NaN":
        raise ValueError(f"missing values of type {node['missing_type']!r} are not known")
    return not node["default_left"]
