"""A strategy's settings as the decider and risk take them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from agents.decider.baseline import BaselinePolicy
from agents.decider.config import Follows, StrategyConfig
from agents.decider.null import NullPolicy
from agents.decider.policy import Policy
from agents.decider.probe import ProbePolicy
from agents.risk.config import AmendPower, ProtectionTerms, StrategyRisk
from infra.feeds.binance.parse import SPOT
from infra.settings_strategies import StrategySettings
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_S, OrderType

_FOLLOWING: Final = {"champion": Follows.CHAMPION, "canary": Follows.CANARY}


def strategy_config(
    name: str,
    strategy: StrategySettings,
    instruments: tuple[str, ...],
    budget: Decimal,
    conversion_rates: Mapping[str, Decimal],
) -> StrategyConfig:
    """Return what the decider is told of a strategy that trades these instruments. Raises ValueError.

    ``budget`` is what target 1 puts on one instrument, and ``conversion_rates`` are its account's.
    """
    follows = _FOLLOWING.get(strategy.policy, Follows.NOTHING)
    kind = strategy.policy if follows is Follows.NOTHING else strategy.fallback
    return StrategyConfig(
        name=name,
        account=strategy.account,
        instruments=instruments,
        horizon_ns=strategy.horizon_s * NS_PER_S,
        policy=_policy(name, kind, strategy),
        follows=follows,
        budget=budget,
        conversion_rates=dict(conversion_rates),
    )


def _policy(name: str, kind: str, strategy: StrategySettings) -> Policy:
    numbers: dict[str, Any] = {key: float(value) for key, value in strategy.parameters.items()}
    try:
        if kind == "baseline":
            return BaselinePolicy(**numbers)
        if kind == "probe":
            return ProbePolicy(**{key: int(value) if key == "every" else value for key, value in numbers.items()})
        return NullPolicy(**numbers)
    except TypeError as error:
        sentence = f"policy {kind!r} of strategy {name} lacks a parameter among {', '.join(sorted(numbers))}"
        raise ValueError(sentence) from error
    except ValueError as error:
        raise ValueError(f"strategy {name}: {error}") from error


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
