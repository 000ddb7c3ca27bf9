"""What a venue says of our accounts when it is asked for all of it: the other half of a reconciliation.

Our own books are put into the very same shape (``infra.postgres.queries_statement``), so that the comparison knows
nothing of either side. An adapter states what its venue tells it, and leaves None what the venue does not tell.
"""

from decimal import Decimal
from typing import Protocol

import msgspec

from schemas.orders import OrderStatus
from schemas.values import Side


class StatedOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order by our client order id. Quantities and prices in units of 1e-8; ``limit_price`` None: not told."""

    order_id: str
    account: str
    instrument: str
    side: Side
    quantity: int
    filled_quantity: int
    status: OrderStatus
    limit_price: int | None = None


class StatedFill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution by the venue's id. ``price`` and ``quantity`` in units of 1e-8; ``fee`` is what was paid."""

    fill_id: str
    order_id: str
    account: str
    instrument: str
    side: Side
    price: int
    quantity: int
    fee: Decimal
    fee_currency: str


class AccountStatement(msgspec.Struct, frozen=True, kw_only=True):
    """All that a side has of our accounts, since they were opened.

    ``positions``: ``account|instrument`` -> signed quantity in units of 1e-8. ``cash``, ``fees`` and ``funding``:
    ``account|currency`` -> money. ``cash`` is all that came in less all that went out, without the capital put in and
    without funding; a perpetual's fills count with their full notional. ``fees`` and ``funding`` are what was paid.
    A zero may be left out; None means that the venue does not tell, and nothing is compared.

    ``keeps_refused``: whether the venue lists an order that it rejected.
    """

    orders: tuple[StatedOrder, ...] = ()
    fills: tuple[StatedFill, ...] = ()
    positions: dict[str, int] | None = None
    cash: dict[str, Decimal] | None = None
    fees: dict[str, Decimal] | None = None
    funding: dict[str, Decimal] | None = None
    keeps_refused: bool = True


class AccountReader(Protocol):
    """A venue that can be asked for everything."""

    async def account_statement(self) -> AccountStatement:
        """Return the statement as of now. Raises ``infra.venues.simulated.VenueUnreachable``."""
