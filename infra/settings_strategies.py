"""A strategy's section of the settings: who acts, with how much, in which way, and how what it holds is protected."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.settings_sections import InstrumentName, Name, Number, Seconds, Section, Share, Whole
from schemas.values import OrderType, TimeInForce

Fraction = Annotated[Number, Field(gt=0, lt=1)]


class StrategySettings(Section):
    """One strategy: which policy acts for which account, on what, and how far.

    ``share`` is the part of the account's capital that the strategy acts with, ``risk_budget`` the part of that
    which target 1 puts on one instrument. ``instruments`` may be ``["*"]``: all of the run. A taking order is
    priced ``aggression_ticks`` beyond the touch. With ``amend`` an order that rests
    is changed, where the venue can, rather than taken out for another. ``parameters`` are the policy's own numbers.

    With the policy ``champion`` the released champion acts, and ``fallback`` while there is none that is fit; with
    ``canary`` the released canary, and nothing is held while there is none. ``parameters`` are then the fallback's.

    ``stop_loss`` and ``take_profit`` are fractions of a position's entry price at which it is closed, ``stop_limit``
    how far beyond the stop price it still may be; without it, as far as the account's collar.
    """

    name: Name
    account: Name
    policy: Literal["baseline", "null", "probe", "champion", "canary"] = "baseline"
    fallback: Literal["baseline", "null"] = "baseline"
    horizon_s: Seconds = 10
    instruments: Annotated[tuple[InstrumentName | Literal["*"], ...], Field(min_length=1)] = ("*",)
    share: Share = Decimal(1)
    risk_budget: Annotated[Number, Field(gt=0, le=10)]
    order_type: Literal["LIMIT", "MARKET"] = "LIMIT"
    time_in_force: TimeInForce = TimeInForce.IOC
    aggression_ticks: Annotated[Whole, Field(ge=0, le=10_000)] = 10
    amend: bool = True
    stop_loss: Fraction | None = None
    take_profit: Fraction | None = None
    stop_limit: Fraction | None = None
    parameters: dict[Name, Number] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.order_type == OrderType.MARKET and self.time_in_force is not TimeInForce.IOC:
            raise ValueError("a MARKET order takes what there is: its time_in_force is IOC")
        if self.stop_loss is None and (self.take_profit is not None or self.stop_limit is not None):
            raise ValueError("take_profit and stop_limit need stop_loss")
        return self
