"""The port of policies: whoever decides is asked the same way, whether a rule, a test probe or a learned network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from agents.costs.estimate import CostEstimate
from schemas.decisions import NoTradeReason
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark, VoteTally

TARGETS: Final = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""The lattice of targets, as shares of the instrument's risk budget."""

Observation = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy is told beside the observation.

    ``target`` is the exposure in force; ``ballots`` counts the ballots this (strategy, instrument) has decided
    before this one. ``costs`` is what trading has been found to cost here; None: the quoted spread and the taker's fee.
    """

    tally: VoteTally
    mark: MarketMark
    instrument: InstrumentDefined
    target: float
    ballots: int
    costs: CostEstimate | None = None

    def one_way_cost(self, half_spread: float) -> float:
        """Return what a trade is expected to cost one way, as a fraction of the mid."""
        if self.costs is None:
            return half_spread + float(self.instrument.taker_fee_rate)
        return self.costs.one_way(half_spread)


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """What a policy wants: a target in [-1, 1], and why it keeps the one in force when it does.

    ``edge`` is the expected move over the horizon and ``cost`` the round-trip cost, as fractions of the mid; null
    when the policy has no such figure.
    """

    target: float
    reason: NoTradeReason | None = None
    edge: float | None = None
    cost: float | None = None


class Policy(Protocol):
    """A pure decision rule. It holds settings, never state: the same observation and context give the same answer."""

    @property
    def name(self) -> str:
        """The policy's name, as releases and decisions cite it."""

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        """Return the wanted target for one tally."""
