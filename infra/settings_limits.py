"""The hard limits as settings: numbers by name, which the platform's own check of limits then reads.

They are kept as data because the names belong to ``agents.limits``, which infra does not see.
"""

from pydantic import Field

from infra.settings_sections import Name, Positive, Section

LimitSet = dict[Name, Positive]


class InstrumentLimits(Section):
    """Caps of one instrument, beside those of the account: order quantity, and position value in its money."""

    order_quantity_max: Positive | None = None
    position_value_max: Positive | None = None


class LimitSettings(Section):
    """Hard limits, kept as data: the composition root hands them to ``agents.limits``, which knows the names.

    ``global`` holds for every account; a value of ``account`` stands in its place; ``instrument`` caps further.
    """

    global_: LimitSet = Field(default_factory=dict, alias="global")
    account: dict[str, LimitSet] = {}
    instrument: dict[str, InstrumentLimits] = {}
