"""Binance messages to market events: pure, and the same for a live socket, a REST answer and a recorded line.

``event_time_ns`` is the exchange's (spot book tickers have none: then ours); ``available_at_ns`` is our receipt.
A message that cannot be used is refused with a reason, never raised: the feed must account for each one.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from infra.feeds.binance.decimals import NotANumber, parse_units
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade
from schemas.values import NS_PER_MS, Side

SPOT: Final = "BINANCE"
USDM: Final = "BINANCE_USDM"
_Levels = list[tuple[str, str]]


class Unusable(Exception):
    """A message that is not one of those we know, in one sentence."""


class _Payload(msgspec.Struct, gc=False):
    e: str | None = None
    E: int | None = None
    T: int | None = None
    s: str | None = None
    U: int | None = None
    u: int | None = None
    pu: int | None = None
    b: str | _Levels | None = None
    a: str | _Levels | None = None
    B: str | None = None
    A: str | None = None
    p: str | None = None
    q: str | None = None
    t: int | None = None
    m: bool | None = None


class _Message(msgspec.Struct, gc=False):
    stream: str | None = None
    data: _Payload | None = None
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name
    E: int | None = None
    bids: _Levels | None = None
    asks: _Levels | None = None


_decode: Final = msgspec.json.Decoder(_Message).decode


def parse_message(body: bytes | str, received_at_ns: int, venue: str, symbol: str) -> Event:
    """Return the market event in one WebSocket message (combined stream) or REST depth snapshot.

    ``symbol`` keys a REST snapshot, which does not name it. Raises Unusable.
    """
    try:
        message = _decode(body)
        if message.data is not None:
            return _from_payload(message.data, message.stream or "", received_at_ns, venue)
        if message.lastUpdateId is not None:
            return _snapshot(message, received_at_ns, f"{venue}:{symbol}")
    except (msgspec.DecodeError, NotANumber) as error:
        raise Unusable(str(error)[:200]) from error
    raise Unusable("neither a stream message nor a depth snapshot")


def _from_payload(data: _Payload, stream: str, received_at_ns: int, venue: str) -> Event:
    if data.s is None:
        raise Unusable("the message names no symbol")
    kind = data.e or stream.partition("@")[2]
    build = _BUILDERS.get(kind)
    if build is None:
        raise Unusable(f"message type {kind[:40]!r} is not one we read")
    event_time_ns = data.E * NS_PER_MS if data.E is not None else received_at_ns
    return build(data, f"{venue}:{data.s}", event_time_ns, received_at_ns)


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
        event_time_ns=message.E * NS_PER_MS if message.E is not None else received_at_ns,
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
