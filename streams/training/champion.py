"""The champion's recipe: on what it learns, for how long, on what it is judged, and what is written down of it.

Everything that counts is here or in the settings, and nothing depends on the day, so that whoever follows the recipe on
the same machine with the same lock gets the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.decider.policy import TARGETS
from agents.decider.set_policy import SetPolicy
from agents.sim.tape import Tape
from agents.statistics.intervals import day_block_interval
from infra.artefacts import ArtefactSpec, write_artefact, write_directory
from infra.models.spec import DataRange, FeatureMoments, installed_versions
from infra.models.store import SHIPPED
from infra.people import PersonalKey
from streams.training.learner import LearningConfig, train
from streams.training.markets import Market, environment_of, tapes_of
from streams.training.network import Weights
from streams.training.normalisation import FeatureSums, Inputs, inputs_under
from streams.training.playing import greedy, play
from streams.training.restandardise import restandardised

LIBRARIES: Final = ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "numpy")
DROPOUT: Final = 0.3
_PER_DECISIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a champion is made. ``trials``: how many recipes were tried on the held-out markets before this one.

    ``input_steps``: on how many steps of its own policy the inputs of the spec are taken.
    """

    learning: LearningConfig
    train: tuple[Market, ...]
    held_out: tuple[Market, ...]
    trials: int
    name: str = "champion"
    input_steps: int = 10_000


CHAMPION: Final = Recipe(
    learning=LearningConfig(steps=40_000),
    train=tuple(Market("mixed", seed, 600.0) for seed in range(101, 107)),
    held_out=(
        *(Market("mixed", seed, 600.0) for seed in range(201, 205)),
        *(Market(regime, seed, 300.0) for regime in ("trending", "reverting", "quiet") for seed in (211, 212)),
    ),
    trials=1,
)


@dataclass(frozen=True, slots=True)
class Made:
    """A policy and what is written down of it."""

    weights: Weights
    spec: ArtefactSpec


def make_champion(recipe: Recipe, settings_file: Path | None, *, progress: Callable[[int], None] | None = None) -> Made:
    """Follow a recipe by the settings of a file (the default one for None). Raises SettingsError."""
    tapes = {market: tapes_of(market, settings_file) for market in (*recipe.train, *recipe.held_out)}
    own = [tape for market in recipe.train for tape in tapes[market]]
    environment = environment_of(own, recipe.learning.seed, dropout=DROPOUT)
    trained = train(environment, recipe.learning, progress=progress)
    policy = SetPolicy(recipe.name, trained.weights)
    inputs = inputs_under(environment, lambda seen: greedy(policy, seen), recipe.input_steps, recipe.learning.seed)
    weights = restandardised(trained.weights, inputs.normalisation())
    metrics = judged(SetPolicy(recipe.name, weights), {market: tapes[market] for market in recipe.held_out})
    return Made(weights, _spec(recipe, tapes, inputs, metrics))


def judged(policy: SetPolicy, tapes: Mapping[Market, Sequence[Tape]]) -> dict[str, float]:
    """Return net profit and turnover of a policy by regime, in budgets for each thousand decisions.

    ``low`` and ``high`` bound the 95 % interval over whole tapes, each an instrument's market of its own seed.
    """
    metrics: dict[str, float] = {}
    for regime in dict.fromkeys(market.regime for market in tapes):
        own = [tape for market, found in tapes.items() if market.regime == regime for tape in found]
        nets, trades = [], []
        for tape in own:
            played = play(environment_of([tape], 0, episode_steps=None), policy, {"tape": 0, "start": 0})
            nets.append(played.net / len(played.targets) * _PER_DECISIONS)
            trades.append(played.turnover / len(played.targets) * _PER_DECISIONS)
        interval = day_block_interval(nets)
        metrics |= {f"{regime}.net": interval.mean, f"{regime}.low": interval.low, f"{regime}.high": interval.high}
        metrics[f"{regime}.turnover"] = float(np.mean(trades))
    return metrics


def write_champion(store: Path, made: Made, key: PersonalKey) -> str:
    """Write the policy into a store; return its sha256. Raises ArtefactRefused, and OSError."""
    return write_artefact(store, made.weights, made.spec, key)


def write_shipped(made: Made, key: PersonalKey) -> str:
    """Write the policy in the place of the champion that ships; return its sha256. Raises ArtefactRefused, OSError."""
    return write_directory(SHIPPED, made.weights, made.spec, key)


def _spec(
    recipe: Recipe, tapes: Mapping[Market, Sequence[Tape]], inputs: Inputs, metrics: dict[str, float]
) -> ArtefactSpec:
    learning: dict[str, Any] = asdict(recipe.learning)
    return ArtefactSpec(
        name=recipe.name,
        schema=SCHEMA,
        vote_features=VOTE_FEATURES,
        context_features=CONTEXT_FEATURES,
        targets=TARGETS,
        seed=recipe.learning.seed,
        trials=recipe.trials,
        data=tuple(_range(market, tape) for market in recipe.train for tape in tapes[market]),
        metrics=metrics,
        libraries=installed_versions(*LIBRARIES),
        moments=_moments(VOTE_FEATURES, inputs.votes) | _moments(CONTEXT_FEATURES, inputs.context),
        learning={name: str(value) if isinstance(value, tuple) else value for name, value in learning.items()},
    )


def _range(market: Market, tape: Tape) -> DataRange:
    source = f"{tape.desk.instrument.key}, simulated, {market.regime}, seed {market.seed}"
    return DataRange(source=source, begin="0 s", end=f"{market.seconds:g} s", steps=len(tape))


def _moments(names: tuple[str, ...], sums: FeatureSums) -> dict[str, FeatureMoments]:
    means, deviations = sums.mean.tolist(), sums.deviation.tolist()
    return {
        name: FeatureMoments(mean=mean, deviation=deviation, count=sums.count)
        for name, mean, deviation in zip(names, means, deviations, strict=True)
    }
