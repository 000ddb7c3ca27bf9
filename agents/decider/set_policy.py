"""The learned policy as workers run it: a small network over a set of votes, in numpy alone.

    h_i = relu(W2 relu(W1 v_i + b1) + b2)        every vote by the same two layers (Zaheer et al., "Deep Sets", 2017)
    s   = [mean of h_i ; sum of weight_i h_i]    nothing of it depends on the votes' order; 0 without a vote
    z   = relu(R2 relu(R1 [s ; c] + r1) + r2)    beside the context
    Q   = H z + h                                what each target of the lattice is worth

v and c are standardised by the means and scales of the training, which is folded into W1 and R1 here. Weights are
float32 and the sums float64, so that another order of the votes changes nothing that could be told.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agents.decider.encoding import CONTEXT_FEATURES, VOTE_FEATURES, Encoded, encode
from agents.decider.policy import TARGETS, Observation, PolicyAnswer, PolicyContext
from schemas.decisions import NoTradeReason

Floats = NDArray[np.float64]
Tensors = Mapping[str, NDArray[np.floating[Any]]]

_WEIGHT: Final = VOTE_FEATURES.index("weight")
_ONE: Final = np.ones(1)


def tensor_shapes(phi: tuple[int, int] = (32, 32), rho: tuple[int, int] = (64, 64)) -> dict[str, tuple[int, ...]]:
    """Return every tensor's name and shape for these widths of the layers. A weight is [outputs, inputs]."""
    votes, context = len(VOTE_FEATURES), len(CONTEXT_FEATURES)
    layers = {
        "phi.0": (phi[0], votes),
        "phi.1": (phi[1], phi[0]),
        "rho.0": (rho[0], 2 * phi[1] + context),
        "rho.1": (rho[1], rho[0]),
        "head": (len(TARGETS), rho[1]),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    for name, features in (("votes", votes), ("context", context)):
        shapes[f"{name}.mean"] = shapes[f"{name}.scale"] = (features,)
    return shapes


class SetPolicy:
    """Wants the target of the lattice whose Q is highest; of equal ones that next to the target in force.

    It holds weights and no state. With a weight or a Q that is not finite it keeps the target in force, POLICY_INVALID.
    """

    def __init__(self, name: str, weights: Tensors) -> None:
        """Take the tensors of ``tensor_shapes``. Raises ValueError for other names or shapes."""
        self.name: Final = name
        _check(weights)
        tensors = {key: np.array(value, dtype=np.float64) for key, value in weights.items()}
        self._finite = all(bool(np.isfinite(value).all()) for value in tensors.values())
        self._scales = {key: tensors[key] for key in ("votes.mean", "votes.scale", "context.mean", "context.scale")}
        width = 2 * len(tensors["phi.1.bias"])
        self._silence = np.zeros(width)
        with np.errstate(all="ignore"):
            votes = _folded(tensors["phi.0.weight"], tensors["votes.mean"], tensors["votes.scale"])
            # The pools go in as they are: the context alone is standardised.
            mean = np.concatenate((self._silence, tensors["context.mean"]))
            scale = np.concatenate((np.ones(width), tensors["context.scale"]))
            seen = _folded(tensors["rho.0.weight"], mean, scale)
        self._phi = (*_layer(votes, tensors["phi.0.bias"]), *_plain(tensors, "phi.1"))
        self._rho = (np.vstack(_layer(seen, tensors["rho.0.bias"])), *_plain(tensors, "rho.1"))
        self._head = _plain(tensors, "head")
        folded = (*self._phi, *self._rho, *self._head)
        self._finite = self._finite and all(bool(np.isfinite(value).all()) for value in folded)

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        """Return the wanted target. ``cost`` is that of the round trip; Q is no expected move, so there is no edge."""
        values = self.q_values(encode(observation)).tolist()
        spread = observation.get("spread_relative")
        cost = None if spread is None else 2 * context.one_way_cost(spread / 2)
        if not math.isfinite(sum(values)):
            return PolicyAnswer(context.target, NoTradeReason.POLICY_INVALID, None, cost)
        target = best_target(values, context.target)
        unchanged = NoTradeReason.TARGET_UNCHANGED if target == context.target else None
        return PolicyAnswer(target, unchanged, None, cost)

    def q_values(self, encoded: Encoded) -> Floats:
        """Return Q [5] for ``TARGETS`` in order; all NaN if a weight is not finite."""
        if not self._finite:
            return np.full(len(TARGETS), np.nan)
        weight, next_weight, next_bias = self._rho
        # The bias is the weight of a last input that is always 1: one operation less.
        hidden = np.concatenate((self._pooled(encoded.votes), encoded.context, _ONE)).dot(weight)
        hidden = np.maximum(hidden, 0.0, out=hidden).dot(next_weight)
        hidden += next_bias
        weight, bias = self._head
        values: Floats = np.maximum(hidden, 0.0, out=hidden).dot(weight)
        values += bias
        return values

    def _pooled(self, votes: NDArray[np.float32]) -> Floats:
        """Return the votes' mean and weighted sum, [2 x width of phi]."""
        count = len(votes)
        if not count:
            return self._silence
        said = votes.astype(np.float64)
        weight, bias, next_weight, next_bias = self._phi
        hidden = said.dot(weight)
        hidden += bias
        hidden = np.maximum(hidden, 0.0, out=hidden).dot(next_weight)
        hidden += next_bias
        np.maximum(hidden, 0.0, out=hidden)
        pools = np.empty((2, count))
        pools[0] = 1.0 / count
        pools[1] = said[:, _WEIGHT]
        pooled: Floats = pools.dot(hidden).ravel()
        return pooled

    def standardised(self, observation: Observation) -> tuple[float | None, ...]:
        """Return the features as deviations from the training's mean in its scales: of votes their mean, then context.

        Those of votes are None when nobody gives a direction. This is what a watch over drift looks at.
        """
        encoded, scales = encode(observation), self._scales
        context = (encoded.context - scales["context.mean"]) / scales["context.scale"]
        if not len(encoded.votes):
            return (*(None for _ in VOTE_FEATURES), *context.tolist())
        votes = (encoded.votes.mean(axis=0) - scales["votes.mean"]) / scales["votes.scale"]
        return (*votes.tolist(), *context.tolist())


def _check(weights: Tensors) -> None:
    """Raise ValueError for tensors that are not this network's; the widths of its layers are free."""
    if differing := sorted(tensor_shapes().keys() ^ weights.keys()):
        raise ValueError(f"The weights must hold the tensors of a set policy; {differing[0]!r} is missing or too much.")
    widths = [weights[f"{name}.bias"].size for name in ("phi.0", "phi.1", "rho.0", "rho.1")]
    expected = tensor_shapes((widths[0], widths[1]), (widths[2], widths[3]))
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ValueError(f"The tensor {name!r} has the shape {weights[name].shape}, not {shape}.")


def _folded(weight: Floats, mean: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Return a layer's weight [inputs, outputs] for inputs that are not standardised, and what its bias gains by it."""
    by_input = np.ascontiguousarray(weight.T / scale[:, None])
    return by_input, -mean.dot(by_input)


def _layer(folded: tuple[Floats, Floats], bias: Floats) -> tuple[Floats, Floats]:
    return folded[0], folded[1] + bias


def _plain(tensors: Mapping[str, Floats], name: str) -> tuple[Floats, Floats]:
    return np.ascontiguousarray(tensors[f"{name}.weight"].T), tensors[f"{name}.bias"]


def best_target(values: list[float], target_in_force: float) -> float:
    """Return the target of the lattice whose value [5] is highest; of equal ones that next to the target in force."""
    best = max(values)
    if values.count(best) == 1:
        return TARGETS[values.index(best)]
    equal = [target for target, value in zip(TARGETS, values, strict=True) if value == best]
    return min(equal, key=lambda target: (abs(target - target_in_force), abs(target)))
