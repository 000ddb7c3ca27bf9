"""Implementation shortfall: what an order cost against the mid it was decided on, split into parts that sum to it.

After Perold (1988) and the split of the effective spread into realised spread and price impact. With s = +1 for a
buy and -1 for a sell, quantity q filled at p of the quantity Q ordered, and the mids M at

    D the decision, A the arrival (when the request was sent), F the fill, H the horizon after it, E the horizon
    after the order's end:

    delay        s q (A - D)      the market moved before the request was sent
    drift        s q (F - A)      it moved while the order worked
    spread       s q (p - H)      what was paid beyond the mid that came to be (negative: earned, as a maker may)
    impact       s q (H - F)      how far the mid went in the order's direction after the fill
    fees                          as charged, in the quote currency
    opportunity  s (Q - q) (E - D)  what the unfilled rest would have earned

Spread and impact together are the effective half-spread, s q (p - F). All is exact: nothing is rounded.
"""

from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final, NamedTuple

from schemas.values import ZERO, Side

PARTS: Final = ("delay", "drift", "spread", "impact", "fees", "opportunity")
_EXACT: Final = Context(prec=76)


class MeasuredFill(NamedTuple):
    """One execution: price and quantity in units of 1e-8, the fee in the quote currency, and the mids about it."""

    price: int
    quantity: int
    fee: Decimal
    mid: int
    mid_after: int


class MeasuredOrder(NamedTuple):
    """One finished order and the mids about it, in units of 1e-8; ``mid_after`` counts only for what is not filled."""

    side: Side
    quantity: int
    multiplier: Decimal
    decision_mid: int
    arrival_mid: int
    mid_after: int
    fills: tuple[MeasuredFill, ...]


class Shortfall(NamedTuple):
    """Money in the quote currency, positive when it was lost; ``notional`` is the order's at the decision's mid."""

    delay: Decimal
    drift: Decimal
    spread: Decimal
    impact: Decimal
    fees: Decimal
    opportunity: Decimal
    total: Decimal
    notional: Decimal
    filled_notional: Decimal


def shortfall(order: MeasuredOrder) -> Shortfall:
    """Return the parts and their sum. ``total`` is worked out on its own: paper profit less what was really had."""
    sign, multiplier = order.side.sign, order.multiplier

    def value(move: int, quantity: int) -> Decimal:
        return _EXACT.multiply(Decimal(move * quantity * sign).scaleb(-16, _EXACT), multiplier)

    decided, arrived = order.decision_mid, order.arrival_mid
    filled = sum(fill.quantity for fill in order.fills)
    missed = order.quantity - filled
    fees = _sum(fill.fee for fill in order.fills)
    opportunity = value(order.mid_after - decided, missed)
    paid = _sum(value(fill.price - decided, fill.quantity) for fill in order.fills)
    return Shortfall(
        delay=value(arrived - decided, filled),
        drift=_sum(value(fill.mid - arrived, fill.quantity) for fill in order.fills),
        spread=_sum(value(fill.price - fill.mid_after, fill.quantity) for fill in order.fills),
        impact=_sum(value(fill.mid_after - fill.mid, fill.quantity) for fill in order.fills),
        fees=fees,
        opportunity=opportunity,
        total=_sum((paid, fees, opportunity)),
        notional=abs(value(decided, order.quantity)),
        filled_notional=abs(value(decided, filled)),
    )


def total_of(items: Iterable[Shortfall]) -> Shortfall:
    """Return the sums of several, part by part; of one currency, which is the caller's to see to."""
    listed = list(items)
    return Shortfall(*(_sum(getattr(item, name) for item in listed) for name in Shortfall._fields))


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total
