"""From a target to an order: how much, and at what price. No one else sizes (DESIGN 3).

The order brings the position to the target if everything that can still fill on its side does fill, so that no
sequence of late fills and lost cancels overshoots; what is then missing is asked for by a later decision.
"""

import math
from decimal import Decimal

from agents.limits.exposure import ExposureLine
from agents.limits.limit_set import LimitSet
from agents.limits.valuation import EXACT, quote_value
from agents.risk.config import StrategyRisk
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.values import UNITS_PER_ONE, Side, TimeInForce, to_decimal


def wanted_position(target: float, budget: Decimal, mid: int, instrument: InstrumentDefined, rate: Decimal) -> int:
    """Return the signed position, in units of 1e-8 and whole lots, that ``target`` of ``budget`` comes to at ``mid``.

    ``rate`` is what one unit of the quote currency is worth in the budget's. Rounded towards 0.
    """
    per_unit = instrument.multiplier * rate
    if not instrument.inverse:
        per_unit = EXACT.multiply(per_unit, to_decimal(mid))
    # A target is a short decimal (0.5), not the binary number nearest to it: repr gives the former back.
    exposure = EXACT.multiply(Decimal(repr(target)), budget)
    quantity = int(EXACT.divide(EXACT.multiply(exposure, Decimal(UNITS_PER_ONE)), per_unit))
    return toward_zero(quantity, instrument.lot_size)


def order_quantity(wanted: int, line: ExposureLine, lot_size: int) -> int:
    """Return the signed quantity to order, in whole lots: 0 when what works already may suffice.

    The result never carries the position past ``wanted`` even if every working order on its side fills, those
    being cancelled included.
    """
    difference = wanted - line.position
    if difference > 0:
        return toward_zero(max(0, difference - line.buys), lot_size)
    return toward_zero(min(0, difference + line.sells), lot_size)


def toward_zero(quantity: int, lot_size: int) -> int:
    """Return ``quantity`` without what is not a whole lot."""
    lots = abs(quantity) // lot_size * lot_size
    return lots if quantity >= 0 else -lots


def largest_quantity(instrument: InstrumentDefined, price: int, limits: LimitSet) -> int:
    """Return the largest quantity, in units of 1e-8, that one order may have at ``price``, by the venue and by us."""
    quantity = min(
        to_decimal(instrument.quantity_max), limits.order_quantity_max.get(instrument.key, Decimal("Infinity"))
    )
    rate = limits.rate(instrument.quote_currency)
    if rate is not None:
        quantity = min(quantity, limits.order_value_max / (quote_value(instrument, price, UNITS_PER_ONE) * rate))
    return int(quantity * UNITS_PER_ONE)


def limit_price(
    side: Side, mark: MarketMark, instrument: InstrumentDefined, strategy: StrategyRisk, limits: LimitSet
) -> int | None:
    """Return the price of an order, a multiple of the tick within the collar, or None without a market.

    For a market order it is the protection price.
    """
    mid, tick = mark.mid, instrument.tick_size
    if mid is None or mark.bid_price is None or mark.ask_price is None:
        return None
    rests = strategy.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)
    reach = 0 if rests else strategy.aggression_ticks * tick
    if side is Side.BUY:
        touch = mark.bid_price if rests else mark.ask_price
        ceiling = int(mid * (1 + limits.price_collar))
        return min(touch + reach, ceiling) // tick * tick
    touch = mark.ask_price if rests else mark.bid_price
    floor = math.ceil(mid * (1 - limits.price_collar))
    return -(-max(touch - reach, floor) // tick) * tick
