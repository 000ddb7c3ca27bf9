"""Binance messages to market events: pure, and the same for a live socket, a REST answer and a recorded line.

``event_time_ns`` is when it happened at the exchange (``T``), else when the exchange sent it (``E``), else our receipt
(spot book tickers have neither). A message that cannot be used is refused with a reason: a feed accounts for each one.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec

from infra.feeds.decimals import NotANumber, parse_units
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade
from schemas.values import NS_PER_MS, Side

SPOT: Final = "BINANCE"
USDM: Final = "BINANCE_USDM"

_TIME_MS_MAX: Final = 2**63 // NS_PER_MS - 1
_REASON_LENGTH: Final = 200
_SYMBOL: Final = re.compile(r"[A-Za-z0-9_./-]{1,64}")
_Levels = list[tuple[str, str]]
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=_TIME_MS_MAX)]


class Unusable(Exception):
    """A message that is not one of those we know, or holds what cannot be, in one sentence."""


class _Payload(msgspec.Struct, gc=False):
    e: str | None = None
    E: _Milliseconds | None = None
    T: _Milliseconds | None = None
    s: str | None = None
    U: _Id | None = None
    u: _Id | None = None
    pu: _Id | None = None
    b: str | _Levels | None = None
    a: str | _Levels | None = None
    B: str | None = None
    A: str | None = None
    p: str | None = None
    q: str | None = None
    t: _Id | None = None
    m: bool | None = None


class _Message(_Payload, gc=False):
    """A combined stream wraps the payload in ``data``; a single stream sends it bare; REST sends a whole book."""

    stream: str = ""
    data: _Payload | None = None
    lastUpdateId: _Id | None = None  # noqa: N815 - the venue's name
    bids: _Levels | None = None
    asks: _Levels | None = None


_decode: Final = msgspec.json.Decoder(_Message).decode


def parse_message(body: bytes | str, received_at_ns: int, venue: str, symbol: str) -> Event:
    """Return the market event in one WebSocket message or REST depth snapshot, without identity.

    ``symbol`` keys a REST snapshot, which does not name it; ``received_at_ns`` is the local clock. Raises Unusable.
    """
    try:
        message = _decode(body)
        if message.data is not None:
            return _from_payload(message.data, message.stream, received_at_ns, venue)
        if message.lastUpdateId is not None:
            return _snapshot(message, received_at_ns, instrument_key(venue, symbol))
        return _from_payload(message, message.stream, received_at_ns, venue)
    except (msgspec.DecodeError, NotANumber, UnicodeError) as error:
        raise Unusable(str(error)[:_REASON_LENGTH]) from error
    except RecursionError as error:
        raise Unusable("the message is nested too deeply") from error


@functools.lru_cache(4096)
def instrument_key(venue: str, symbol: str) -> str:
    """Return ``VENUE:SYMBOL``. Raises Unusable for a symbol that no instrument can have."""
    if not _SYMBOL.fullmatch(symbol):
        raise Unusable(f"{symbol[:40]!r} is not a symbol")
    return f"{venue}:{symbol}"


def _from_payload(data: _Payload, stream: str, received_at_ns: int, venue: str) -> Event:
    if data.s is None:
        raise Unusable("neither a stream message nor a depth snapshot")
    # Spot book tickers do not say what they are: the stream does, and a bare one is known by its two sizes.
    kind = data.e or stream.partition("@")[2] or ("bookTicker" if data.B is not None else "")
    build = _BUILDERS.get(kind)
    if build is None:
        raise Unusable(f"message type {kind[:40]!r} is not one we read")
    return build(data, instrument_key(venue, data.s), _happened_ns(data, received_at_ns), received_at_ns)


def _happened_ns(data: _Payload, received_at_ns: int) -> int:
    time_ms = data.T if data.T is not None else data.E
    return received_at_ns if time_ms is None else time_ms * NS_PER_MS


def _quote(data: _Payload, key: str, event_time_ns: int, available_at_ns: int) -> Event:
    if not (isinstance(data.b, str) and isinstance(data.a, str) and data.B is not None and data.A is not None):
        raise Unusable("a book ticker lacks a side")
    return Quote(
        key=key,
        event_time_ns=event_time_ns,
        available_at_ns=available_at_ns,
        bid_price=parse_units(data.b),
        bid_quantity=parse_units(data.B),
        ask_price=parse_units(data.a),
        ask_quantity=parse_units(data.A),
        update_id=data.u,
    )


def _trade(data: _Payload, key: str, event_time_ns: int, available_at_ns: int) -> Event:
    if data.t is None or data.p is None or data.q is None or data.m is None:
        raise Unusable("a trade lacks id, price, quantity or side")
    price = parse_units(data.p)
    if price == 0:
        raise Unusable("a trade at price 0")
    return Trade(
        key=key,
        event_time_ns=event_time_ns,
        available_at_ns=available_at_ns,
        trade_id=str(data.t),
        price=price,
        quantity=parse_units(data.q),
        aggressor=Side.SELL if data.m else Side.BUY,
    )


def _depth(data: _Payload, key: str, event_time_ns: int, available_at_ns: int) -> Event:
    if data.U is None or data.u is None or not isinstance(data.b, list) or not isinstance(data.a, list):
        raise Unusable("a depth update lacks update ids or a side")
    bid_prices, bid_quantities = _sides(data.b)
    ask_prices, ask_quantities = _sides(data.a)
    return DepthUpdate(
        key=key,
        event_time_ns=event_time_ns,
        available_at_ns=available_at_ns,
        first_update_id=data.U,
        last_update_id=data.u,
        previous_update_id=data.pu,
        bid_prices=bid_prices,
        bid_quantities=bid_quantities,
        ask_prices=ask_prices,
        ask_quantities=ask_quantities,
    )


def _snapshot(message: _Message, received_at_ns: int, key: str) -> Event:
    if message.lastUpdateId is None or message.bids is None or message.asks is None:
        raise Unusable("a depth snapshot lacks its update id or a side")
    bid_prices, bid_quantities = _sides(message.bids)
    ask_prices, ask_quantities = _sides(message.asks)
    return BookSnapshot(
        key=key,
        event_time_ns=_happened_ns(message, received_at_ns),
        available_at_ns=received_at_ns,
        update_id=message.lastUpdateId,
        bid_prices=bid_prices,
        bid_quantities=bid_quantities,
        ask_prices=ask_prices,
        ask_quantities=ask_quantities,
    )


def _sides(levels: Sequence[tuple[str, str]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple([parse_units(level[0]) for level in levels]), tuple([parse_units(level[1]) for level in levels])


_Builder = Callable[[_Payload, str, int, int], Event]
_BUILDERS: Final[dict[str, _Builder]] = {
    "bookTicker": _quote,
    "trade": _trade,
    "depthUpdate": _depth,
}
