"""What Binance spot says of our account: every order and every trade on our symbols, and what the trades add up to.

Its balances are absolute and hold whatever people have paid in, so cash and positions here are the sums of its own
list of trades. An order on our symbols that we know nothing of is stated like any other: it is for the comparison to
find it. What is older than our first order is not ours to explain.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import aiohttp

from infra.feeds.decimals import parse_units
from infra.settings_venues import BinanceSettings
from infra.venues.account import AccountStatement, StatedFill, StatedOrder
from infra.venues.binance.clock import VenueClock
from infra.venues.binance.credentials import Credentials
from infra.venues.binance.inquiry import UNREADABLE
from infra.venues.binance.orders import symbol_of
from infra.venues.binance.profiles import Addresses
from infra.venues.binance.reports import STATUS_OF, fill_id_of
from infra.venues.binance.rest import BinanceRest, Outcome
from infra.venues.binance.upkeep import Upkeep
from infra.venues.binance.wire import OrderFound, TradeFound, decode
from infra.venues.simulated import VenueUnreachable
from schemas.client_ids import parse_client_order_id
from schemas.market import InstrumentDefined
from schemas.values import NS_PER_MS, ZERO, Side, notional

_PAGE_MAX: Final = 1_000
_LIST_WEIGHT: Final = 20


class BinanceAccountReader:
    """An ``AccountReader``. ``accounts``: gives our order id -> our account, anew for each statement.

    Binance knows nothing of our accounts, and while a platform runs there are new orders in every statement.
    What is older than ``since_ns`` is left out; ``page`` says how many are asked for at once.
    """

    def __init__(
        self,
        settings: BinanceSettings,
        network: tuple[Addresses, Credentials],
        instruments: Iterable[InstrumentDefined],
        accounts: Callable[[], Mapping[str, str]],
        since_ns: int = 0,
        *,
        page: int = _PAGE_MAX,
    ) -> None:
        self._page = page
        self._settings = settings
        self._addresses, self._credentials = network
        self._instruments = {symbol_of(item.key): item for item in instruments}
        self._accounts = accounts
        self._since_ms = since_ns // NS_PER_MS

    async def account_statement(self) -> AccountStatement:
        """Return the statement as of now. Raises VenueUnreachable."""
        settings = self._settings
        timeout = aiohttp.ClientTimeout(total=settings.request_timeout_ms / 1000)
        clock = VenueClock(settings.clock_skew_max_ms * NS_PER_MS, settings.clock_interval_ms * NS_PER_MS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            shared = (self._credentials, clock, time.time_ns)
            rest = BinanceRest(session, self._addresses.rest_url, *shared, recv_window_ms=settings.recv_window_ms)
            # It learns the clock and the limits on requests, which are as much others' as ours.
            await Upkeep(settings, self._instruments.values(), rest, clock, time.time_ns).begin()
            orders: list[StatedOrder] = []
            fills: list[StatedFill] = []
            for symbol in sorted(self._instruments):
                try:
                    await self._read_symbol(rest, symbol, orders, fills)
                except UNREADABLE as error:
                    raise VenueUnreachable(f"What Binance states of {symbol} is not understood: {error}.") from error
        return _statement(orders, fills, {item.key: item for item in self._instruments.values()})

    async def _read_symbol(
        self, rest: BinanceRest, symbol: str, orders: list[StatedOrder], fills: list[StatedFill]
    ) -> None:
        # Trades first: an order may fill between the two, and what it counts then would not be there to be compared.
        trades = await self._pages(rest, "/api/v3/myTrades", symbol, ("fromId", "id"), TradeFound)
        found = await self._pages(rest, "/api/v3/allOrders", symbol, ("orderId", "orderId"), OrderFound)
        # Afterwards, so that it knows all that is in the lists.
        accounts = self._accounts()
        instrument = self._instruments[symbol].key
        names: dict[int, str] = {}
        for order in found:
            if order.time >= self._since_ms:
                names[order.orderId] = name = _our_id(order.clientOrderId)
                orders.append(_order(order, name, accounts.get(name, ""), instrument))
        for trade in trades:
            if (sent := names.get(trade.orderId)) is not None:
                fills.append(_fill(trade, sent, accounts.get(sent, ""), instrument))

    async def _pages(self, rest: BinanceRest, path: str, symbol: str, names: tuple[str, str], kind: Any) -> list[Any]:
        """Return a whole list, page by page; ``names``: the parameter to go on from, and the field that it is of."""
        found: list[Any] = []
        first = 0
        while True:
            params = {"symbol": symbol, names[0]: str(first), "limit": str(self._page)}
            answer = await rest.signed("GET", path, params, weight=_LIST_WEIGHT)
            if answer.outcome is not Outcome.DONE:
                raise VenueUnreachable(f"Binance does not say what it has of {symbol}: {answer.why}.")
            page = decode(answer.body, list[kind])
            found += page
            if len(page) < self._page:
                return found
            first = getattr(page[-1], names[1]) + 1


def _order(found: OrderFound, name: str, account: str, instrument: str) -> StatedOrder:
    return StatedOrder(
        order_id=name,
        account=account,
        instrument=instrument,
        side=Side(found.side),
        quantity=parse_units(found.origQty),
        filled_quantity=parse_units(found.executedQty),
        status=STATUS_OF[found.status],
    )


def _fill(trade: TradeFound, name: str, account: str, instrument: str) -> StatedFill:
    return StatedFill(
        fill_id=fill_id_of(trade.symbol, trade.id),
        order_id=name,
        account=account,
        instrument=instrument,
        side=Side.BUY if trade.isBuyer else Side.SELL,
        price=parse_units(trade.price),
        quantity=parse_units(trade.qty),
        fee=Decimal(trade.commission),
        fee_currency=trade.commissionAsset,
    )


def _our_id(client_id: str) -> str:
    """Return our order's id, or a stranger's as it is."""
    parsed = parse_client_order_id(client_id)
    return client_id if parsed is None else parsed[0]


def _statement(
    orders: list[StatedOrder], fills: list[StatedFill], instruments: Mapping[str, InstrumentDefined]
) -> AccountStatement:
    positions: dict[str, int] = {}
    cash: dict[str, Decimal] = {}
    fees: dict[str, Decimal] = {}
    for fill in fills:
        terms, signed = instruments[fill.instrument], fill.side.sign * fill.quantity
        place = f"{fill.account}|{fill.instrument}"
        positions[place] = positions.get(place, 0) + signed
        paid, charged = f"{fill.account}|{terms.quote_currency}", f"{fill.account}|{fill.fee_currency}"
        cash[paid] = cash.get(paid, ZERO) - notional(fill.price, signed, terms.multiplier)
        cash[charged] = cash.get(charged, ZERO) - fill.fee
        fees[charged] = fees.get(charged, ZERO) + fill.fee
    return AccountStatement(
        orders=tuple(orders),
        fills=tuple(fills),
        positions=positions,
        cash=cash,
        fees=fees,
        funding={},
        # What Binance rejects it has never had.
        keeps_refused=False,
    )
