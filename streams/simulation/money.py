"""Orders, fills and money against the venue's own record, which nobody can argue with."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from agents.sim.engine import VenueOrder
from agents.sim.venue_state import VenueAccount
from schemas.decisions import OrderApproved
from schemas.event import Event
from schemas.orders import AccountMark, ExecType, Fill, OrderEvent, OrderStatus
from schemas.topics import ACCOUNT_EVENT, ORDER_APPROVED
from schemas.values import ZERO, notional
from streams.composition import Run, limit_sets
from streams.simulation.taken import TakenLanes
from streams.simulation.venue import LyingVenue
from streams.simulation.violations import Violation, shortened

_NEVER_THERE: Final = frozenset({OrderStatus.NOT_SENT, OrderStatus.DENIED})
_SPREAD_OF_LIMIT: Final = Decimal("1.05")


def money_violations(taken: TakenLanes, venue: LyingVenue, run: Run) -> Iterator[Violation]:
    """Yield what is wrong with orders, fills, positions, cash and limits."""
    account = list(taken.of(ACCOUNT_EVENT.name))
    orders = [event for event in account if isinstance(event, OrderEvent)]
    fills = [event for event in account if isinstance(event, Fill)]
    approved = {event.order_id for event in taken.of(ORDER_APPROVED.name) if isinstance(event, OrderApproved)}
    yield from _intents(orders, approved, venue)
    yield from _outcomes(orders, venue.core.state.orders)
    yield from _fills(fills, venue.core.state.orders)
    yield from leg_violations(fills)
    yield from _books(fills, account, venue, run)
    yield from _limits(account, run)


def _intents(orders: list[OrderEvent], approved: set[str], venue: LyingVenue) -> Iterator[Violation]:
    intents = Counter(event.order_id for event in orders if event.exec_type is ExecType.PENDING_NEW)
    for order_id, times in intents.items():
        if times != 1 or order_id not in approved:
            yield Violation("an approval is one intent", order_id, "one, approved", f"{times}, {order_id in approved}")
    for amend_id, times in venue.amended.items():
        if times > 1 or amend_id not in approved:
            yield Violation("an amend is at most one request", amend_id, "one", f"{times}")
    for order_id, times in venue.submitted.items():
        if times > 1 or order_id not in intents:
            found = f"{times} requests, {intents[order_id]} intents"
            yield Violation("an intent is at most one request", order_id, "one intent, one request", found)


def _outcomes(orders: list[OrderEvent], known: dict[str, VenueOrder]) -> Iterator[Violation]:
    """Each order ends once, as the venue says; what rests in the venue's book is open on both sides."""
    finals: dict[str, list[OrderStatus]] = defaultdict(list)
    newest: dict[str, OrderEvent] = {}
    for event in orders:
        newest[event.order_id] = event
        if event.final and event.status not in finals[event.order_id]:
            finals[event.order_id].append(event.status)
    for order_id, event in newest.items():
        ours, theirs = finals[order_id], known.get(order_id)
        if len(ours) > 1:
            yield Violation("an order has one final outcome", order_id, "one", shortened(ours))
        elif theirs is None:
            if ours not in ([OrderStatus.NOT_SENT], [OrderStatus.DENIED]):
                yield Violation("an order is the venue's", order_id, "not at the venue", shortened(event))
        elif ours != ([] if theirs.live else [theirs.status]):
            yield Violation("an order is the venue's", order_id, shortened(theirs), shortened(event))
    for order_id in known.keys() - newest.keys():
        yield Violation("an order is the venue's", order_id, "an intent of ours", "none")


def _fills(fills: list[Fill], known: dict[str, VenueOrder]) -> Iterator[Violation]:
    theirs = {
        fill.fill_id: (order.order_id, fill.price, fill.quantity, fill.fee)
        for order in known.values()
        for fill in order.fills
    }
    ours: dict[str, object] = {}
    for fill in fills:
        if fill.fill_id in ours:
            yield Violation("a fill is booked once", fill.fill_id, "once", "twice")
        ours[fill.fill_id] = (fill.order_id, fill.price, fill.quantity, fill.fee)
    for fill_id in sorted(theirs.keys() | ours.keys()):
        if theirs.get(fill_id) != ours.get(fill_id):
            yield Violation(
                "fills are the venue's", fill_id, shortened(theirs.get(fill_id)), shortened(ours.get(fill_id))
            )


def leg_violations(fills: list[Fill]) -> Iterator[Violation]:
    """What protects a position closes it and goes no further: this venue fills nothing after the end of an order."""
    for fill in fills:
        if fill.leg is not None and fill.side.sign * fill.position_after > 0:
            yield Violation("a leg trades no further than the position", fill.fill_id, "at most 0", shortened(fill))


def _books(fills: list[Fill], account: list[Event], venue: LyingVenue, run: Run) -> Iterator[Violation]:
    """Positions, cash and fees add up to the venue's; every entry of the ledger sums to zero in every asset."""
    positions: dict[str, int] = defaultdict(int)
    cash: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for fill in fills:
        instrument = run.instruments[fill.instrument]
        positions[fill.instrument] += fill.side.sign * fill.quantity
        cash[fill.fee_currency] -= fill.fee
        cash[instrument.quote_currency] -= notional(fill.price, fill.side.sign * fill.quantity, instrument.multiplier)
    theirs = venue.core.state.accounts.get("main", VenueAccount())
    if dict(positions) != theirs.positions:
        yield Violation("positions are the venue's", "main", shortened(theirs.positions), shortened(dict(positions)))
    if dict(cash) != theirs.cash:
        yield Violation("cash is the venue's", "main", shortened(theirs.cash), shortened(dict(cash)))
    for event in account:
        if isinstance(event, Fill | AccountMark):
            sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
            for posting in event.postings:
                sums[posting.asset] += posting.amount
            if any(sums.values()):
                yield Violation("the ledger sums to zero", event.event_id, "0", shortened(event))
    if fills and fills[-1].position_after is None:
        yield Violation("positions are the venue's", fills[-1].fill_id, "a position", "none")


def _limits(account: list[Event], run: Run) -> Iterator[Violation]:
    limit = limit_sets(run)["main"].position_value_max * _SPREAD_OF_LIMIT
    for event in account:
        if isinstance(event, AccountMark) and event.mid is not None:
            value = abs(notional(event.mid, event.position))
            if value > limit:
                yield Violation("no position beyond its limit", event.event_id, f"at most {limit}", f"{value}")
