"""What feedback is told at the start: instruments, who trades what with which budget, and how long it waits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from agents.feedback.scoring import PROBABILITY_FLOOR
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_S


@dataclass(frozen=True, slots=True)
class StrategyFeedback:
    """One strategy: its account and its currency, what it trades, on which horizon, and the budget at target 1.

    ``conversion_rates``: what one unit of another currency (of quotes or of fees) is worth in ``currency``.
    """

    name: str
    account: str
    currency: str
    instruments: tuple[str, ...]
    horizon_ns: int
    budget: Decimal
    conversion_rates: Mapping[str, Decimal] = field(default_factory=dict)

    def rate(self, currency: str) -> Decimal:
        """Return what one unit of ``currency`` is worth in the account's. Raises KeyError when that is not known."""
        return Decimal(1) if currency == self.currency else self.conversion_rates[currency]


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """Settings of the feedback stage.

    ``probability_floor``: a probability below it is scored as if it were it, so that one loss is at most 1.
    ``grace_ns``: how long after its horizon a ballot waits for a mark, and how long a mark is kept for a tally
    that comes late. Raises ValueError for what cannot be valued.
    """

    instruments: Mapping[str, InstrumentDefined]
    strategies: Mapping[str, StrategyFeedback]
    probability_floor: float = PROBABILITY_FLOOR
    grace_ns: int = 10 * NS_PER_S

    def __post_init__(self) -> None:
        if not 0 < self.probability_floor < 1 / 3:
            raise ValueError(f"The probability floor must lie between 0 and 1/3, not {self.probability_floor}.")
        for strategy in self.strategies.values():
            for name in strategy.instruments:
                instrument = self.instruments.get(name)
                if instrument is None or instrument.inverse:
                    raise ValueError(f"The strategy {strategy.name!r} trades {name!r}: not defined, or inverse.")
                if instrument.quote_currency not in (strategy.currency, *strategy.conversion_rates):
                    raise ValueError(f"The strategy {strategy.name!r} has no rate for {instrument.quote_currency}.")
