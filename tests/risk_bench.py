"""One shard of risk to test: two strategies on one account, and one line for what a test gives it."""

from decimal import Decimal
from typing import Any

from money_events import INSTRUMENTS, limits

from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.risk.state import LEVELS_KEY, AccountRisk, Levels
from agents.stage import ShardState, run_step
from schemas.event import Event
from schemas.values import TimeInForce


class Bench:
    """One shard of risk, and the events it has emitted."""

    def __init__(self, time_in_force: TimeInForce = TimeInForce.IOC, **changes: Any) -> None:
        strategies = {
            name: StrategyRisk(name, "main", Decimal(1_000), time_in_force=time_in_force) for name in ("alpha", "beta")
        }
        self.stage = Risk(RiskConfig(INSTRUMENTS, {"main": limits(**changes)}, strategies))
        self.state = ShardState()

    def give(self, *events: Event) -> list[Any]:
        found: list[Any] = []
        for event in events:
            found += run_step(self.stage, self.state, event)[1]
        return found

    @property
    def account(self) -> AccountRisk:
        found: AccountRisk = self.state["account/main"]
        return found

    @property
    def levels(self) -> Levels:
        found: Levels = self.state[LEVELS_KEY]
        return found
