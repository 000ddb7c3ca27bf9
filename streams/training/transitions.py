"""From an experience to the transition that a learner takes: what was seen, which target was wanted, what it earned.

The wanted target stands for the action, and not the exposure that was held: whatever limits, venue and other orders
made of it is part of the world that the policy acts in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.decider.encoding import MAX_VOTES, SCHEMA, VOTE_FEATURES, Encoded, encode
from agents.decider.policy import TARGETS
from agents.reward.experience import Standing, rewarded
from agents.reward.shaping import RewardTerms
from schemas.feedback import Experience

_WEIGHT: Final = VOTE_FEATURES.index("weight")
_LATTICE: Final = np.array(TARGETS)


@dataclass(frozen=True, slots=True)
class TransitionTerms:
    """How experiences are read: ``budgets`` is strategy -> the notional of target 1, in the account's currency."""

    budgets: Mapping[str, Decimal]
    reward: RewardTerms = field(default_factory=RewardTerms)

    @property
    def identity(self) -> str:
        """What a buffer's content depends on; one of another identity cannot be gone on with."""
        return f"{SCHEMA}; {MAX_VOTES} votes; {self.reward}"


@dataclass(frozen=True, slots=True)
class Transition:
    """One step. ``action`` is an index into TARGETS; ``reward`` is shaped and has no unit."""

    seen: Encoded
    following: Encoded
    action: int
    reward: float


def transition(
    experience: Experience, standing: Standing, terms: TransitionTerms
) -> tuple[Transition, Standing] | None:
    """Return the transition and where its line stands afterwards.

    None for an experience of no use: of a strategy that has no budget here, or with a target that is no number.
    """
    budget = terms.budgets.get(experience.strategy)
    if budget is None or not math.isfinite(experience.intended + experience.effective):
        return None
    after, reward = rewarded(standing, experience, budget, terms.reward)
    action = int(np.argmin(np.abs(_LATTICE - experience.intended)))
    return Transition(encode(experience.observation), encode(experience.next_observation), action, reward), after


def padded(votes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return votes [n, V] as [MAX_VOTES, V] with flags of those that are there; of too many, those that weigh most."""
    if len(votes) > MAX_VOTES:
        votes = votes[np.argsort(-votes[:, _WEIGHT], kind="stable")[:MAX_VOTES]]
    rows = np.zeros((MAX_VOTES, len(VOTE_FEATURES)), np.float32)
    present = np.zeros(MAX_VOTES, np.float32)
    rows[: len(votes)] = votes
    present[: len(votes)] = 1.0
    return rows, present
