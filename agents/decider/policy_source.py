"""The port by which the decider comes to released models: by the digest of their artefact, and by nothing else.

A digest names bytes, so that the policy it leads to is a function of it: live, in a replay and after a restart.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agents.decider.policy import Observation, Policy
from agents.release.drift import DriftTerms


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy that was verified, with its inputs as its training had them.

    ``standardised`` gives an observation's features as deviations from their mean in training, in units of their
    standard deviation there, always as many and in one order; None where the observation has none. Without it the
    policy's inputs are not watched. ``markets`` are the instruments that it was trained on; None: nobody has said, and
    it may act on all.
    """

    policy: Policy
    standardised: Callable[[Observation], tuple[float | None, ...]] | None = None
    markets: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class PolicyRefused:
    """An artefact that is not to be used, and why in one sentence."""

    sentence: str


class PolicySource(Protocol):
    """Finds policies. The same digest gives the same answer, or at any later time a refusal."""

    def policy(self, sha256: str) -> LoadedPolicy | PolicyRefused:
        """Return the policy of this artefact, or why there is none. Raises nothing for whatever the store holds."""


class NoModels:
    """The source of a run without a model store."""

    def policy(self, sha256: str) -> LoadedPolicy | PolicyRefused:  # noqa: ARG002
        """Refuse."""
        return PolicyRefused("This run has no store of models.")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model and the digest of its artefact."""

    model: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """What holds for released models.

    ``champion`` is the one in force until a release names another. ``loss_max``: a model whose lines have lost more
    than this share of their budget, from the best they had since it came into force, is retired. ``drift``: when its
    inputs count as other than those of its training; None: they are not watched. ``act_outside_training``: whether a
    model acts on instruments, too, that it was not trained on.
    """

    champion: ModelName | None = None
    loss_max: float = 0.05
    drift: DriftTerms | None = field(default_factory=DriftTerms)
    act_outside_training: bool = False
