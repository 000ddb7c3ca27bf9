"""What the decider is told when it is built: its strategies, their policies, and how long what it says may count."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from agents.costs.estimate import CostPrior
from agents.decider.policy import Policy
from agents.decider.policy_source import ModelTerms, NoModels, PolicySource
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_S


class Follows(enum.Enum):
    """Which released model acts in a strategy, if any."""

    NOTHING = "nothing"
    CHAMPION = "champion"
    CANARY = "canary"


@dataclass(frozen=True, slots=True)
class StrategyConfig:
    """One strategy: its account, what it trades, the horizon whose tallies it decides on, and its policy.

    ``policy_stage`` is what decisions of ``policy`` cite. A strategy that follows the champion has ``policy`` to fall
    back on; one that follows the canary wants nothing while there is none, whatever its ``policy``. ``budget`` is the
    notional of target 1 on one instrument, in the account's currency; without it nobody knows what a line holds and
    earns as a share of it, and no loss of a model is watched. ``conversion_rates``: what one unit of a quote currency
    that is not the account's is worth in it.
    """

    name: str
    account: str
    instruments: tuple[str, ...]
    horizon_ns: int
    policy: Policy
    policy_stage: str = "CHAMPION"
    follows: Follows = Follows.NOTHING
    budget: Decimal | None = None
    conversion_rates: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeciderConfig:
    """Settings of the decider.

    ``decision_life_ns``: how long after its tally a decision may be carried out. ``stale_after_ns``: age of the
    newest market record beyond which nothing is decided. ``retry_after_ns``: after how long a target that has not
    come about is asserted again (None: never). ``long_only_aware``: never ask for a short position in what cannot
    be sold short; otherwise risk is left to refuse it. ``cost_priors``: what is believed of costs before the
    first fill of an instrument; without one, the quoted spread and the taker's fee. ``source`` finds released models
    by their digest, ``models`` says which is champion to begin with and what retires one.
    """

    instruments: Mapping[str, InstrumentDefined]
    strategies: tuple[StrategyConfig, ...]
    decision_life_ns: int = 2 * NS_PER_S
    stale_after_ns: int = 5 * NS_PER_S
    retry_after_ns: int | None = 30 * NS_PER_S
    long_only_aware: bool = False
    cost_priors: Mapping[str, CostPrior] = field(default_factory=dict)
    source: PolicySource = field(default_factory=NoModels)
    models: ModelTerms = field(default_factory=ModelTerms)

    def __post_init__(self) -> None:
        """Raise ValueError for a strategy that trades an instrument that is not defined."""
        for strategy in self.strategies:
            missing = [name for name in strategy.instruments if name not in self.instruments]
            if missing:
                raise ValueError(f"The strategy {strategy.name!r} trades {missing[0]!r}, which is not defined.")
