"""What the simulated venue's account side asks of whatever matches its orders, and the order both speak of."""

from typing import NamedTuple, Protocol

import msgspec

from agents.sim.last_prices import LastPrices
from schemas.event import Event
from schemas.orders import OrderStatus, VenueFill
from schemas.values import OrderType, Side, TimeInForce


class VenueOrder(msgspec.Struct, kw_only=True):
    """The venue's record of one order, by the client's id. Quantities and prices in units of 1e-8.

    ``sent_at_ns`` is the time that the request carried, ``requests`` how many requests for it have arrived.
    ``busted_quantity`` was traded and taken back; ``amends`` says of each change that was asked for whether it was
    made.
    """

    order_id: str
    venue_order_id: str
    account: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int | None
    quantity: int
    number: int
    created_at_ns: int
    status: OrderStatus = OrderStatus.NEW
    filled_quantity: int = 0
    fills: list[VenueFill] = []
    reason: str | None = None
    stop_price: int | None = None
    triggered: bool = False
    client_order_id: str = ""
    sent_at_ns: int = 0
    requests: int = 1
    busted_quantity: int = 0
    amends: dict[str, bool] = {}

    @property
    def leaves_quantity(self) -> int:
        """Return what may still be traded: what was traded and taken back is not offered again."""
        return self.quantity - self.filled_quantity - self.busted_quantity

    @property
    def waiting(self) -> bool:
        """Whether it is a stop that has not been reached: it lies in no book."""
        return self.order_type.waits and not self.triggered

    @property
    def live(self) -> bool:
        """Whether it may still trade."""
        return self.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class Taken(NamedTuple):
    """A quantity taken at a price on arrival."""

    price: int
    quantity: int


class MakerFill(NamedTuple):
    """A resting order was met by someone else."""

    order_id: str
    price: int
    quantity: int
    time_ns: int


class Terms(NamedTuple):
    """What an order asked for before it was changed: its price, and what might still be traded of it."""

    limit_price: int | None
    leaves: int

    def keep_place(self, order: VenueOrder) -> bool:
        """Tell whether an order keeps its place in the queue: it has only become smaller."""
        return order.limit_price == self.limit_price and order.leaves_quantity <= self.leaves


class Arrival(NamedTuple):
    """What became of an order on arrival: what it took, whether the rest lies in the book, or why it was refused."""

    taken: list[Taken]
    rests: bool
    refused: str | None = None


class Engine(Protocol):
    """A place where orders meet a market. ``prices`` are those that were traded there."""

    prices: LastPrices

    def place(self, order: VenueOrder, now_ns: int) -> Arrival:
        """Take an order that arrives now."""

    def cancel(self, order: VenueOrder, now_ns: int) -> None:
        """Take a resting order out."""

    def amend(self, order: VenueOrder, former: "Terms", now_ns: int) -> Arrival:
        """Give a resting order, which has its new terms already, its place by them; refused, it keeps the old one."""

    def take_maker_fills(self) -> list[MakerFill]:
        """Return the fills of resting orders since the last call."""

    def mid(self, instrument: str) -> int | None:
        """Return the mid in units of 1e-8, or None without a two-sided market."""

    @property
    def next_time_ns(self) -> int | None:
        """When the engine itself acts next, or None if it acts only on what it is told."""

    def advance(self) -> None:
        """Act, at ``next_time_ns``."""

    def on_market(self, event: Event) -> None:
        """Take a market event from outside."""


def bound_of(order: VenueOrder) -> int | None:
    """Return the worst price an order accepts, None for any."""
    return order.limit_price


def rests_in_book(order: VenueOrder) -> bool:
    """Tell whether what an order does not take on arrival lies in the book."""
    resting = order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)
    limited = order.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    return resting and limited and order.limit_price is not None
