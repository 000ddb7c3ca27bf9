"""Learning the set policy off-policy: sb3-contrib's QR-DQN on one thread, every draw from one seed.

Two runs on one machine with one lock give the same weights to the bit; that is what lets anybody make the shipped
champion again and compare. On a GPU, or on a processor that adds in another order, results are equal in kind only.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN
from stable_baselines3.common.callbacks import BaseCallback

from agents.decider.encoding import VOTE_FEATURES
from streams.training.network import (
    NetworkShape,
    Weights,
    export,
    import_weights,
    normalisation_of,
    policy_arguments,
)
from streams.training.normalisation import Normalisation, fit_normalisation

Progress = Callable[[int], None]
_TELL_EVERY: Final = 1_000
WEIGHT_FEATURE: Final = VOTE_FEATURES.index("weight")


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """How long and how a policy learns. Steps are the environment's, one for each decision.

    ``gamma``: the discount for each decision; its horizon, 1 / (1 - gamma) decisions, should be that of what can be
    earned by waiting, and no longer: every step more adds the noise of a whole step to what is learned from.
    ``train_every``: environment steps between two batches, of which each takes ``batch`` transitions out of the last
    ``memory``. ``warm_up``: steps at random before the first. ``explore_share``: over this share of all steps the
    chance of a random action falls from 1 to ``explore_last``. ``moment_steps``: steps at random on which the
    normalisation is fitted. ``device``: "cpu", or torch's name of a GPU.
    """

    seed: int = 1
    steps: int = 60_000
    gamma: float = 0.95
    learning_rate: float = 5e-4
    batch: int = 64
    memory: int = 60_000
    warm_up: int = 3_000
    train_every: int = 4
    batches: int = 1
    target_every: int = 1_000
    explore_share: float = 0.4
    explore_last: float = 0.05
    moment_steps: int = 4_000
    quantiles: int = 16
    phi: tuple[int, int] = (32, 32)
    rho: tuple[int, int] = (64, 64)
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Trained:
    """What learning gave: the model as it may go on, and the tensors that workers take."""

    model: QRDQN
    weights: Weights
    normalisation: Normalisation


class _Telling(BaseCallback):  # type: ignore[misc]
    """Tells how many steps are done, now and then."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def _on_step(self) -> bool:
        if self.num_timesteps % _TELL_EVERY == 0:
            self._progress(self.num_timesteps)
        return True


def be_deterministic(device: str) -> None:
    """One thread, and only algorithms whose sums have one order; torch keeps both for the whole process."""
    if device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Without it cuBLAS refuses determinism.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # Nothing here reads what it has not written.


def new_model(environment: gymnasium.Env[Any, Any], config: LearningConfig, normalisation: Normalisation) -> QRDQN:
    """Return an untrained model for the environment's spaces."""
    be_deterministic(config.device)
    shape = NetworkShape(WEIGHT_FEATURE, config.phi, config.rho, config.quantiles)
    return QRDQN(
        "MultiInputPolicy",
        environment,
        learning_rate=config.learning_rate,
        buffer_size=config.memory,
        learning_starts=config.warm_up,
        batch_size=config.batch,
        gamma=config.gamma,
        train_freq=config.train_every,
        gradient_steps=config.batches,
        target_update_interval=config.target_every,
        exploration_fraction=config.explore_share,
        exploration_final_eps=config.explore_last,
        policy_kwargs=policy_arguments(shape, normalisation),
        seed=config.seed,
        device=config.device,
    )


def train(
    environment: gymnasium.Env[Any, Any],
    config: LearningConfig,
    *,
    progress: Progress | None = None,
    start: Mapping[str, NDArray[np.float32]] | None = None,
) -> Trained:
    """Learn in the environment and return the result; ``start``: go on from these tensors and their normalisation."""
    if start is None:
        normalisation = fit_normalisation(environment, config.moment_steps, config.seed)
    else:
        normalisation = normalisation_of(start)
    model = new_model(environment, config, normalisation)
    if start is not None:
        import_weights(model, start)
    model.learn(config.steps, callback=None if progress is None else _Telling(progress))
    return Trained(model, export(model), normalisation)
