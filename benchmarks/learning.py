"""Networks for contests: learnt on given tapes, with the votes or with the pool alone, by the champion's own recipe.

torch is needed by what is here and by nothing else of the contests: without it they run among rules and the champion.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.decider.policy import Policy
from agents.decider.set_policy import SetPolicy
from agents.sim.tape import Tape
from benchmarks.results import say
from streams.training.champion import CHAMPION, DROPOUT
from streams.training.learner import LearningConfig, train
from streams.training.markets import environment_of
from streams.training.pools import without_votes

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(slots=True)
class Learner:
    """One network that learns on more and more tapes, going on from what it knew. ``votes``: does it see them?"""

    name: str
    votes: bool
    steps: int
    seed: int
    _weights: Weights | None = None
    runs: int = 0

    def config(self) -> LearningConfig:
        """Return the champion's recipe with our steps; memory and warm-up never longer than those."""
        recipe = CHAMPION.learning
        return replace(
            recipe,
            seed=self.seed + self.runs,
            steps=self.steps,
            memory=min(recipe.memory, self.steps),
            warm_up=min(recipe.warm_up, self.steps // 10),
            moment_steps=min(recipe.moment_steps, self.steps),
        )

    def seen(self, tape: Tape) -> Tape:
        """Return the tape as this network sees it."""
        return tape if self.votes else tape.with_tallies(without_votes(tape.tallies))

    def learn(self, tapes: Sequence[Tape]) -> Policy:
        """Learn on these tapes, from what was learnt before, and return the policy."""
        began = time.perf_counter()
        config = self.config()
        environment = environment_of([self.seen(tape) for tape in tapes], config.seed, dropout=DROPOUT)
        trained = train(environment, config, start=self._weights)
        self._weights, self.runs = trained.weights, self.runs + 1
        say(f"{self.name}: {self.steps} steps on {len(tapes)} tapes in {time.perf_counter() - began:.0f} s")
        return SetPolicy(self.name, trained.weights)

    def told(self) -> dict[str, Any]:
        """Return what is written down of it."""
        return {"votes": self.votes, "steps_each": self.steps, "runs": self.runs, "seed": self.seed}
