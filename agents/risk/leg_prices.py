"""At which prices a position is protected: fractions of its entry price, in whole ticks, rounded towards the entry."""

import math
from dataclasses import dataclass
from decimal import Decimal

from schemas.opinions import MarketMark
from schemas.values import Leg, OrderType, Side, TimeInForce


@dataclass(frozen=True, slots=True)
class OrderForm:
    """How an order is put that does not follow its strategy's way of trading. Prices in units of 1e-8."""

    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int
    leg: Leg
    stop_price: int | None = None
    parent_order_id: str | None = None


def closing_side(held: int) -> Side:
    """Return the side that closes a position."""
    return Side.SELL if held > 0 else Side.BUY


def away(held: int, price: int, fraction: Decimal, tick: int) -> int:
    """Return the price that lies ``fraction`` on the losing side of another, in ticks, rounded back towards it."""
    if held > 0:
        return _up(price * (1 - fraction), tick)
    return _down(price * (1 + fraction), tick)


def profit_price(held: int, entry: int, fraction: Decimal, tick: int) -> int:
    """Return the price at which a position has gained ``fraction``, in ticks, not below that."""
    if held > 0:
        return _up(entry * (1 + fraction), tick)
    return _down(entry * (1 - fraction), tick)


def is_lost(held: int, mid: int, stop_price: int) -> bool:
    """Return whether the market already stands at the stop price, or beyond."""
    return mid <= stop_price if held > 0 else mid >= stop_price


def is_gained(held: int, mark: MarketMark, target: int) -> bool:
    """Return whether somebody takes at ``target`` or better what a position would sell, or buy back."""
    touch = mark.bid_price if held > 0 else mark.ask_price
    return touch is not None and (touch >= target if held > 0 else touch <= target)


def _up(value: Decimal, tick: int) -> int:
    return -(-math.ceil(value) // tick) * tick


def _down(value: Decimal, tick: int) -> int:
    return math.floor(value) // tick * tick
