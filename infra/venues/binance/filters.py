"""The venue's own rules of a symbol, read once and held against each order before it is sent.

An order that the venue would refuse costs a request, a moment, and some of the limits; what cannot be known here (the
average price that market orders are judged by, other people's orders on our account) is left to the venue.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from infra.feeds.decimals import NotANumber, parse_units
from infra.venues.binance.wire import SymbolFound
from schemas.market import InstrumentDefined
from schemas.orders import SubmitRequested
from schemas.values import OrderType, notional

TRADING: Final = "TRADING"


class FiltersUnusable(Exception):
    """What the venue says of a symbol cannot be read, or does not suit our settings; in one clear sentence."""


class Steps(msgspec.Struct, frozen=True):
    """A range and its increment, in units of 1e-8. 0 turns a rule off."""

    least: int = 0
    most: int = 0
    step: int = 0

    def fault(self, value: int) -> str | None:
        """Return what is wrong with a value, or None."""
        if value < self.least:
            return "too small"
        if self.most and value > self.most:
            return "too large"
        return "not a multiple of the increment" if self.step and value % self.step else None


class SymbolRules(msgspec.Struct, frozen=True):
    """What the venue accepts for one symbol. Prices and quantities in units of 1e-8, notionals as money."""

    symbol: str
    status: str
    order_types: frozenset[str]
    prices: Steps = Steps()
    quantities: Steps = Steps()
    market_quantities: Steps = Steps()
    notional_min: Decimal = Decimal(0)
    notional_max: Decimal | None = None
    open_orders_max: int | None = None
    stops_max: int | None = None


def rules_of(found: SymbolFound) -> SymbolRules:
    """Return a symbol's rules. Raises FiltersUnusable."""
    filters = {str(item.get("filterType")): item for item in found.filters}
    try:
        least, most = _notionals(filters)
        count = filters.get("MAX_NUM_ORDERS", {}).get("maxNumOrders")
        stops = filters.get("MAX_NUM_ALGO_ORDERS", {}).get("maxNumAlgoOrders")
        return SymbolRules(
            symbol=found.symbol,
            status=found.status,
            order_types=frozenset(found.orderTypes),
            prices=_steps(filters.get("PRICE_FILTER"), "minPrice", "maxPrice", "tickSize"),
            quantities=_steps(filters.get("LOT_SIZE"), "minQty", "maxQty", "stepSize"),
            market_quantities=_steps(filters.get("MARKET_LOT_SIZE"), "minQty", "maxQty", "stepSize"),
            notional_min=least,
            notional_max=most,
            open_orders_max=None if count is None else int(count),
            stops_max=None if stops is None else int(stops),
        )
    except (KeyError, NotANumber, ArithmeticError, TypeError, ValueError) as error:
        raise FiltersUnusable(f"Binance's rules of {found.symbol} cannot be read: {error}.") from None


def _steps(item: Mapping[str, Any] | None, least: str, most: str, step: str) -> Steps:
    if item is None:
        return Steps()
    return Steps(parse_units(item[least]), parse_units(item[most]), parse_units(item[step]))


def _notionals(filters: Mapping[str, Mapping[str, Any]]) -> tuple[Decimal, Decimal | None]:
    """Symbols have the one filter or the other."""
    least = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
    most = least.get("maxNotional")
    return Decimal(least.get("minNotional", "0")), None if most is None else Decimal(most)


def check_definition(rules: SymbolRules, instrument: InstrumentDefined) -> None:
    """Hold our own definition against the venue's. Raises FiltersUnusable when our orders would be refused."""
    if rules.status != TRADING:
        raise FiltersUnusable(f"{instrument.key}: the venue does not trade it now, it is in {rules.status}.")
    for name, ours, theirs in (
        ("tick_size", instrument.tick_size, rules.prices.step),
        ("lot_size", instrument.lot_size, rules.quantities.step),
    ):
        if theirs and ours % theirs:
            raise FiltersUnusable(
                f'instruments."{instrument.key}".{name}: the venue\'s is {theirs / 1e8:.8f}, of which ours must be a '
                "multiple."
            )


def refusal(
    request: SubmitRequested, order_type: str, rules: SymbolRules, open_orders: int, stops: int = 0
) -> str | None:
    """Return which of the venue's rules an order breaks, or None.

    ``open_orders`` are ours that work on the symbol, ``stops`` those of them that wait for their stop price.
    """
    if rules.status != TRADING:
        return f"the symbol is in {rules.status}"
    if order_type not in rules.order_types:
        return f"{order_type} orders are not taken for the symbol"
    if rules.open_orders_max is not None and open_orders >= rules.open_orders_max:
        return f"MAX_NUM_ORDERS: {open_orders} orders work already"
    fault = rules.quantities.fault(request.quantity)
    if fault is not None:
        return f"LOT_SIZE: the quantity is {fault}"
    if request.order_type is OrderType.MARKET:
        fault = rules.market_quantities.fault(request.quantity)
        return None if fault is None else f"MARKET_LOT_SIZE: the quantity is {fault}"
    if request.order_type.waits:
        if rules.stops_max is not None and stops >= rules.stops_max:
            return f"MAX_NUM_ALGO_ORDERS: {stops} stops wait already"
        fault = rules.prices.fault(request.stop_price or 0)
        if fault is not None or request.order_type is OrderType.STOP:
            return None if fault is None else f"PRICE_FILTER: the stop price is {fault}"
    return _price_refusal(request, rules)


def _price_refusal(request: SubmitRequested, rules: SymbolRules) -> str | None:
    if request.limit_price is None:
        return "the order needs a price"
    fault = rules.prices.fault(request.limit_price)
    if fault is not None:
        return f"PRICE_FILTER: the price is {fault}"
    value = notional(request.limit_price, request.quantity)
    if value < rules.notional_min or (rules.notional_max is not None and value > rules.notional_max):
        return f"NOTIONAL: {value.normalize():f} is outside {rules.notional_min.normalize():f} to {_most(rules)}"
    return None


def _most(rules: SymbolRules) -> str:
    return "any" if rules.notional_max is None else f"{rules.notional_max.normalize():f}"
