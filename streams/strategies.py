"""A strategy's settings as risk takes them."""

from collections.abc import Mapping
from decimal import Decimal

from agents.risk.config import AmendPower, ProtectionTerms, StrategyRisk
from infra.feeds.binance.parse import SPOT
from infra.settings_strategies import StrategySettings
from schemas.market import InstrumentDefined
from schemas.values import OrderType


def strategy_risk(name: str, strategy: StrategySettings, budget: Decimal) -> StrategyRisk:
    """Return what risk is told of a strategy; ``budget`` is what target 1 puts on one instrument."""
    protection = None
    if strategy.stop_loss is not None:
        protection = ProtectionTerms(strategy.stop_loss, strategy.take_profit, strategy.stop_limit)
    return StrategyRisk(
        name=name,
        account=strategy.account,
        budget=budget,
        order_type=OrderType(strategy.order_type),
        time_in_force=strategy.time_in_force,
        aggression_ticks=strategy.aggression_ticks,
        protection=protection,
        amend=strategy.amend,
    )


def amend_powers(run_instruments: Mapping[str, InstrumentDefined], *, on_binance: bool) -> dict[str, AmendPower]:
    """Return what each instrument's venue can change of a resting order.

    The simulated exchange changes anything; Binance only makes orders smaller (``order.amend.keepPriority``).
    """
    return {
        name: AmendPower.DOWN if on_binance and item.venue == SPOT else AmendPower.ANY
        for name, item in run_instruments.items()
    }
