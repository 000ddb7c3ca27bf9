"""Returns of the mid over trailing horizons, from the mids at the ends of the time buckets."""

from collections.abc import Sequence


def trailing_return(mids: Sequence[int], buckets: int) -> float | None:
    """Return mid now / mid ``buckets`` ago - 1, as a fraction; None where either is missing.

    ``mids`` are in units of 1e-8, newest last, 0 where there was none.
    """
    if len(mids) <= buckets:
        return None
    now, then = mids[-1], mids[-1 - buckets]
    return now / then - 1.0 if now and then else None
