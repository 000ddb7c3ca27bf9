"""A strategy's settings as risk takes them."""

from decimal import Decimal

from agents.risk.config import ProtectionTerms, StrategyRisk
from infra.settings_strategies import StrategySettings
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
    )
