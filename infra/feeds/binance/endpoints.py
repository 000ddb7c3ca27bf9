"""Where Binance's public market data is, and how a connection to it is to behave. Settings, not code.

USD-M streams moved below ``/public`` in 2026 (the addresses without it were switched off in April of that year).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from infra.feeds import FeedFailed
from infra.feeds.binance.parse import SPOT, USDM


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The public addresses of one venue: ``/stream`` follows ``websocket_url``, ``depth_path`` follows ``rest_url``."""

    venue: str
    websocket_url: str
    rest_url: str
    depth_path: str
    depth_limit: int = 1_000
    streams: tuple[str, ...] = ("depth@100ms", "bookTicker", "trade")

    def stream_url(self, symbols: Sequence[str]) -> str:
        """Return the address of one combined stream of all ``symbols``."""
        names = "/".join(f"{symbol.lower()}@{stream}" for symbol in symbols for stream in self.streams)
        return f"{self.websocket_url.rstrip('/')}/stream?streams={names}"

    def depth_url(self, symbol: str) -> str:
        """Return the address of one symbol's depth snapshot."""
        return f"{self.rest_url.rstrip('/')}{self.depth_path}?symbol={symbol.upper()}&limit={self.depth_limit}"


SPOT_ENDPOINTS: Final = Endpoints(
    SPOT, "wss://data-stream.binance.vision", "https://data-api.binance.vision", "/api/v3/depth"
)
USDM_ENDPOINTS: Final = Endpoints(
    USDM, "wss://fstream.binance.com/public", "https://fapi.binance.com", "/fapi/v1/depth"
)
_BY_VENUE: Final = {SPOT: SPOT_ENDPOINTS, USDM: USDM_ENDPOINTS}


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """Time-outs and bounds of a live feed, in the units of their names.

    ``silence_timeout_s`` without any message ends a connection, as does ``lifetime_s`` (the venue cuts at 24 h).
    ``first_attempts`` failures before the first connection end the feed; later ones are retried for ever, between
    half of and the whole of a delay that doubles from ``backoff_first_s`` to ``backoff_max_s``.
    ``snapshot_interval_s`` lies between any two REST requests. ``waiting_records_max`` may wait for the reader.
    """

    connect_timeout_s: float = 10.0
    ping_interval_s: float = 15.0
    silence_timeout_s: float = 60.0
    lifetime_s: float = 23.5 * 3600
    backoff_first_s: float = 0.25
    backoff_max_s: float = 30.0
    first_attempts: int = 5
    request_timeout_s: float = 10.0
    snapshot_interval_s: float = 1.0
    waiting_records_max: int = 50_000
    message_bytes_max: int = 4 * 1024 * 1024

    def backoff_s(self, failures: int, fraction: float) -> float:
        """Return the pause after so many failures in a row; ``fraction`` in [0, 1) is the jitter."""
        whole_s: float = min(self.backoff_max_s, self.backoff_first_s * 2.0 ** min(failures, 32))
        return whole_s * (0.5 + 0.5 * fraction)


def endpoints_for(instruments: Sequence[str], websocket_url: str | None, rest_url: str | None) -> Endpoints:
    """Return the addresses for ``VENUE:SYMBOL`` names; given ones stand for the public ones. Raises FeedFailed."""
    venues = sorted({name.partition(":")[0] for name in instruments})
    if not venues:
        raise FeedFailed("A live feed of Binance needs at least one instrument.")
    unknown = [venue for venue in venues if venue not in _BY_VENUE]
    if unknown:
        raise FeedFailed(f"{unknown[0]!r} is not a venue of Binance; its venues are {' and '.join(_BY_VENUE)}.")
    if len(venues) > 1:
        raise FeedFailed(f"One feed connects to one venue, but instruments of {' and '.join(venues)} were named.")
    public = _BY_VENUE[venues[0]]
    return replace(public, websocket_url=websocket_url or public.websocket_url, rest_url=rest_url or public.rest_url)
