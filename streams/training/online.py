"""One training of a candidate, as a process: from the champion's weights, off-policy, on a snapshot of the buffer.

Nobody trades in here, and nothing here can stop who does: it has a low priority, a limit of time set from outside, and
ends with its parent. Gradient steps are stable-baselines3's own, on its own buffer, which is filled from ours.
"""

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import polyak_update

from agents.decider.encoding import (
    CONTEXT_FEATURES,
    CONTEXT_HIGH,
    CONTEXT_LOW,
    MAX_VOTES,
    SCHEMA,
    VOTE_FEATURES,
    VOTE_HIGH,
    VOTE_LOW,
)
from agents.decider.policy import TARGETS
from infra.artefacts import Artefact, ArtefactRefused, ArtefactSpec, write_artefact
from infra.models.keys import allowed_keys, development_key
from infra.models.spec import DataRange, FeatureMoments, installed_versions
from infra.models.store import ModelStore
from infra.people import PeopleUnusable, load_personal_key
from schemas.training import TrainingFailure
from streams.training.job import (
    SNAPSHOT_NAME,
    Teaching,
    TrainingJob,
    TrainingOutcome,
    read_job,
    write_outcome,
)
from streams.training.learner import LearningConfig, new_model
from streams.training.network import Weights, export, import_weights, normalisation_of
from streams.training.normalisation import FeatureSums, Inputs
from streams.training.replay import Frozen
from streams.training.replay_file import read_snapshot
from streams.training.restandardise import restandardised

_BLOCK_STEPS: Final = 50
"""So many gradient steps lie between two moves of the target network, and between two looks at the loss."""
_TAU: Final = 0.2
_LIBRARIES: Final = ("torch", "stable-baselines3", "sb3-contrib", "numpy", "safetensors")


class _Spaces(gymnasium.Env[dict[str, Any], int]):
    """The spaces that a model is made for. Nobody steps in it: its transitions come from elsewhere."""

    def __init__(self) -> None:
        low, high = np.tile(VOTE_LOW, (MAX_VOTES, 1)), np.tile(VOTE_HIGH, (MAX_VOTES, 1))
        self.observation_space = spaces.Dict(
            {
                "votes": spaces.Box(np.minimum(low, 0.0), high, dtype=np.float32),
                "present": spaces.Box(0.0, 1.0, (MAX_VOTES,), np.float32),
                "context": spaces.Box(CONTEXT_LOW, CONTEXT_HIGH, dtype=np.float32),
            }
        )
        actions: Any = spaces.Discrete(len(TARGETS))
        self.action_space = actions


@dataclass(frozen=True, slots=True)
class Learned:
    """What gradient steps gave: the tensors that workers take, and the loss of the first and of the last block."""

    weights: Weights
    loss_before: float
    loss_after: float


