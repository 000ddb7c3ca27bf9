"""The rule to beat: pooled conviction times volatility target, moved only when the expected gain exceeds the cost.

Without the last condition a rule that is right more often than not still loses to the spread and the fees.
"""

import math
from dataclasses import dataclass
from typing import Final

from agents.decider.policy import TARGETS, Observation, PolicyAnswer, PolicyContext
from schemas.decisions import NoTradeReason
from schemas.values import NS_PER_S

MEAN_BEYOND_BAND: Final = 1.09
"""E[Z | Z > 0.43] of a standard normal: what a move is worth, in sigmas, given that it left the flat band."""


@dataclass(frozen=True, slots=True)
class BaselinePolicy:
    """Pool x volatility target with cost-aware hysteresis.

    ``full_conviction`` is the |p_up - p_down| that earns the whole budget; ``volatility_target`` the volatility
    per square root of a second (fraction of the mid) above which the target shrinks; ``cost_multiple`` how many
    times the cost the expected gain must be.
    """

    full_conviction: float = 0.3
    volatility_target: float = 0.0002
    cost_multiple: float = 1.0
    name: str = "baseline"

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        """Return the target on the lattice, or the one in force with the reason for keeping it."""
        volatility, spread = observation["volatility"], observation["spread_relative"]
        conviction = observation["conviction"]
        if conviction is None:
            return PolicyAnswer(context.target, NoTradeReason.NO_DIRECTION)
        if volatility is None or volatility <= 0:
            return PolicyAnswer(context.target, NoTradeReason.WARMING_UP)
        if spread is None:
            return PolicyAnswer(context.target, NoTradeReason.NO_MARKET)
        sigma = volatility * math.sqrt(context.tally.horizon_ns / NS_PER_S)
        edge = conviction * MEAN_BEYOND_BAND * sigma
        one_way = context.one_way_cost(spread / 2)
        target = self._wanted(conviction, volatility)
        gain = (target - context.target) * edge
        if target == context.target:
            return PolicyAnswer(target, NoTradeReason.TARGET_UNCHANGED, edge, 2 * one_way)
        if gain <= self.cost_multiple * moving_cost(context.target, target, one_way):
            return PolicyAnswer(context.target, NoTradeReason.EDGE_BELOW_COST, edge, 2 * one_way)
        return PolicyAnswer(target, None, edge, 2 * one_way)

    def _wanted(self, conviction: float, volatility: float) -> float:
        share = min(1.0, abs(conviction) / self.full_conviction)
        raw = math.copysign(share * min(1.0, self.volatility_target / volatility), conviction)
        return min(TARGETS, key=lambda target: (abs(target - raw), abs(target)))


def moving_cost(current: float, target: float, one_way: float) -> float:
    """Return what going from one target to another costs, per unit of budget.

    What is opened will have to be closed and pays both ways; what is closed has its way back behind it.
    """
    opened = abs(target) if current * target < 0 else max(0.0, abs(target) - abs(current))
    closed = abs(target - current) - opened
    return 2 * one_way * opened + one_way * closed
