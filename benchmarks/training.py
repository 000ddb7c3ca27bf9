"""How many steps a second learning takes, beside plain stable-baselines3: `make bench-training`.

One core, one thread, one tape of the simulated market, the same batches and the same memory for all:

- ours: QR-DQN on the set network, as `tradermind train` runs it;
- plain DQN and QR-DQN of stable-baselines3 (and its contrib) with their MlpPolicy on the flattened observation, hidden
  layers as wide as ours.

The environment alone is measured beside them, since what it takes is in all three.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, Final

import gymnasium
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN

from benchmarks.machine import describe
from benchmarks.results import add_json_option, say, table, write_json
from streams.training.learner import LearningConfig, be_deterministic, new_model
from streams.training.markets import Market, environment_of, tapes_of
from streams.training.normalisation import fit_normalisation

_WARM: Final = 1_000


def learning_rate_of(model: Any, steps: int) -> float:
    """Return the environment steps a second of learning, its warm-up left out."""
    model.learn(_WARM)
    began = time.process_time()
    model.learn(steps, reset_num_timesteps=False)
    return steps / (time.process_time() - began)


def environment_rate_of(environment: gymnasium.Env[Any, Any], steps: int) -> float:
    """Return the steps a second of the environment alone, any target held for a while."""
    environment.reset(seed=1)
    began = time.process_time()
    for step in range(steps):
        *_, terminated, truncated, _ = environment.step(step // 20 % 5)
        if terminated or truncated:
            environment.reset()
    return steps / (time.process_time() - began)


def contestants(config: LearningConfig, world: Callable[[], gymnasium.Env[Any, Any]]) -> dict[str, Callable[[], Any]]:
    """Return what makes each contestant's model anew."""
    shared = {
        "learning_rate": config.learning_rate,
        "buffer_size": config.memory,
        "learning_starts": _WARM,
        "batch_size": config.batch,
        "gamma": config.gamma,
        "train_freq": config.train_every,
        "gradient_steps": config.batches,
        "target_update_interval": config.target_every,
        "seed": config.seed,
        "device": "cpu",
    }

    def flat() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.FlattenObservation(world())

    def ours() -> Any:
        environment = world()
        return new_model(environment, config, fit_normalisation(environment, 500, config.seed))

    def plain_quantiles() -> Any:
        arguments = {"net_arch": list(config.rho), "n_quantiles": config.quantiles}
        return QRDQN("MlpPolicy", flat(), policy_kwargs=arguments, **shared)

    def plain() -> Any:
        return DQN("MlpPolicy", flat(), policy_kwargs={"net_arch": list(config.rho)}, **shared)

    return {
        "QR-DQN, set network (ours)": ours,
        "QR-DQN, MlpPolicy (sb3-contrib)": plain_quantiles,
        "DQN, MlpPolicy (stable-baselines3)": plain,
    }


def parameters_of(model: Any) -> int:
    """Return how many numbers a model learns, its target network left out."""
    network = model.policy.quantile_net if hasattr(model.policy, "quantile_net") else model.policy.q_net
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600.0, help="of simulated market on the tape")
    add_json_option(parser)
    given = parser.parse_args()
    config = LearningConfig(warm_up=_WARM)
    be_deterministic("cpu")
    tapes = tapes_of(Market("mixed", 901, given.seconds))
    found: dict[str, list[float]] = {"environment alone": []}
    sizes: dict[str, int | None] = {"environment alone": None}
    made = contestants(config, lambda: environment_of(tapes, seed=1))
    for run in range(given.runs):
        say(f"run {run + 1} of {given.runs}")
        found["environment alone"].append(environment_rate_of(environment_of(tapes, seed=1), given.steps))
        for name, make in made.items():
            model = make()
            sizes[name] = parameters_of(model)
            found.setdefault(name, []).append(learning_rate_of(model, given.steps))
    print(describe(), f"torch {torch.__version__}")
    print("environment steps a CPU second, a batch of", config.batch, "every", config.train_every, "steps:")
    rows = [(name, sizes[name], *(round(rate) for rate in rates)) for name, rates in found.items()]
    print(table(("", "parameters", *(f"run {run + 1}" for run in range(given.runs))), rows))
    write_json(given.json, {"machine": describe(), "steps_per_s": found, "parameters": sizes})


if __name__ == "__main__":
    main()
