"""Any policy followed over a whole tape through the real stages: rules and networks, one way for all of them.

The learner's environment shows a policy what its network reads; a rule wants the observation itself and the costs
beside it. Here both are asked through the port that the decider asks through: contestants differ in nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from agents.costs.estimate import CostEstimate
from agents.decider.policy import Policy, PolicyContext
from agents.sim.desk import Session
from agents.sim.env import TapeMarket
from agents.sim.tape import Tape
from benchmarks.contest import Day
from schemas.opinions import MarketMark, VoteTally
from schemas.values import NS_PER_S, ZERO

CLOSING_STEPS: Final = 3
"""So many decisions before the end of a tape everybody is told to be flat: nobody leaves a position unpaid for."""


@dataclass(slots=True)
class _Books:
    """What was earned step by step, as shares of the budget."""

    returns: list[float]
    exposures: list[float]
    fees: float = 0.0
    slippage: float = 0.0

    def take(self, session: Session) -> None:
        """Note what has been told of decisions since the last call; a step of which nothing was told earned nothing."""
        budget, net, held = session.desk.budget, ZERO, None
        for experience in session.take_experiences():
            net += experience.reward
            held = experience.effective
            self.fees += float(experience.fees / budget)
            self.slippage += float(experience.slippage / budget)
        self.returns.append(float(net / budget))
        self.exposures.append(held if held is not None else self.exposures[-1] if self.exposures else 0.0)


def follow(tape: Tape, policy: Policy, label: str) -> Day:
    """Let the policy act on every step of a tape and return what came of it; the position is closed at the end."""
    market = TapeMarket(tape, 0)
    session = Session(tape.desk, market.engine)
    books = _Books([], [])
    mark: MarketMark | None = None
    for index in range(len(tape)):
        step = market.next(session)
        for alert in step.alerts:
            session.publish(alert)
        for mark in step.marks:
            session.publish(mark)
        observation = session.consider(step.tally)
        books.take(session)
        if index >= len(tape) - 1:
            break
        wanted = 0.0
        if mark is not None and observation and index < len(tape) - 1 - CLOSING_STEPS:
            wanted = policy.decide(observation, _context(tape, step.tally, mark, (observation, index))).target
        session.decide(wanted)
    return Day(
        label=label,
        net_returns=np.array(books.returns[1:]),
        exposures=np.array(books.exposures[1:]),
        fees=books.fees,
        slippage=books.slippage,
        step_s=tape.desk.instrument.grid_ns / NS_PER_S,
    )


def _context(
    tape: Tape, tally: VoteTally, mark: MarketMark, seen: tuple[Mapping[str, float | None], int]
) -> PolicyContext:
    """Return what the decider would have told the policy beside its observation, out of that."""
    observation, ballots = seen
    excess, fee = observation.get("cost.excess"), observation.get("cost.fee")
    costs = None if excess is None or fee is None else CostEstimate(excess, fee, 0.0, 0)
    return PolicyContext(tally, mark, tape.desk.instrument, observation["target"] or 0.0, ballots, costs)
