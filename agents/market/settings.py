"""The settings of ingestion; a frozen value, so that a stage holds no state."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.market import InstrumentDefined
from schemas.values import NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionConfig:
    """Settings. Times are nanoseconds; ``pending_max`` counts the diffs that wait for a snapshot."""

    instruments: Mapping[str, InstrumentDefined]
    pending_max: int = 300
    snapshot_every_ns: int = 60 * NS_PER_S
    request_wait_ns: int = 5 * NS_PER_S
    request_wait_max_ns: int = 60 * NS_PER_S
    stale_after_ns: int = 5 * NS_PER_S
    future_limit_ns: int = 5 * NS_PER_S
    skew_max_ns: int = 60 * NS_PER_S
    skew_report_ns: int = NS_PER_S
    report_every_ns: int = 5 * NS_PER_S
    crossed_max_ns: int = NS_PER_S
