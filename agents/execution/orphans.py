"""Orders at a venue that the books do not know: ours by their id, or somebody else's on the same account.

What is ours is cancelled, adopted or left alone, as the settings say, and trading waits until it is gone or booked.
What is not ours is told of and never touched.
"""

from agents.execution.orders import OrderState
from agents.execution.reconciliation_compare import WORKING, shown
from agents.execution.reconciliation_state import BookDifference, Doubt, OrphanPolicy
from agents.execution.turn import Turn
from schemas.order_ids import is_ours, owner_of
from schemas.orders import CancelRequested, ExecType, OrderStatus
from schemas.reconciliation import ToldOrder, VenueBooks
from schemas.values import OrderType, TimeInForce


def take_orphans(turn: Turn, books: VenueBooks) -> list[BookDifference]:
    """Do what the policy says about every unknown order that works; return what stays to be waited for, or is told.

    An unknown order that is over is left to the comparison of positions: it may be one that we had and have forgotten.
    """
    found: list[BookDifference] = []
    policy = turn.config.orphan_orders
    for told in sorted(books.orders, key=lambda item: item.order_id):
        if turn.order(told.order_id) is not None or told.status not in WORKING:
            continue
        if not is_ours(told.order_id):
            found.append(_about(Doubt.FOREIGN_ORDER, told, None))
            continue
        owner = None if policy is OrphanPolicy.HALT else _owner(turn, told)
        if owner is not None:
            _adopt(turn, told, *owner)
        if policy is OrphanPolicy.CANCEL:
            _cancel(turn, told, owner)
        if owner is None:
            found.append(_about(Doubt.ORPHAN_ORDER, told, f"policy {policy}"))
    return found


def _owner(turn: Turn, told: ToldOrder) -> tuple[str, str] | None:
    """Return (account, strategy) when the id says whose the order is, and the venue does not say otherwise."""
    owner = owner_of(told.order_id, turn.config.traders.get(told.instrument, ()))
    return owner if owner is not None and told.account in (None, owner[0]) else None


def _adopt(turn: Turn, told: ToldOrder, account_name: str, strategy: str) -> None:
    """Enter an order as one of which all is still to be learnt; the answer that told of it then says how it stands."""
    market = turn.state.get(f"instrument/{told.instrument}")
    mid = market.mid if market is not None else None
    prices = (mid, told.limit_price, told.stop_price, *(fill.price for fill in told.fills))
    order = OrderState(
        order_id=told.order_id,
        decision_id=told.order_id,
        account=account_name,
        strategy=strategy,
        instrument=told.instrument,
        side=told.side,
        order_type=told.order_type or OrderType.LIMIT,
        time_in_force=told.time_in_force or TimeInForce.GTC,
        limit_price=told.limit_price,
        stop_price=told.stop_price,
        quantity=told.quantity,
        decision_mid=next((price for price in prices if price is not None), 0),
        decided_at_ns=told.created_at_ns,
        created_at_ns=told.created_at_ns,
        not_after_ns=told.created_at_ns,
        status=OrderStatus.UNKNOWN,
        client_order_id=told.client_id,
        venue_order_id=told.venue_order_id,
        attempts=1,
        timer_ns=turn.at_ns + turn.config.ack_timeout_ns,
    )
    account = turn.account(account_name)
    account.open_orders.append(order.order_id)
    turn.save_account(account_name, account)
    turn.save_order(order)
    turn.say_order(order, ExecType.STATUS, f"adopted: {turn.config.orphan_orders} orders that the books do not know")


def _cancel(turn: Turn, told: ToldOrder, owner: tuple[str, str] | None) -> None:
    order = turn.order(told.order_id)
    if order is not None:
        # It leaves as soon as the answer that told of the order has been booked.
        order.cancel_wanted = True
        turn.save_order(order)
        return
    turn.outputs.append(
        CancelRequested(
            key=told.account or (owner[0] if owner is not None else ""),
            event_time_ns=turn.event.event_time_ns,
            available_at_ns=turn.at_ns,
            order_id=told.order_id,
            instrument=told.instrument,
            client_order_id=told.client_id,
        )
    )


def _about(kind: Doubt, told: ToldOrder, ours: str | None) -> BookDifference:
    theirs = f"{told.side} {shown(told.quantity)} {told.status}"
    return BookDifference(kind=kind, instrument=told.instrument, name=told.order_id, ours=ours, theirs=theirs)
