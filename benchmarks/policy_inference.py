"""What one decision of a learned policy costs: `python -m benchmarks.policy_inference` (`make bench-policy`).

The worker's way, in numpy: from the stored observation to a set of votes and a context (encode), through the network to
Q (network), and both with the choice of a target (decide). Beside it, where stable-baselines3 is installed, what its
``model.predict`` takes for the same network and weights on the very arrays that encode made, padded as the training
environment pads them (predict), and what it takes for the smallest of its own (plain: a DQN of 64-64 on a flat vector
of the context's length, no set), which is the kind of model that the 98 us of the aim were measured on. Each figure is
the median over batches of calls of a batch's mean, by the wall's clock and by the thread's CPU time; ratios are of CPU
time, which other work on the machine stretches less. One thread each: torch is told so, and the matrices are too small
for BLAS to start more.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agents.costs.estimate import CostEstimate
from agents.decider.encoding import CONTEXT_FEATURES, MAX_VOTES, VOTE_FEATURES, Encoded, encode
from agents.decider.observation import vote_keys
from agents.decider.policy import TARGETS, PolicyContext
from agents.decider.set_policy import SetPolicy, tensor_shapes
from benchmarks.limits import definition, mark
from benchmarks.machine import describe
from benchmarks.results import add_json_option, table, write_json
from schemas.opinions import VoteTally
from schemas.values import NS_PER_S

COMMITTEES: Final = (1, 5, 12)
AIM_TIMES: Final = 5.0
TOLERANCE: Final = 1e-5
_BATCH: Final = 200
_NS_PER_US: Final = 1_000.0

Observations = Sequence[dict[str, float | None]]
Weights = dict[str, NDArray[np.float32]]


def observations(voters: int, count: int) -> list[dict[str, float | None]]:
    """Return what a decider would see, each time other numbers, from a committee with two experts of context."""
    draws = np.random.default_rng(voters)
    found = []
    for _ in range(count):
        down, flat, up = (float(part) for part in draws.dirichlet((2.0, 2.0, 2.0)))
        low, normal, high = (float(part) for part in draws.dirichlet((2.0, 2.0, 2.0)))
        seen: dict[str, float | None] = {
            "p_down": down,
            "p_flat": flat,
            "p_up": up,
            "conviction": up - down,
            "disagreement": float(draws.uniform(0.0, 0.3)),
            "volatility": float(draws.uniform(5e-5, 5e-4)),
            "spread_relative": float(draws.uniform(1e-5, 1e-4)),
            "horizon_s": 10.0,
            "target": float(draws.choice(TARGETS)),
            "position": 1.0,
            "working": 0.0,
            "unrealised_pnl": 0.0,
            "alert": 0.0,
            "mark_age_s": float(draws.uniform(0.0, 0.2)),
            "exposure": float(draws.uniform(-1.0, 1.0)),
            "allowed.low": -1.0,
            "allowed.high": 1.0,
            "moment.mean": float(draws.normal(0.0, 1e-6)),
            "moment.square": float(draws.uniform(1e-10, 1e-9)),
            "cost.excess": 0.0,
            "cost.fee": 0.0001,
        }
        for number in range(voters):
            said = draws.dirichlet((2.0, 2.0, 2.0))
            meant = draws.dirichlet((2.0, 2.0, 2.0))
            told = (said[0], said[2], meant[0], meant[2], 0.4 / voters, draws.normal(0.0, 0.05), draws.uniform(0, 0.1))
            seen.update(zip(vote_keys(f"expert_{number}"), map(float, told), strict=True))
        for name in ("anomaly", "volatility_regime"):
            seen.update(zip(vote_keys(name), (None, None, None, None, 0.0, None, None), strict=True))
        seen |= {"context.anomaly.level": 0.0, "context.anomaly.score": float(draws.uniform(0.0, 1.0))}
        seen |= {
            f"context.volatility_regime.{name}": value
            for name, value in zip(("low", "normal", "high"), (low, normal, high), strict=True)
        }
        found.append(seen)
    return found


def random_weights() -> Weights:
    """Return weights of the default network."""
    draws = np.random.default_rng(7)
    tensors = {
        name: (draws.standard_normal(shape) * (1.0 if len(shape) == 1 else (2.0 / shape[1]) ** 0.5)).astype(np.float32)
        for name, shape in tensor_shapes().items()
    }
    for name in ("votes.scale", "context.scale"):
        tensors[name] = np.ones_like(tensors[name])
    return tensors


def context_of() -> PolicyContext:
    """Return what a policy is told beside an observation."""
    instrument = definition(0)
    tally = VoteTally(
        key=instrument.key,
        event_time_ns=0,
        available_at_ns=0,
        ballot_id="b",
        snapshot_id="s",
        horizon_ns=10 * NS_PER_S,
        flat_band=0,
        grid_time_ns=0,
        mid=None,
        p_down=None,
        p_flat=None,
        p_up=None,
        disagreement=None,
        volatility=None,
        spread=None,
        closed_by="ALL",
        late=(),
        entries=(),
        context={},
    )
    return PolicyContext(tally, mark(instrument.key), instrument, 0.0, 0, CostEstimate(0.0, 0.0001, 0.0, 0))


def microseconds(work: Callable[[Any], object], items: Sequence[Any]) -> tuple[float, float]:
    """Return the median over batches of the mean time of a call: wall, and CPU of this thread."""
    walls, cpus = [], []
    for begin in range(0, len(items), _BATCH):
        batch = items[begin : begin + _BATCH]
        wall_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        for item in batch:
            work(item)
        walls.append((time.perf_counter_ns() - wall_ns) / len(batch) / _NS_PER_US)
        cpus.append((time.thread_time_ns() - cpu_ns) / len(batch) / _NS_PER_US)
    return median(walls), median(cpus)


def padded(encoded: Encoded) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of the training environment's observation space."""
    votes = np.zeros((MAX_VOTES, len(VOTE_FEATURES)), np.float32)
    present = np.zeros(MAX_VOTES, np.float32)
    votes[: len(encoded.votes)] = encoded.votes
    present[: len(encoded.votes)] = 1.0
    return {"votes": votes, "present": present, "context": encoded.context}


