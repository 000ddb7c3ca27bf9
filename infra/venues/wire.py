"""What the simulated exchange and its clients say to each other, as JSON: shared so that they cannot differ."""

from typing import Final

import msgspec

from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quality, Quote, Trade
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested, VenueReport
from schemas.reconciliation import BooksRequested


class SubmitBody(msgspec.Struct, frozen=True):
    """Body of POST /v1/order. ``now_ns`` is the run's clock when it was sent, ``window_ns`` how old it may become."""

    request: SubmitRequested
    epoch: int
    now_ns: int
    window_ns: int | None = None


class CancelBody(msgspec.Struct, frozen=True):
    """Body of DELETE /v1/order/ID."""

    request: CancelRequested
    epoch: int
    now_ns: int


class AmendBody(msgspec.Struct, frozen=True):
    """Body of PUT /v1/order/ID: as SubmitBody."""

    request: AmendRequested
    epoch: int
    now_ns: int
    window_ns: int | None = None


class QueryBody(msgspec.Struct, frozen=True):
    """Body of GET /v1/order/ID; the answer is a VenueReport."""

    request: QueryRequested
    now_ns: int


class BooksBody(msgspec.Struct, frozen=True):
    """Body of POST /v1/books; the answer is a VenueBooks."""

    request: BooksRequested
    now_ns: int


class ClockBody(msgspec.Struct, frozen=True):
    """Body of POST /v1/clock: the run's clock, for an exchange that replays a capture."""

    now_ns: int


class ReportLine(msgspec.Struct, frozen=True):
    """One message of /v1/reports: numbers rise by 1, so that a reader can resume after the last it has."""

    sequence: int
    report: VenueReport


class MarketLine(msgspec.Struct, frozen=True):
    """One event of /v1/market, whose messages are lists of them; ``kind`` is the event's type name."""

    kind: str
    event: msgspec.Raw


class SnapshotAsked(msgspec.Struct, frozen=True):
    """What a reader of /v1/market may say: send the whole book of this instrument."""

    snapshot: str


MARKET_TYPES: Final[dict[str, type[Event]]] = {
    kind.__name__: kind for kind in (BookSnapshot, DepthUpdate, Quote, Trade, Quality)
}
_DECODERS: Final = {name: msgspec.json.Decoder(kind) for name, kind in MARKET_TYPES.items()}
_LINES: Final = msgspec.json.Decoder(list[MarketLine])


def encode_market(events: list[Event]) -> bytes:
    """Return one message of /v1/market."""
    lines = [MarketLine(type(event).__name__, msgspec.Raw(msgspec.json.encode(event))) for event in events]
    return msgspec.json.encode(lines)


def decode_market(message: bytes | str) -> list[Event]:
    """Return the events of one message. Raises msgspec.DecodeError, or KeyError for a type that is not market data."""
    return [_DECODERS[line.kind].decode(line.event) for line in _LINES.decode(message)]
