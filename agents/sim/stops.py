"""Stops that wait at the simulated venue for their stop price.

The last price is the newest trade's; of an instrument that no trade has been seen of, the mid. A sell is reached by a
last price at or below its stop price, a buy by one at or above it. Those reached together act in the order in which
they came.
"""

from collections.abc import Iterable

from agents.sim.engine import Engine, VenueOrder
from agents.sim.last_prices import Reach
from schemas.values import Side


class WaitingStops:
    """The stops of all accounts that have not been reached."""

    def __init__(self, orders: Iterable[VenueOrder]) -> None:
        self._orders = {order.order_id: order for order in orders if order.live and order.waiting}

    def __bool__(self) -> bool:
        return bool(self._orders)

    def add(self, order: VenueOrder, engine: Engine) -> None:
        """Let a stop wait; what was traded before it came is not for it."""
        if not self._orders:
            engine.prices.take()
        self._orders[order.order_id] = order

    def drop(self, order: VenueOrder) -> None:
        """Let an order wait no more."""
        self._orders.pop(order.order_id, None)

    def take_reached(self, engine: Engine) -> list[VenueOrder]:
        """Return the stops that have been reached since the last call, and let them go."""
        reaches = engine.prices.take()
        for name in {order.instrument for order in self._orders.values()} - reaches.keys():
            mid = engine.mid(name) if engine.prices.last(name) is None else None
            if mid is not None:
                reaches[name] = Reach(mid, mid)
        found = [order for order in self._orders.values() if _reached(order, reaches.get(order.instrument))]
        for order in found:
            del self._orders[order.order_id]
        return sorted(found, key=lambda order: order.number)


def last_price(engine: Engine, instrument: str) -> int | None:
    """Return the last price of an instrument, or None of one that neither trades nor is quoted."""
    traded = engine.prices.last(instrument)
    return engine.mid(instrument) if traded is None else traded


def _reached(order: VenueOrder, reach: Reach | None) -> bool:
    if reach is None or order.stop_price is None:
        return False
    return reached_by(order.side, order.stop_price, reach.low if order.side is Side.SELL else reach.high)


def reached_by(side: Side, stop_price: int, price: int) -> bool:
    """Return whether a last price reaches a stop price."""
    return price <= stop_price if side is Side.SELL else price >= stop_price
