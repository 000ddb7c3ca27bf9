"""The smallest steps of an instrument that nobody defined, from what its first records show.

A capture of an unknown instrument still has to run. What is guessed here is said with a Quality(INCREMENTS_INFERRED)
by ingestion, since a guess can only be too coarse: a finer step may come later.
"""

import math
from collections.abc import Iterable

from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade


def infer_increments(events: Iterable[Event]) -> tuple[int, int]:
    """Return (tick, lot) in units of 1e-8: the greatest common divisors of all prices and of all quantities seen.

    Raises ValueError when no price was seen; without sizes the lot is 1 whole unit.
    """
    tick = lot = 0
    for event in events:
        prices, quantities = _numbers(event)
        tick = math.gcd(tick, *prices)
        lot = math.gcd(lot, *quantities)
    if not tick:
        raise ValueError("no price was seen, so no tick can be inferred")
    return tick, lot or 100_000_000


def _numbers(event: Event) -> tuple[list[int], list[int]]:
    if isinstance(event, Trade):
        return [event.price], [event.quantity or 0]
    if isinstance(event, Quote):
        return [event.bid_price or 0, event.ask_price or 0], [event.bid_quantity or 0, event.ask_quantity or 0]
    if isinstance(event, DepthUpdate | BookSnapshot):
        return [*event.bid_prices, *event.ask_prices], [*event.bid_quantities, *event.ask_quantities]
    return [], []
