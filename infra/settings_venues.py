"""The venues in the settings that are not ours: each a section of its own, absent unless it is to be traded on."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from infra.settings_sections import Milliseconds, Number, Section, Share, Whole


class BinanceSettings(Section):
    """Binance spot: which of its networks, who we are there (by file), and how exact time must be.

    A request is refused by the venue once it is ``recv_window_ms`` old. Our clock may be ``clock_skew_max_ms`` off the
    venue's; it is looked at every ``clock_interval_ms``. ``weight_share`` is the part of the venue's request limits
    that is used, of which cancels may use all and everything else what ``cancel_reserve`` leaves.
    """

    profile: Literal["testnet", "production"] = "testnet"
    production_confirmation: str | None = None
    api_key_file: Path
    secret_file: Path
    rest_url: str | None = None
    socket_url: str | None = None
    recv_window_ms: Annotated[Whole, Field(ge=100, le=60_000)] = 2_000
    clock_skew_max_ms: Annotated[Whole, Field(ge=10, le=10_000)] = 1_000
    clock_interval_ms: Milliseconds = 30_000
    request_timeout_ms: Milliseconds = 3_000
    weight_share: Share = Decimal("0.8")
    cancel_reserve: Annotated[Number, Field(ge=Decimal("0.05"), le=Decimal("0.9"))] = Decimal("0.2")

    @property
    def arrives_within_ms(self) -> int:
        """Return how long after it was made a request might still be taken by the venue, at the worst."""
        return self.recv_window_ms + self.clock_skew_max_ms


class VenuesSettings(Section):
    """Real venues. An instrument of a venue that is not listed trades on the simulated exchange."""

    binance: BinanceSettings | None = None
