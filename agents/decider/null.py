"""The policy that never trades: the baseline of baselines, and a safe stand-in."""

from typing import Final

from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from schemas.decisions import NoTradeReason


class NullPolicy:
    """Keeps whatever target is in force."""

    name: Final = "null"

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:  # noqa: ARG002
        """Return the target in force."""
        return PolicyAnswer(context.target, NoTradeReason.NULL_POLICY)
