"""What Binance spot says, as far as we read it: REST answers and user data events, by its own field names.

Unknown fields are passed over, for the venue adds some from time to time; a field that is missing or of another type
is a DecodeError, and whoever asked then knows nothing.
"""

from typing import Any, Final, TypeVar

import msgspec


class Problem(msgspec.Struct, gc=False):
    """The body of an answer that is no success."""

    code: int
    msg: str = ""


class ServerTime(msgspec.Struct, gc=False):
    """GET /api/v3/time."""

    serverTime: int  # noqa: N815 - the venue's name, as below


class PlacedFill(msgspec.Struct, gc=False):
    """One execution within the answer to a new order."""

    price: str
    qty: str
    commission: str
    commissionAsset: str  # noqa: N815
    tradeId: int  # noqa: N815


class Placed(msgspec.Struct, gc=False):
    """The full answer to POST /api/v3/order."""

    symbol: str
    orderId: int  # noqa: N815
    clientOrderId: str  # noqa: N815
    transactTime: int  # noqa: N815
    executedQty: str  # noqa: N815
    status: str
    fills: list[PlacedFill] = []


class Canceled(msgspec.Struct, gc=False):
    """The answer to DELETE /api/v3/order."""

    symbol: str
    orderId: int  # noqa: N815
    origClientOrderId: str  # noqa: N815
    executedQty: str  # noqa: N815
    status: str
    transactTime: int | None = None  # noqa: N815


class AmendedOrder(msgspec.Struct, gc=False):
    """An order as it is after a change."""

    orderId: int  # noqa: N815
    clientOrderId: str  # noqa: N815
    price: str
    qty: str


class Amended(msgspec.Struct, gc=False):
    """The answer to PUT /api/v3/order/amend/keepPriority."""

    transactTime: int  # noqa: N815
    amendedOrder: AmendedOrder  # noqa: N815


class OrderFound(msgspec.Struct, gc=False):
    """GET /api/v3/order, and one item of GET /api/v3/openOrders and of GET /api/v3/allOrders."""

    symbol: str
    orderId: int  # noqa: N815
    clientOrderId: str  # noqa: N815
    origQty: str  # noqa: N815
    executedQty: str  # noqa: N815
    status: str
    side: str
    time: int
    updateTime: int  # noqa: N815
    price: str = "0"
    type: str = ""
    timeInForce: str = ""  # noqa: N815
    isWorking: bool = False  # noqa: N815
    stopPrice: str = "0"  # noqa: N815


class TradeFound(msgspec.Struct, gc=False):
    """One item of GET /api/v3/myTrades."""

    symbol: str
    id: int
    orderId: int  # noqa: N815
    price: str
    qty: str
    commission: str
    commissionAsset: str  # noqa: N815
    time: int
    isBuyer: bool  # noqa: N815
    isMaker: bool  # noqa: N815


class Balance(msgspec.Struct, gc=False):
    """What the account has of one asset."""

    asset: str
    free: str
    locked: str


class AccountFound(msgspec.Struct, gc=False):
    """GET /api/v3/account."""

    canTrade: bool  # noqa: N815
    balances: list[Balance]


class RateLimit(msgspec.Struct, gc=False):
    """One of the venue's limits: REQUEST_WEIGHT, ORDERS or RAW_REQUESTS per ``intervalNum`` of ``interval``."""

    rateLimitType: str  # noqa: N815
    interval: str
    intervalNum: int  # noqa: N815
    limit: int


class SymbolFound(msgspec.Struct, gc=False):
    """One symbol of GET /api/v3/exchangeInfo. ``filters`` differ in their fields, and are read by their type."""

    symbol: str
    status: str
    baseAsset: str  # noqa: N815
    quoteAsset: str  # noqa: N815
    orderTypes: list[str]  # noqa: N815
    filters: list[dict[str, Any]]


class ExchangeInfo(msgspec.Struct, gc=False):
    """GET /api/v3/exchangeInfo."""

    serverTime: int  # noqa: N815
    rateLimits: list[RateLimit]  # noqa: N815
    symbols: list[SymbolFound]


class UserEvent(msgspec.Struct, gc=False):
    """An event of the user data stream. Only an executionReport has more than its type and time.

    ``c`` client order id (of a cancel: the cancel's own, and ``C`` the order's), ``x`` execution type, ``X`` order
    status, ``r`` reason, ``i`` order id, ``q`` and ``p`` its quantity and price, ``l`` and ``L`` the last trade's,
    ``z`` filled so far, ``n`` and ``N`` fee and its asset, ``T`` transaction time, ``t`` trade id, ``m`` whether we
    were the maker, ``w`` whether it is in the book: a stop once it has been reached.
    """

    e: str
    E: int
    s: str = ""
    c: str = ""
    C: str | None = None
    x: str = ""
    X: str = ""
    r: str = "NONE"
    i: int = -1
    l: str = "0"  # noqa: E741 - the venue's name
    L: str = "0"
    z: str = "0"
    q: str = "0"
    p: str = "0"
    n: str | None = None
    N: str | None = None
    T: int = 0
    t: int = -1
    m: bool = False
    w: bool = False


class SocketMessage(msgspec.Struct, gc=False):
    """A message of the WebSocket API: the answer to a request (``id``, ``status``), or an ``event``."""

    id: str | int | None = None
    status: int | None = None
    error: Problem | None = None
    event: UserEvent | None = None


_Kind = TypeVar("_Kind")
_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def decode(body: bytes | str, kind: type[_Kind]) -> _Kind:
    """Return an answer as ``kind``. Raises msgspec.DecodeError."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    found: _Kind = decoder.decode(body)
    return found
