"""What the simulated exchange states of all accounts: from its state, or from the record that it left when it ended."""

from pathlib import Path
from typing import Final

import msgspec

from agents.sim.venue_record import restore
from agents.sim.venue_state import VenueState
from infra.venues.account import AccountStatement, StatedFill, StatedOrder
from infra.venues.simulated import VenueUnreachable

RECORD_NAME: Final = "exchange.record"


def statement_of(state: VenueState) -> AccountStatement:
    """Return the statement of the venue whose state this is."""
    orders = state.orders.values()
    accounts = state.accounts.items()
    return AccountStatement(
        orders=tuple(
            StatedOrder(
                order_id=order.order_id,
                account=order.account,
                instrument=order.instrument,
                side=order.side,
                quantity=order.quantity,
                filled_quantity=order.filled_quantity,
                status=order.status,
                limit_price=order.limit_price,
            )
            for order in orders
        ),
        fills=tuple(
            StatedFill(
                fill_id=fill.fill_id,
                order_id=order.order_id,
                account=order.account,
                instrument=order.instrument,
                side=order.side,
                price=fill.price,
                quantity=fill.quantity,
                fee=fill.fee,
                fee_currency=fill.fee_currency,
            )
            for order in orders
            for fill in order.fills
            if not fill.busted
        ),
        positions={f"{name}|{key}": held for name, account in accounts for key, held in account.positions.items()},
        cash={f"{name}|{key}": money for name, account in accounts for key, money in account.cash.items()},
        fees={f"{name}|{key}": money for name, account in accounts for key, money in account.fees.items()},
        funding={f"{name}|{key}": money for name, account in accounts for key, money in account.funding.items()},
    )


class EndedExchange:
    """An ``AccountReader`` of an exchange that has ended: its own record, which it wrote before it told anyone."""

    def __init__(self, record: Path, name: str) -> None:
        self._record = record
        self._name = name

    async def account_statement(self) -> AccountStatement:
        """Return what the record adds up to. Raises VenueUnreachable when there is none."""
        try:
            lines = self._record.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise VenueUnreachable(f"The exchange's record {self._record} cannot be read: {error.strerror}.") from error
        try:
            return statement_of(restore(lines, self._name).state)
        except (msgspec.DecodeError, KeyError) as error:
            raise VenueUnreachable(f"The exchange's record {self._record} is damaged: {error}.") from error
