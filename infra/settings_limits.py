"""The hard limits as settings: numbers by name, which the platform's own check of limits then reads.

They are kept as data because the names belong to ``agents.limits``, which infra does not see.
"""

from pydantic import Field

from infra.settings_sections import Name, Positive, Section

LimitSet = dict[Name, Positive]


class InstrumentLimits(Section):
    """Caps of one instrument, beside those of the account: order quantity, and position value in its money.

    Nobody may trade a ``restricted`` one.
    """

    order_quantity_max: Positive | None = None
    position_value_max: Positive | None = None
    restricted: bool = False


class StrategyLimits(Section):
    """A strategy's own thresholds, in its account's money: the loss of a day, and its gross exposure."""

    loss_max: Positive | None = None
    exposure_max: Positive | None = None


class LimitSettings(Section):
    """Hard limits, kept as data: the composition root hands them to ``agents.limits``, which knows the names.

    ``global`` holds for every account; a value of ``account`` stands in its place; ``instrument`` caps further,
    and so does ``strategy``, of which ``*`` is whichever is not named.
    """

    global_: LimitSet = Field(default_factory=dict, alias="global")
    account: dict[str, LimitSet] = {}
    instrument: dict[str, InstrumentLimits] = {}
    strategy: dict[str, StrategyLimits] = {}

    def further(self) -> dict[str, object]:
        """Return what holds for single instruments and strategies, by the names of the limits."""
        caps, own = self.instrument, self.strategy
        return {
            "order_quantity_max": {
                name: cap.order_quantity_max for name, cap in caps.items() if cap.order_quantity_max
            },
            "position_value_max_of": {
                name: cap.position_value_max for name, cap in caps.items() if cap.position_value_max
            },
            "restricted": tuple(name for name, cap in caps.items() if cap.restricted),
            "strategy_loss_max": {name: item.loss_max for name, item in own.items() if item.loss_max},
            "strategy_exposure_max": {name: item.exposure_max for name, item in own.items() if item.exposure_max},
        }
