"""What the features of one instrument are computed from, and the settings they share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from agents.features.order_flow import LevelFlow, OrderFlow
from agents.features.trade_flow import TradeFlow
from agents.features.vpin import Vpin
from agents.market.book import Book
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_MS, NS_PER_S

WINDOW_SECONDS = 10
"""The longest window of flows."""
HISTORY_SECONDS = 61
"""How far back mids are kept: the longest return and the volatility need 60 s and one sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """Settings. Times are nanoseconds; volumes are in units of 1e-8, by instrument; without one VPIN is null.

    ``bucket_ns`` is the resolution of every window; it must divide a second and every instrument's grid. Raises
    ValueError otherwise. ``flat_sigmas`` is the half-width of *flat* in standard deviations over the horizon.
    """

    instruments: Mapping[str, InstrumentDefined]
    vpin_bucket_volumes: Mapping[str, int] = field(default_factory=dict)
    vpin_buckets: int = 50
    vpin_buckets_min: int = 10
    bucket_ns: int = 100 * NS_PER_MS
    deadline_ns: int = 500 * NS_PER_MS
    stale_after_ns: int = 5 * NS_PER_S
    flat_sigmas: float = 0.43

    def __post_init__(self) -> None:
        if self.bucket_ns <= 0 or NS_PER_S % self.bucket_ns:
            raise ValueError(f"bucket_ns {self.bucket_ns} does not divide a second")
        for key, definition in self.instruments.items():
            if definition.grid_ns <= 0 or definition.grid_ns % self.bucket_ns:
                raise ValueError(f"grid_ns {definition.grid_ns} of {key} is not a multiple of bucket_ns")
        if not 0 < self.vpin_buckets_min <= self.vpin_buckets:
            raise ValueError("vpin_buckets_min must lie between 1 and vpin_buckets")


class FeatureState(msgspec.Struct, kw_only=True):
    """One instrument. It survives a round trip through msgpack without a change of any later output.

    The *top* (best bid and ask) is in ``order_flow``: the freshest by update id, from a quote or from the
    synchronised book (at equal ids the two are equal); a quote without an id, and depth next to such quotes, count by
    arrival. ``top_update_id`` is -1 where it has none; ``top_from_book`` says which of the two it is.
    ``mids`` holds the mid at the end of each bucket passed, 0 where there was none. ``gap`` stays set until a mark on
    the grid has told of it. ``volume`` is what traded since the last mark on the grid.
    """

    instrument: str
    bucket_ns: int
    bucket_end_ns: int = 0
    grid_time_ns: int = 0
    newest_ns: int = 0
    book: Book = msgspec.field(default_factory=Book)
    synchronised: bool = False
    top_update_id: int = -1
    top_from_book: bool = False
    gap: bool = False
    mids: list[int] = []
    order_flow: OrderFlow = msgspec.field(default_factory=OrderFlow)
    level_flow: LevelFlow = msgspec.field(default_factory=LevelFlow)
    trade_flow: TradeFlow = msgspec.field(default_factory=TradeFlow)
    vpin: Vpin = msgspec.field(default_factory=Vpin)
    sized: bool = False
    volume: int = 0


def new_state(instrument: str, config: FeatureConfig) -> FeatureState:
    """Return the state of an instrument of which nothing has been seen."""
    volume = config.vpin_bucket_volumes.get(instrument, 0)
    return FeatureState(
        instrument=instrument,
        bucket_ns=config.bucket_ns,
        vpin=Vpin(bucket_volume=volume, buckets=config.vpin_buckets),
    )