class Untrainable(Exception):
    """A training without a candidate: the closed reason and one sentence."""

    def __init__(self, reason: TrainingFailure, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def learn_online(frozen: Frozen, start: Weights, config: LearningConfig, gradient_steps: int) -> Learned:
    """Go on from exported tensors with gradient steps on the transitions of a buffer.

    Raises Untrainable (DIVERGED) as soon as a loss is not finite, or when a weight is not.
    """
    model = new_model(_Spaces(), config, normalisation_of(start))
    import_weights(model, start)
    model.set_logger(Logger(folder=None, output_formats=[]))
    _fill(model, frozen)
    losses: list[float] = []
    for done in range(0, gradient_steps, _BLOCK_STEPS):
        model.train(gradient_steps=min(_BLOCK_STEPS, gradient_steps - done), batch_size=config.batch)
        # The same as the learner's own way to the target network, spread over steps instead of at once.
        polyak_update(model.quantile_net.parameters(), model.quantile_net_target.parameters(), _TAU)
        losses.append(float(model.logger.name_to_value["train/loss"]))
        if not math.isfinite(losses[-1]):
            raise Untrainable(TrainingFailure.DIVERGED, f"The loss was {losses[-1]} after {done} gradient steps.")
    weights = export(model)
    spoilt = sorted(name for name, array in weights.items() if not np.isfinite(array).all())
    if spoilt:
        raise Untrainable(TrainingFailure.DIVERGED, f"Not every number of {', '.join(spoilt)} is finite.")
    return Learned(weights, losses[0], losses[-1])


def _fill(model: QRDQN, frozen: Frozen) -> None:
    """Put transitions into the model's own buffer, one environment wide. No episode of ours has an end."""
    buffer: Any = model.replay_buffer
    arrays, count = frozen.arrays, frozen.count
    for name in ("votes", "present", "context"):
        buffer.observations[name][:count, 0] = arrays[name]
        buffer.next_observations[name][:count, 0] = arrays[f"next_{name}"]
    buffer.actions[:count, 0, 0] = arrays["action"]
    buffer.rewards[:count, 0] = arrays["reward"]
    buffer.dones[:count], buffer.timeouts[:count] = 0.0, 0.0
    buffer.pos, buffer.full = count % buffer.buffer_size, count >= buffer.buffer_size


def train_candidate(folder: Path, job: TrainingJob) -> TrainingOutcome:
    """Train, write the artefact and return its address. Raises Untrainable."""
    teaching = job.teaching
    champion = _champion(teaching, job.start)
    frozen = read_snapshot(folder / SNAPSHOT_NAME, teaching.identity)
    if frozen.count < teaching.fewest:
        raise Untrainable(
            TrainingFailure.TOO_FEW, f"The buffer holds {frozen.count} transitions, of {teaching.fewest} needed."
        )
    config = _config(champion, teaching, job.ordinal, frozen.count)
    start = {name: np.array(array) for name, array in champion.weights.items()}  # What was verified is read-only.
    learned = learn_online(frozen, start, config, teaching.gradient_steps)
    # A watch over drift measures by the normalisation, which shall be that of what this candidate has seen.
    inputs = _inputs(frozen)
    weights = restandardised(learned.weights, inputs.normalisation())
    metrics = {
        "online.loss_before": learned.loss_before,
        "online.loss_after": learned.loss_after,
        "online.reward_mean": float(np.mean(frozen.arrays["reward"])),
        "online.transitions": float(frozen.count),
    }
    spec = _spec(champion, job, frozen, config, (metrics, inputs))
    key = development_key() if teaching.key_file is None else load_personal_key(Path(teaching.key_file))
    sha256 = write_artefact(Path(teaching.store), weights, spec, key)
    return TrainingOutcome(model=spec.name, sha256=sha256, transitions=frozen.count, metrics=metrics)


def _champion(teaching: Teaching, start: str) -> Artefact:
    listed = None if teaching.keys_file is None else Path(teaching.keys_file)
    try:
        keys = allowed_keys(listed, development=teaching.allow_development_key)
        store = ModelStore(Path(teaching.store), keys)
        artefact = store.read(start or store.champion(teaching.champion))
        artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
    except (ArtefactRefused, PeopleUnusable) as refused:
        raise Untrainable(TrainingFailure.NO_START, str(refused)) from refused
    return artefact


def _config(champion: Artefact, teaching: Teaching, ordinal: int, transitions: int) -> LearningConfig:
    """Return the learner's own settings, with the discount and the widths that the champion was made with."""
    usual, weights = LearningConfig(), champion.weights
    return LearningConfig(
        seed=teaching.seed + ordinal,
        gamma=float(champion.spec.learning.get("gamma", usual.gamma)),
        learning_rate=teaching.learning_rate,
        memory=transitions,
        phi=(len(weights["phi.0.bias"]), len(weights["phi.1.bias"])),
        rho=(len(weights["rho.0.bias"]), len(weights["rho.1.bias"])),
    )


def _spec(
    champion: Artefact,
    job: TrainingJob,
    frozen: Frozen,
    config: LearningConfig,
    measured: tuple[dict[str, float], Inputs],
) -> ArtefactSpec:
    """Return the spec of a candidate: trained on this run's experience, from the champion on."""
    metrics, inputs = measured
    steps = frozen.count
    begin, end = frozen.position - steps - frozen.skipped + 1, frozen.position
    own = tuple(
        DataRange(
            source=f"{instrument}, rl.experience since {frozen.lineage}",
            begin=f"experience {max(1, begin)}",
            end=f"experience {end}",
            steps=count,
        )
        for instrument, count in frozen.by_instrument().items()
    )
    learning: dict[str, str | int | float | bool] = {
        "kind": "online",
        "gamma": config.gamma,
        "learning_rate": config.learning_rate,
        "gradient_steps": job.teaching.gradient_steps,
        "batch": config.batch,
    }
    return ArtefactSpec(
        name=f"online-{job.request_id[:12]}",
        schema=SCHEMA,
        vote_features=VOTE_FEATURES,
        context_features=CONTEXT_FEATURES,
        targets=TARGETS,
        seed=config.seed,
        trials=champion.spec.trials + job.ordinal,
        data=(*champion.spec.data, *own),
        metrics=metrics,
        libraries=installed_versions(*_LIBRARIES),
        moments=_moments(inputs),
        learning=learning,
        parent=champion.sha256,
    )


def _inputs(frozen: Frozen) -> Inputs:
    """Return what the buffer holds of each feature."""
    arrays = frozen.arrays
    found = Inputs(FeatureSums(len(VOTE_FEATURES)), FeatureSums(len(CONTEXT_FEATURES)))
    found.votes.take(arrays["votes"][arrays["present"] > 0])
    found.context.take(arrays["context"])
    return found


def _moments(inputs: Inputs) -> dict[str, FeatureMoments]:
    found: dict[str, FeatureMoments] = {}
    for names, sums in ((VOTE_FEATURES, inputs.votes), (CONTEXT_FEATURES, inputs.context)):
        for name, mean, deviation in zip(names, sums.mean.tolist(), sums.deviation.tolist(), strict=True):
            found[name] = FeatureMoments(mean=mean, deviation=deviation, count=sums.count)
    return found


def main() -> None:
    """Do the training that lies in a folder, and write there what came of it."""
    parser = argparse.ArgumentParser(description="Train one candidate.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    job = read_job(folder)
    os.nice(job.teaching.nice)
    try:
        outcome = train_candidate(folder, job)
    except Untrainable as reason:
        outcome = TrainingOutcome(failure=reason.reason, detail=str(reason))
    write_outcome(folder, outcome)


if __name__ == "__main__":
    main()