class Twin:
    """The same network in stable-baselines3. Needs the extra ``train``."""

    def __init__(self, weights: Weights) -> None:
        import gymnasium
        from gymnasium import spaces
        from stable_baselines3 import DQN

        from streams.training.learner import LearningConfig, new_model
        from streams.training.network import import_weights, normalisation_of

        votes, context = (MAX_VOTES, len(VOTE_FEATURES)), (len(CONTEXT_FEATURES),)

        class Spaces(gymnasium.Env[Any, Any]):
            """Nothing but the shapes."""

            observation_space = spaces.Dict(
                {
                    "votes": spaces.Box(-np.inf, np.inf, votes, np.float32),
                    "present": spaces.Box(0.0, 1.0, (MAX_VOTES,), np.float32),
                    "context": spaces.Box(-np.inf, np.inf, context, np.float32),
                }
            )
            action_space = spaces.Discrete(len(TARGETS))

        class Flat(gymnasium.Env[Any, Any]):
            """The context alone."""

            observation_space = spaces.Box(-np.inf, np.inf, context, np.float32)
            action_space = spaces.Discrete(len(TARGETS))

        config = LearningConfig(memory=1)
        self.model = new_model(Spaces(), config, normalisation_of(weights))
        import_weights(self.model, weights)
        self.smallest = DQN("MlpPolicy", Flat(), buffer_size=1, seed=1, device="cpu")

    def plain(self, seen: dict[str, NDArray[np.float32]]) -> int:
        """Return the action of the smallest model."""
        return int(self.smallest.predict(seen["context"], deterministic=True)[0])

    def predict(self, seen: dict[str, NDArray[np.float32]]) -> int:
        """Return the action as its users get it."""
        return int(self.model.predict(seen, deterministic=True)[0])

    def q_values(self, seen: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the network's Q, its quantiles averaged."""
        import torch

        tensors = {name: torch.as_tensor(values)[None] for name, values in seen.items()}
        with torch.no_grad():
            values: NDArray[np.float32] = self.model.policy.quantile_net(tensors).mean(dim=1)[0].numpy()
        return values


def rows(voters: int, calls: int, weights: Weights, twin: Twin | None) -> dict[str, Any]:
    """Return the figures for a committee of so many voters."""
    policy, beside = SetPolicy("bench", weights), context_of()
    seen = observations(voters, calls)
    encoded = [encode(item) for item in seen]
    parts: dict[str, Any] = {"voters": voters}
    works: dict[str, tuple[Callable[[Any], object], Sequence[Any]]] = {
        "encode": (encode, seen),
        "network": (policy.q_values, encoded),
        "decide": (lambda item: policy.decide(item, beside), seen),
    }
    if twin is not None:
        looks = [padded(item) for item in encoded]
        works |= {"predict": (twin.predict, looks), "plain": (twin.plain, looks)}
        apart = [np.abs(policy.q_values(item) - twin.q_values(look)) for item, look in zip(encoded, looks, strict=True)]
        parts["largest difference of Q"] = float(np.max(apart))
        same = [policy.q_values(item).argmax() == twin.predict(look) for item, look in zip(encoded, looks, strict=True)]
        parts["equal actions"] = float(np.mean(same))
    for name, (work, items) in works.items():
        microseconds(work, items[:_BATCH])
        parts[f"{name} us"], parts[f"{name} cpu us"] = microseconds(work, items)
    return parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    add_json_option(parser)
    options = parser.parse_args()
    weights = random_weights()
    twin = Twin(weights) if importlib.util.find_spec("sb3_contrib") is not None else None
    found = [rows(voters, options.calls, weights, twin) for voters in COMMITTEES]
    names = [name for name in found[0] if name.endswith("us")]
    print(table(["votes", *names], [[str(item["voters"]), *(item[name] for name in names)] for item in found]))
    for item in found:
        print(verdict(item))
    if twin is None:
        print("stable-baselines3 is not installed here, so its predict was not measured: make bench-policy")
    print(f"{options.calls:,} decisions each; {describe()}")
    write_json(options.json, found)


def verdict(item: dict[str, Any]) -> str:
    """Return what the figures of one committee come to, in CPU time."""
    network, whole = item["network cpu us"], item["decide cpu us"]
    said = f"{item['voters']} votes: {whole:.1f} us of CPU for a whole decision, of which the network {network:.1f}"
    if "predict us" not in item:
        return said
    equal = item["largest difference of Q"]
    held = "within" if equal <= TOLERANCE else "NOT within"
    times = [
        f"{name} {item[f'{name} cpu us'] / spent:.1f} times {part}"
        for name in ("predict", "plain")
        for part, spent in (("the network", network), ("the whole decision", whole))
    ]
    reached = "reached" if item["predict cpu us"] >= AIM_TIMES * whole else "missed"
    return (
        f"{said}; {', '.join(times)}; {AIM_TIMES:.0f} times faster than predict: {reached}; Q apart by at most"
        f" {equal:.1e} ({held} {TOLERANCE:.0e}), equal actions {item['equal actions']:.2%}"
    )


if __name__ == "__main__":
    main()
