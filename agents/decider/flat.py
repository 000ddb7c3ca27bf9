"""The policy of a strategy that waits for a canary: it wants to hold nothing."""

from typing import Final

from agents.decider.policy import Observation, PolicyAnswer, PolicyContext
from schemas.decisions import NoTradeReason


class FlatPolicy:
    """Wants 0, whatever is held."""

    name: Final = "flat"

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:  # noqa: ARG002
        """Return 0."""
        return PolicyAnswer(0.0, None if context.target else NoTradeReason.NULL_POLICY)
