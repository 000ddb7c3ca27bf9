"""Set policies for tests: random weights of any widths, and observations as the decider makes them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.decider.encoding import CONTEXT_FEATURES, CONTEXT_HIGH, CONTEXT_LOW, VOTE_FEATURES, VOTE_HIGH, VOTE_LOW
from agents.decider.observation import VOTE_FIELDS, vote_keys
from agents.decider.policy import TARGETS
from agents.decider.set_policy import tensor_shapes

Weights = dict[str, NDArray[np.float32]]
Vote = tuple[float | None, ...]
"""Numbers in the order of ``VOTE_FIELDS``."""

SEEN: Mapping[str, float | None] = {
    "p_down": 0.2,
    "p_flat": 0.3,
    "p_up": 0.5,
    "conviction": 0.3,
    "disagreement": 0.01,
    "volatility": 0.0002,
    "spread_relative": 0.0002,
    "horizon_s": 4.0,
    "target": 0.5,
    "position": 2.0,
    "working": 0.0,
    "unrealised_pnl": 3.0,
    "exposure": 0.45,
    "allowed.low": 0.0,
    "allowed.high": 0.5,
    "moment.mean": 4e-5,
    "moment.square": 1.6e-7,
    "cost.excess": 0.0,
    "cost.fee": 0.0001,
    "alert": 1.0,
    "mark_age_s": 0.5,
    "context.anomaly.score": 0.25,
    "context.volatility_regime.low": 0.1,
    "context.volatility_regime.normal": 0.7,
    "context.volatility_regime.high": 0.2,
    "context.volatility_regime.change": 0.05,
}
"""One of each name that is read, and some that are not."""


def weights(seed: int, phi: tuple[int, int] = (32, 32), rho: tuple[int, int] = (64, 64)) -> Weights:
    """Return random weights whose Q values are of the order of 1, with means and scales that are not trivial."""
    draws = np.random.default_rng(seed)
    tensors: Weights = {}
    for name, shape in tensor_shapes(phi, rho).items():
        spread = 1.0 if len(shape) == 1 else np.sqrt(2.0 / shape[1])
        tensors[name] = (draws.standard_normal(shape) * spread).astype(np.float32)
    for name in ("votes.scale", "context.scale"):
        tensors[name] = draws.uniform(0.2, 2.0, tensors[name].shape).astype(np.float32)
    return tensors


def vote(draws: np.random.Generator) -> Vote:
    """Return what one expert says and is worth, some of it unknown."""
    down, _, up = (float(part) for part in draws.dirichlet((1.0, 1.0, 1.0)))
    meant_down, _, meant_up = (float(part) for part in draws.dirichlet((1.0, 1.0, 1.0)))
    skill = float(draws.uniform(-0.1, 0.2)) if draws.random() < 0.8 else None
    error = float(draws.uniform(0.0, 0.3)) if draws.random() < 0.8 else None
    return down, up, meant_down, meant_up, float(draws.uniform(0.01, 0.4)), skill, error


def votes(seed: int, count: int) -> list[Vote]:
    """Return that of so many experts."""
    draws = np.random.default_rng(seed)
    return [vote(draws) for _ in range(count)]


def observation(said: Iterable[Vote], names: Iterable[str] | None = None, **changes: Any) -> dict[str, float | None]:
    """Return an observation with these votes; ``changes`` name what is another, None what is not there."""
    seen = dict(SEEN) | changes
    told = list(said)
    for name, numbers in zip(names or [f"expert_{place}" for place in range(len(told))], told, strict=True):
        seen.update(zip(vote_keys(name), numbers, strict=True))
    return seen


def raw_q(tensors: Weights, rows: NDArray[Any], context: NDArray[Any]) -> NDArray[np.float64]:
    """Return Q by the formulas as they are written down, one vote at a time, nothing folded: the oracle."""
    exact = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def layer(name: str, inputs: NDArray[Any]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = exact[f"{name}.weight"] @ inputs + exact[f"{name}.bias"]
        return out

    width = len(exact["phi.1.bias"])
    total, weighted = np.zeros(width), np.zeros(width)
    for row in rows.astype(np.float64):
        inputs = (row - exact["votes.mean"]) / exact["votes.scale"]
        hidden = np.maximum(layer("phi.1", np.maximum(layer("phi.0", inputs), 0)), 0)
        total += hidden
        weighted += row[VOTE_FEATURES.index("weight")] * hidden
    beside = (context.astype(np.float64) - exact["context.mean"]) / exact["context.scale"]
    seen = np.concatenate((total / max(1, len(rows)), weighted, beside))
    return layer("head", np.maximum(layer("rho.1", np.maximum(layer("rho.0", seen), 0)), 0))


def constant(values: Iterable[float]) -> Weights:
    """Return weights whose Q values are these, whatever is seen."""
    tensors = {name: np.zeros(shape, dtype=np.float32) for name, shape in tensor_shapes((2, 2), (3, 3)).items()}
    tensors["votes.scale"] += 1
    tensors["context.scale"] += 1
    tensors["head.bias"] = np.array(list(values), dtype=np.float32)
    assert tensors["head.bias"].shape == (len(TARGETS),)
    return tensors


def within(rows: NDArray[Any], context: NDArray[Any]) -> bool:
    """Tell whether encoded numbers are float32, finite and within their bounds."""
    kinds = rows.dtype == np.float32 and context.dtype == np.float32
    shapes = rows.shape[1:] == (len(VOTE_FEATURES),) and context.shape == (len(CONTEXT_FEATURES),)
    votes_hold = ((rows >= VOTE_LOW) & (rows <= VOTE_HIGH)).all()
    return bool(kinds and shapes and votes_hold and ((context >= CONTEXT_LOW) & (context <= CONTEXT_HIGH)).all())


def with_field(said: Vote, name: str, value: float | None) -> Vote:
    """Return a vote with another number under one of ``VOTE_FIELDS``."""
    place = VOTE_FIELDS.index(name)
    return (*said[:place], value, *said[place + 1 :])
