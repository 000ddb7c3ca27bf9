"""Positions at average cost, exact: the cost is kept, not the average, so that rounding never reaches money."""

from decimal import Decimal

import msgspec

from agents.execution.ledger import WIDE
from agents.execution.orders import round_half_even
from schemas.values import MONEY_QUANTUM, ZERO, notional


class PositionState(msgspec.Struct):
    """The position of one (account, strategy, instrument). ``quantity`` is signed, in units of 1e-8.

    ``cost`` is the money behind the open quantity, with its sign; the rest are sums since the start. ``funding_due`` is
    what the venue has charged before there was a mark to value it at. ``fills`` counts what was booked.
    """

    quantity: int = 0
    cost: Decimal = ZERO
    realised_pnl: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    funding_due: Decimal = ZERO
    fills: int = 0

    @property
    def cash_flow(self) -> Decimal:
        """Return the money that came in less what went out, as the venue's own statement has it."""
        return WIDE.subtract(WIDE.subtract(WIDE.subtract(self.realised_pnl, self.cost), self.fees), self.funding)


def apply_fill(position: PositionState, signed_quantity: int, price: int, multiplier: Decimal) -> Decimal:
    """Change ``position`` by a fill and return the realised P&L, before fees.

    Raises AssertionError on a fill of nothing. A fill that crosses zero closes the old position and opens one.
    """
    assert signed_quantity != 0 and price > 0, f"a fill of {signed_quantity} at {price}"
    held = position.quantity
    if held == 0 or (held > 0) == (signed_quantity > 0):
        position.quantity = held + signed_quantity
        position.cost = WIDE.add(position.cost, notional(price, signed_quantity, multiplier))
        return ZERO
    closed = min(abs(signed_quantity), abs(held)) * (1 if held > 0 else -1)
    released = _share(position.cost, closed, held)
    realised = WIDE.subtract(notional(price, closed, multiplier), released)
    position.quantity = held - closed
    position.cost = WIDE.subtract(position.cost, released)
    position.realised_pnl = WIDE.add(position.realised_pnl, realised)
    opened = signed_quantity + closed
    if opened:
        position.quantity = opened
        position.cost = notional(price, opened, multiplier)
    return realised


def _share(cost: Decimal, closed: int, held: int) -> Decimal:
    if closed == held:
        return cost
    return WIDE.divide(WIDE.multiply(cost, Decimal(closed)), Decimal(held)).quantize(MONEY_QUANTUM, context=WIDE)


def average_price(position: PositionState, multiplier: Decimal) -> int | None:
    """Return the average entry price in units of 1e-8, rounded half-even, or None when flat."""
    if position.quantity == 0:
        return None
    scaled = WIDE.divide(position.cost, multiplier).scaleb(18, context=WIDE)
    numerator, denominator = int(scaled), position.quantity * 100
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    return round_half_even(numerator, denominator)


def unrealised_pnl(position: PositionState, mid: int | None, multiplier: Decimal) -> Decimal:
    """Return the value of the open quantity at ``mid`` less its cost; 0 when flat or never priced."""
    if position.quantity == 0 or mid is None:
        return ZERO
    return WIDE.subtract(notional(mid, position.quantity, multiplier), position.cost)
