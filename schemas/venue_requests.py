"""What execution asks of a venue, and the claim under which it asks: events that no topic carries.

They are performed by the process that committed them, or not at all. ``schemas.orders`` has them, too, beside what
comes back.
"""

from schemas.event import Event
from schemas.values import OrderType, Side, TimeInForce


class Claimed(Event, frozen=True, kw_only=True, gc=False):
    """The shell has claimed this shard: whatever was sent before ``epoch`` may or may not have arrived."""

    epoch: int


class SubmitRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue to take an order. Performed once, by the process that committed it; never re-sent.

    It has no topic. ``not_after_ns``: at the socket an older request is not sent. ``stop_price`` is set for STOP and
    STOP_LIMIT alone.

    ``client_order_id`` is the id that the venue is to know it by, here and in the requests below; empty: ``order_id``.
    ``commands_through`` is the number of the newest command of people that had been carried out when it was decided: at
    the socket it yields to a halt that came after, and, unless it is ``reduce_only``, to a restriction.
    """

    order_id: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int | None
    quantity: int
    not_after_ns: int
    stop_price: int | None = None
    client_order_id: str = ""
    strategy: str = ""
    commands_through: int = 0
    reduce_only: bool = False


class CancelRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue to cancel an order. It has no topic."""

    order_id: str
    instrument: str
    client_order_id: str = ""


class AmendRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue to give a working order a new price and a new quantity. Performed once; never re-sent.

    It has no topic. ``amend_id`` names the intent, ``quantity`` is the whole order's, what is filled included, and
    ``former_quantity`` and ``former_price`` are its terms so far. ``not_after_ns``: at the socket an older request is
    not sent.
    """

    order_id: str
    amend_id: str
    instrument: str
    side: Side
    limit_price: int
    quantity: int
    former_price: int | None
    former_quantity: int
    not_after_ns: int
    client_order_id: str = ""
    strategy: str = ""
    commands_through: int = 0


class QueryRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue what became of an order. It has no topic; ``attempt`` counts from 1.

    An empty ``client_order_id``: nobody remembers what it was sent as, and the venue is searched for it by our order
    id. ``epoch`` is the claim of whoever asks.
    """

    order_id: str
    instrument: str
    attempt: int
    client_order_id: str = ""
    epoch: int = 0
