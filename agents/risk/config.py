"""What risk is told at the start: instruments, limits by account, and each strategy's budget and way of trading."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from agents.limits.book import EffectiveLimits, LimitBook
from agents.limits.limit_set import LimitSet
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_S, Level, OrderType, TimeInForce


@dataclass(frozen=True, slots=True)
class ProtectionTerms:
    """How a strategy's positions are protected, in fractions of their entry price.

    A stop waits at ``stop_loss`` on the losing side; with ``stop_limit`` it sells no lower (buys no higher) than that
    fraction beyond. At a gain of ``take_profit`` the position is closed by a limit order.
    """

    stop_loss: Decimal
    take_profit: Decimal | None = None
    stop_limit: Decimal | None = None


class AmendPower(enum.StrEnum):
    """What a venue can change of an order that rests there: nothing, its quantity downwards, or quantity and price."""

    NONE = "NONE"
    DOWN = "DOWN"
    ANY = "ANY"


@dataclass(frozen=True, slots=True)
class StrategyRisk:
    """One strategy's share: at target 1 it holds ``budget`` (in the account's currency) of each instrument.

    A taking order (IOC, FOK) is priced ``aggression_ticks`` beyond the touch it takes, a resting one (GTC,
    POST_ONLY) at the touch it joins; neither beyond the account's collar. ``amend``: an order that rests is
    changed, where the venue can, rather than taken out for another.
    """

    name: str
    account: str
    budget: Decimal
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.IOC
    aggression_ticks: int = 10
    protection: ProtectionTerms | None = None
    amend: bool = True


@dataclass(frozen=True, slots=True)
class RiskConfig:
    """Settings of the risk stage.

    ``limits`` are each account's at the first start, and ``book`` the same as sets by scope; what is in force later is
    in the state.
    ``breach_level`` is what a loss or drawdown beyond its limit latches at the account. ``order_life_ns`` is how
    long an order of risk's own (a flatten) may take to reach the venue. ``amends``: what the venue of an instrument can
    change; nothing where it is not named.
    """

    instruments: Mapping[str, InstrumentDefined]
    limits: Mapping[str, LimitSet]
    strategies: Mapping[str, StrategyRisk]
    breach_level: Level = Level.HALTED
    order_life_ns: int = 2 * NS_PER_S
    book: LimitBook | None = None
    amends: Mapping[str, AmendPower] = field(default_factory=dict)
    effective: EffectiveLimits = field(init=False)

    def __post_init__(self) -> None:
        """Raise ValueError for a strategy whose account has no limits."""
        for strategy in self.strategies.values():
            if strategy.account not in self.limits:
                raise ValueError(f"The strategy {strategy.name!r} trades {strategy.account!r}, which has no limits.")
        object.__setattr__(self, "effective", EffectiveLimits(self.limits, self.book))
