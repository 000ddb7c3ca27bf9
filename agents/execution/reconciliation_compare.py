"""A venue's answer against our books: every single thing that differs. It books nothing and asks nothing."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from agents.execution.ledger import CASH, is_margined
from agents.execution.open_orders import open_orders
from agents.execution.orders import OrderState
from agents.execution.reconciliation_state import BookDifference, Doubt, VenueStanding
from agents.execution.transitions import LIVE
from agents.execution.turn import Turn
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.orders import OrderStatus
from schemas.reconciliation import ToldOrder, VenueBooks
from schemas.values import ZERO, to_decimal

WORKING: Final = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_CANCEL})
"""What an order is at a venue that may still fill it."""


def venue_of(instrument: str) -> str:
    """Return what stands before the colon."""
    return instrument.partition(":")[0]


def open_at(turn: Turn, standing: VenueStanding) -> list[OrderState]:
    """Return our orders on a venue's instruments that are not final, by account and in the order they were made."""
    return [order for order in open_orders(turn) if order.instrument in standing.instruments]


def same_thing(order: OrderState, told: ToldOrder) -> bool:
    """Tell whether an order and what the venue tells under its id can be one order, whose fills may be booked."""
    return (order.instrument, order.side) == (told.instrument, told.side) and told.account in (None, order.account)


def told_well(books: VenueBooks, instruments: list[str]) -> None:
    """Raises BadRecord when an answer cannot be right: fills of nothing, or one order or fill twice."""
    orders = {told.order_id for told in books.orders}
    fills = [(told.instrument, fill) for told in books.orders for fill in told.fills]
    wrong = ""
    if len(orders) != len(books.orders):
        wrong = "an order is told twice"
    elif len({(name, fill.fill_id) for name, fill in fills}) != len(fills):
        wrong = "a fill is told twice"
    elif any(fill.price <= 0 or fill.quantity <= 0 for _, fill in fills):
        wrong = "a fill is of nothing"
    elif any(told.instrument not in instruments for told in books.orders):
        wrong = "an order on an instrument that was not asked about"
    if wrong:
        raise BadRecord(DeadLetterReason.INVALID_VALUE, f"the books of {books.venue}: {wrong}")


def compare(turn: Turn, books: VenueBooks, standing: VenueStanding) -> Iterator[BookDifference]:
    """Yield what differs once everything that the answer tells has been booked."""
    told = {item.order_id: item for item in books.orders}
    for name in sorted(told):
        order = turn.order(name)
        if order is not None:
            yield from _order(order, told[name])
    for order in open_at(turn, standing):
        if order.order_id not in told and order.created_at_ns <= standing.asked_at_ns:
            yield _about(Doubt.ORDER_MISSING, order, f"{order.status} {shown(order.leaves_quantity)} left", None)
    yield from _positions(turn, books, standing)
    yield from _balances(turn, books, standing)


def _order(order: OrderState, told: ToldOrder) -> Iterator[BookDifference]:
    ours = _terms(order.side, order.quantity, order.limit_price if told.limit_price is not None else None)
    theirs = _terms(told.side, told.quantity, told.limit_price)
    if ours != theirs or not same_thing(order, told):
        yield _about(Doubt.ORDER_DIFFERS, order, ours, theirs)
        return
    listed = sum(fill.quantity for fill in told.fills if not fill.busted)
    if told.filled_quantity > listed or listed > order.filled_quantity:
        theirs = f"{shown(told.filled_quantity)} filled, {shown(listed)} listed"
        yield _about(Doubt.FILL_MISSING_HERE, order, f"{shown(order.filled_quantity)} filled", theirs)
    elif order.filled_quantity > told.filled_quantity:
        theirs = f"{shown(told.filled_quantity)} filled"
        yield _about(Doubt.FILL_MISSING_THERE, order, f"{shown(order.filled_quantity)} filled", theirs)
    elif order.final and told.status in WORKING and told.filled_quantity < told.quantity:
        yield _about(Doubt.ORDER_OPEN_THERE, order, str(order.status), str(told.status))
    elif order.status is OrderStatus.UNKNOWN or (order.status in LIVE and told.status not in WORKING):
        yield _about(Doubt.ORDER_DIFFERS, order, str(order.status), str(told.status))


def _positions(turn: Turn, books: VenueBooks, standing: VenueStanding) -> Iterator[BookDifference]:
    if books.positions is None:
        return
    ours: dict[str, int] = {}
    for name in sorted(turn.config.accounts):
        account = turn.state.get(f"account/{name}")
        for key, position in account.positions.items() if account is not None else ():
            place = f"{name}|{key.partition('|')[2]}"
            ours[place] = ours.get(place, 0) + position.quantity
    for place in sorted({*ours, *books.positions}):
        account_name, _, instrument = place.partition("|")
        # What others hold in accounts that we do not know is none of our business.
        if instrument not in standing.instruments or account_name not in turn.config.accounts:
            continue
        held, stated = ours.get(place, 0), books.positions.get(place, 0)
        if held != stated:
            sides = {"ours": shown(held), "theirs": shown(stated)}
            yield BookDifference(kind=Doubt.POSITION, instrument=instrument, name=place, **sides)


def _balances(turn: Turn, books: VenueBooks, standing: VenueStanding) -> Iterator[BookDifference]:
    """People pay in and out as they like, so more is no difference; less of an asset than our books hold of it is."""
    if books.balances is None:
        return
    terms = [turn.config.instruments[name] for name in standing.instruments]
    for asset in sorted({item.base_currency for item in terms if not is_margined(item)}):
        held = ZERO
        for name in sorted(turn.config.accounts):
            account = turn.state.get(f"account/{name}")
            for key, amount in account.balances.items() if account is not None else ():
                place, _, what = key.rpartition("|")
                if what == asset and (place == CASH or place.startswith("inventory/")):
                    held += amount
        there = books.balances.get(asset, ZERO)
        if there < held:
            sides = {"ours": _plain(held), "theirs": _plain(there)}
            yield BookDifference(kind=Doubt.BALANCE, instrument=asset, name=asset, **sides)


def _about(kind: Doubt, order: OrderState, ours: str | None, theirs: str | None) -> BookDifference:
    return BookDifference(kind=kind, instrument=order.instrument, name=order.order_id, ours=ours, theirs=theirs)


def _terms(side: str, quantity: int, limit_price: int | None) -> str:
    price = "" if limit_price is None else f" at {shown(limit_price)}"
    return f"{side} {shown(quantity)}{price}"


def shown(value: int) -> str:
    """Return units of 1e-8 as people write them."""
    return _plain(to_decimal(value))


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
