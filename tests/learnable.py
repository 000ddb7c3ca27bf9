"""A small world with the trading environment's spaces whose best policy is known: votes that know the next return.

Each step has up to five votes in random places; one of them, the seer, foretells the sign of the step's return, and the
only sign of who it is are its weight and its skill. A step earns target x return less a cost for each change of target.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.decider.encoding import CONTEXT_FEATURES, MAX_VOTES, VOTE_FEATURES
from agents.decider.policy import TARGETS

STEP_COST = 0.1
_WEIGHT = VOTE_FEATURES.index("weight")
_LEAN = next(index for index, name in enumerate(VOTE_FEATURES) if name not in ("weight",))


class LearnableWorld(gymnasium.Env[dict[str, np.ndarray], int]):
    """``seen`` = False: the seer guesses, and there is nothing to learn."""

    def __init__(self, seed: int, *, seen: bool = True, length: int = 100) -> None:
        votes, context = len(VOTE_FEATURES), len(CONTEXT_FEATURES)
        self.observation_space = spaces.Dict(
            {
                "votes": spaces.Box(-np.inf, np.inf, (MAX_VOTES, votes), np.float32),
                "present": spaces.Box(0.0, 1.0, (MAX_VOTES,), np.float32),
                "context": spaces.Box(-np.inf, np.inf, (context,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(len(TARGETS))
        self._draws = np.random.default_rng(seed)
        self._seen, self._length = seen, length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._index, self._target = 0, 0.0
        self._next = float(self._draws.standard_normal())
        return self._look(), {}

    def step(self, action: int) -> Any:
        target = TARGETS[int(action)]
        net = target * self._next - STEP_COST * abs(target - self._target)
        self._target, self._index = target, self._index + 1
        self._next = float(self._draws.standard_normal())
        return self._look(), net, False, self._index >= self._length, {"net_return": net}

    def _look(self) -> dict[str, np.ndarray]:
        votes = np.zeros((MAX_VOTES, len(VOTE_FEATURES)), np.float32)
        present = np.zeros(MAX_VOTES, np.float32)
        count = int(self._draws.integers(2, 6))
        places = self._draws.permutation(MAX_VOTES)[:count]
        present[places] = 1.0
        votes[places] = self._draws.standard_normal((count, len(VOTE_FEATURES)))
        votes[places, _WEIGHT] = 0.1
        votes[places[0], _WEIGHT] = 0.6
        lean = np.sign(self._next if self._seen else self._draws.standard_normal())
        votes[places[0], _LEAN] = lean * 0.8 + 0.5
        context = self._draws.standard_normal(len(CONTEXT_FEATURES)).astype(np.float32)
        return {"votes": votes, "present": present, "context": context}
