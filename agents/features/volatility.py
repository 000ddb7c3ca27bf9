"""Realised volatility per square root of a second, as a fraction of the mid, from one-second returns.

One second is long enough for the bounce between bid and ask to matter little, and short enough to give a figure a
few seconds after a start.
"""

import math
from collections.abc import Sequence

SLOW_SECONDS = 60
SLOW_SAMPLES_MIN = 10
FAST_SECONDS = 10
FAST_SECONDS_MIN = 5


def realised(mids: Sequence[int], buckets_per_second: int) -> float | None:
    """Return the root mean square of up to 60 one-second returns; None below 10. ``mids``: newest last, 0 = none."""
    kept = SLOW_SECONDS * buckets_per_second + 1
    seconds = mids[: -kept - 1 : -buckets_per_second]
    return _root_mean_square(seconds[:-1], seconds[1:], SLOW_SAMPLES_MIN)


def realised_fast(mids: Sequence[int], buckets_per_second: int) -> float | None:
    """Return the same over 10 s, from overlapping one-second returns; None before 5 s."""
    recent = mids[-(FAST_SECONDS * buckets_per_second + 1) :]
    samples_min = (FAST_SECONDS_MIN - 1) * buckets_per_second + 1
    return _root_mean_square(recent[buckets_per_second:], recent[:-buckets_per_second], samples_min)


def _root_mean_square(now: Sequence[int], then: Sequence[int], samples_min: int) -> float | None:
    squares = [(new / old - 1.0) ** 2 for new, old in zip(now, then, strict=True) if new and old]
    return math.sqrt(sum(squares) / len(squares)) if len(squares) >= samples_min else None
