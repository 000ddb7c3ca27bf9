"""Points in time and spans as people write them on the command line, read in one way by every command."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.values import NS_PER_S

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span_ns(given: str) -> int | None:
    """Return a span in ns (``90s``, ``30m``, ``2h``, ``1d``), or None for what is none."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", given)
    return None if found is None else int(found[1]) * _UNITS_S[found[2]] * NS_PER_S


def iso_ns(given: str) -> int:
    """Return an ISO time, UTC unless it says otherwise, in ns since 1970. Raises ValueError for what is none."""
    moment = datetime.fromisoformat(given)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
