"""Features as numbers that mean the same for every instrument: in units of its own volatility, or shares of a whole.

What was learned of one instrument can be asked of another only in these. A model is trained on them and asked by them:
there is one place that makes them, so that the two cannot come apart.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_RETURNS_S: Final = (1, 5, 10, 30, 60)
_SHARES: Final = (
    *("imbalance_1", "imbalance_5", "imbalance_10", "ofi_1s", "ofi_10s", "ofi_multi_1s"),
    *("trade_flow_1s", "trade_flow_10s"),
)
_SIGNED: Final = ("microprice_offset", *_SHARES, *(f"return_{seconds}s" for seconds in _RETURNS_S))
COLUMNS: Final = (*_SIGNED, "volatility_fast", "spread_relative", "vpin")
"""The names of the features, in order; the first ``SIGNED_COLUMNS`` of them change their sign with the side."""
SIGNED_COLUMNS: Final = len(_SIGNED)
NEEDED: Final = (
    *("volatility", "volatility_fast", "microprice_offset", "spread_relative", "imbalance_1", "ofi_1s", "ofi_10s"),
    *("return_1s", "return_5s", "return_10s"),
)
"""Without one of these there are no columns at all."""
_ROOTS: Final = {f"return_{seconds}s": math.sqrt(seconds) for seconds in _RETURNS_S}
_PRICES: Final = ("microprice_offset", "volatility_fast", "spread_relative")
_LIMIT: Final = 50.0
_MIRROR: Final = np.array([-1.0] * SIGNED_COLUMNS + [1.0] * (len(COLUMNS) - SIGNED_COLUMNS))


def columns_of(features: Mapping[str, float | None]) -> list[float] | None:
    """Return the columns of one snapshot, NaN where an input is null; None when one that is needed is.

    Prices and returns are multiples of the volatility over their time, at most 50. A market without any volatility
    has no scale, and no columns.
    """
    volatility = features.get("volatility")
    if volatility is None or volatility <= 0 or any(features.get(name) is None for name in NEEDED):
        return None
    columns = []
    for name in COLUMNS:
        value = features.get(name)
        if value is None:
            columns.append(math.nan)
            continue
        if name in _ROOTS:
            value /= volatility * _ROOTS[name]
        elif name in _PRICES:
            value /= volatility
        columns.append(max(-_LIMIT, min(_LIMIT, value)))
    return columns


def mirrored(columns: Any) -> Any:
    """Return the columns (the last axis) of the same market upside down: what was bought is sold."""
    return columns * _MIRROR
