"""What a feed hands to ingestion: market events as the venue gave them, before anyone has trusted them.

Not a topic: it lives between ``infra.feeds`` and ``streams.ingestion`` and in the backtest.
"""

import msgspec

from schemas.event import Event


class FeedRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of a feed.

    ``position`` counts messages from 0 (for a capture: the line). ``events`` are market events without identity,
    Heartbeats of the capture's clock first; ``key`` and times are set. ``refused`` is why the message itself
    was not usable, or null; its bytes are then in ``raw``.
    """

    position: int
    events: tuple[Event, ...]
    refused: str | None = None
    raw: bytes = b""
