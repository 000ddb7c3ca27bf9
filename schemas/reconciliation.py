"""What execution asks a venue for after every claim, and what the venue says: neither has a topic.

The question leaves after the commit of the claim, the answer enters as a journaled input, so that a replay meets the
same answer in the same place.
"""

from decimal import Decimal

import msgspec

from schemas.event import Event
from schemas.orders import OrderStatus, VenueFill
from schemas.values import OrderType, Side, TimeInForce


class BooksRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask a venue for everything that it has of us. ``key`` and ``venue`` are what stands before the colon.

    Wanted: every open order on ``instruments``, whoever sent it; every order that changed at or after ``since_ns``; and
    those that the venue knows by ``client_ids``, whenever they were. ``attempt`` counts from 1 under one ``epoch``.
    """

    venue: str
    instruments: tuple[str, ...]
    client_ids: tuple[str, ...]
    since_ns: int
    epoch: int
    attempt: int


class ToldOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order as the venue has it, with all its fills. Quantities and prices in units of 1e-8.

    ``client_id`` is what the venue calls the client's id of it, ``order_id`` our own id if that is what it says.
    ``account``, ``limit_price``, ``order_type`` and ``time_in_force`` are None where the venue does not tell.
    ``triggered``: its stop price has been reached.
    """

    order_id: str
    client_id: str
    venue_order_id: str
    instrument: str
    side: Side
    quantity: int
    filled_quantity: int
    status: OrderStatus
    created_at_ns: int
    account: str | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None
    limit_price: int | None = None
    stop_price: int | None = None
    triggered: bool = False
    fills: tuple[VenueFill, ...] = ()


class VenueBooks(Event, frozen=True, kw_only=True, gc=False):
    """A venue's whole answer, all of one moment, which is ``event_time_ns``. It names the question that it answers.

    ``positions``: ``account|instrument`` -> signed quantity in units of 1e-8, a flat one may be left out; ``balances``:
    what there is of an asset, in all accounts together and with what other people have paid in. None: not told.
    """

    venue: str
    epoch: int
    attempt: int
    orders: tuple[ToldOrder, ...]
    positions: dict[str, int] | None = None
    balances: dict[str, Decimal] | None = None
