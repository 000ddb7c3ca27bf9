"""The shaped reward of an Experience: what the training environment and the trainer both learn from, by one function.

An Experience tells what a decision earned; what that is worth also depends on what the line earned before, which is
carried along as a ``Standing``, from one decision of a line to the next.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from agents.reward.shaping import COST_MIN, Fall, Moments, RewardTerms, fallen, moved, shaped
from schemas.feedback import Experience


class Standing(NamedTuple):
    """One line before a decision: the moments of its net returns, its place below its peak, and the exposure held."""

    moments: Moments = Moments()
    fall: Fall = Fall()
    effective: float = 0.0


def one_way_cost(observation: Mapping[str, float | None]) -> float | None:
    """Return what the decider expected a trade to cost one way, as a fraction of the mid; None without a market."""
    spread, fee = observation.get("spread_relative"), observation.get("cost.fee")
    if spread is None or fee is None:
        return None
    return max(0.0, spread / 2 + (observation.get("cost.excess") or 0.0)) + fee


def rewarded(standing: Standing, experience: Experience, budget: Decimal, terms: RewardTerms) -> tuple[Standing, float]:
    """Return where the line stands after an Experience, and the reward of its decision.

    ``budget`` is what target 1 puts on the instrument, in the account's currency. What was traded is taken to be the
    change of the exposure held. Without a market at the decision, when nothing can be traded, the least cost counts.
    """
    net_return = float(experience.reward / budget)
    expected = one_way_cost(experience.observation)
    fall, deeper = fallen(standing.fall, net_return)
    turnover = abs(experience.effective - standing.effective)
    cost = COST_MIN if expected is None else expected
    reward = shaped(standing.moments, net_return, cost, deeper, turnover, terms=terms)
    return Standing(moved(standing.moments, net_return, terms.decay), fall, experience.effective), reward
