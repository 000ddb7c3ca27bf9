"""The hard limits as settings: numbers by name, which the platform's own check of limits then reads.

They are kept as data because the names belong to ``agents.limits``, which infra does not see.
"""

from typing import Annotated

from pydantic import Field

from infra.settings_sections import InstrumentName, Name, Positive, Section, Whole

LimitSet = dict[Name, Positive]


class InstrumentLimits(Section):
    """Caps of one instrument, beside those of the account: order quantity, and position value in its money.

    Nobody may trade a ``restricted`` one.
    """

    order_quantity_max: Positive | None = None
    position_value_max: Positive | None = None
    restricted: bool = False


class StrategyLimits(Section):
    """A strategy's own thresholds, in its account's money: the loss of a day, and its gross exposure.

    With any of the others it is a canary, on trial within caps: which instruments, how much an order and all that it
    holds may be worth, and how many orders a day.
    """

    loss_max: Positive | None = None
    exposure_max: Positive | None = None
    instruments: tuple[InstrumentName, ...] | None = None
    order_value_max: Positive | None = None
    position_value_max: Positive | None = None
    orders_per_day_max: Annotated[Whole, Field(ge=1)] | None = None


class LimitSettings(Section):
    """Hard limits, kept as data: the composition root hands them to ``agents.limits``, which knows the names.

    ``global`` holds for every account; a value of ``account`` stands in its place; ``instrument`` caps further,
    and so does ``strategy``, of which ``*`` is whichever is not named.
    """

    global_: LimitSet = Field(default_factory=dict, alias="global")
    account: dict[str, LimitSet] = {}
    instrument: dict[str, InstrumentLimits] = {}
    strategy: dict[str, StrategyLimits] = {}
