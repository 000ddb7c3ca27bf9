"""After every claim the books are held against the venues', and nothing new is traded before they agree.

Whoever takes over does not know what happened while nobody listened. Each venue is asked for all that it has of us in
one answer, which is booked in the order of its own times: so the same answer, in whatever order its parts come, gives
the same books, and one that comes twice changes nothing. What still differs is asked about again, as long as it does.
"""

from typing import Final

from agents.execution.open_orders import open_orders
from agents.execution.orphans import take_orphans
from agents.execution.reconciliation_compare import compare, open_at, same_thing, told_well, venue_of
from agents.execution.reconciliation_state import (
    STATE_KEY,
    Doubt,
    ReconciliationState,
    VenueStanding,
)
from agents.execution.reporting import take_report
from agents.execution.turn import Turn
from agents.limits.exposure import ExposureView
from schemas.decisions import OrderApproved
from schemas.event import derive_id
from schemas.orders import ReportKind, VenueFill, VenueReport
from schemas.reconciliation import BooksRequested, ToldOrder, VenueBooks
from schemas.values import NS_PER_S

_CLOCKS_APART_NS: Final = 2 * NS_PER_S


def begin(turn: Turn, epoch: int) -> None:
    """Ask every venue that is traded at; until all have answered and agree, what adds risk is denied."""
    venues: dict[str, VenueStanding] = {}
    for name in sorted(_instruments(turn)):
        venues.setdefault(venue_of(name), VenueStanding(instruments=[])).instruments.append(name)
    state = ReconciliationState(epoch=epoch, began_at_ns=turn.at_ns, venues=venues)
    if not venues:
        state.clean_at_ns = turn.at_ns
    for venue in venues:
        _ask(turn, state, venue)
    turn.state[STATE_KEY] = state


def _instruments(turn: Turn) -> set[str]:
    """Return what is traded, held or worked, be it that a strategy was taken from the settings since."""
    held = {
        key.partition("|")[2]
        for name in turn.config.accounts
        if f"account/{name}" in turn.state
        for key, position in turn.state[f"account/{name}"].positions.items()
        if position.quantity
    }
    return {*turn.config.traders, *held, *(order.instrument for order in open_orders(turn))}


def ask_again(turn: Turn) -> None:
    """Ask the venues whose next question has fallen due."""
    state: ReconciliationState | None = turn.state.get(STATE_KEY)
    if state is None or state.clean_at_ns:
        return
    for venue, one in state.venues.items():
        if one.ask_at_ns and one.ask_at_ns <= turn.at_ns:
            _ask(turn, state, venue)
            turn.state[STATE_KEY] = state


def _ask(turn: Turn, state: ReconciliationState, venue: str) -> None:
    one = state.venues[venue]
    backoff = turn.config.query_backoff_ns
    one.ask_at_ns = turn.at_ns + backoff[min(one.attempt, len(backoff) - 1)]
    one.attempt += 1
    one.asked_at_ns = turn.at_ns
    orders = open_at(turn, one)
    oldest_ns = min((order.created_at_ns for order in orders), default=turn.at_ns)
    # What finished long ago has been forgotten here: it must not come back as an order that nobody knows.
    since_ns = min(turn.at_ns - turn.config.retention_ns // 2, oldest_ns - _CLOCKS_APART_NS)
    turn.outputs.append(
        BooksRequested(
            key=venue,
            event_time_ns=turn.event.event_time_ns,
            available_at_ns=turn.at_ns,
            venue=venue,
            instruments=tuple(one.instruments),
            client_ids=tuple(order.client_order_id or order.order_id for order in orders),
            since_ns=max(0, since_ns),
            epoch=state.epoch,
            attempt=one.attempt,
        )
    )


def take_books(turn: Turn, books: VenueBooks) -> None:
    """Book what the venue tells and we had not heard, and note what differs; an answer is taken once.

    Raises BadRecord for an answer that cannot be right, before anything is booked.
    """
    state: ReconciliationState | None = turn.state.get(STATE_KEY)
    one = state.venues.get(books.venue) if state is not None and state.epoch == books.epoch else None
    if state is None or one is None or books.attempt <= one.answered or one.clean:
        return
    told_well(books, one.instruments)
    one.answered = books.attempt
    found = take_orphans(turn, books)
    _book(turn, books)
    one.differences = sorted({*found, *compare(turn, books, one)})
    one.clean = not any(item.blocks for item in one.differences)
    _settle(turn, books, one)
    if all(other.clean for other in state.venues.values()):
        state.clean_at_ns = turn.at_ns
    turn.state[STATE_KEY] = state


def _book(turn: Turn, books: VenueBooks) -> None:
    """Book all fills that are new in the order of their times, and only then what each order has come to."""
    known = [
        (order, told)
        for told in sorted(books.orders, key=lambda item: item.order_id)
        if (order := turn.order(told.order_id)) is not None and same_thing(order, told)
    ]
    for order, told in known:
        # Under this id, and no other, the venue is asked about it from now on.
        order.client_order_id = order.client_order_id or told.client_id
    fills = [(fill.event_time_ns, fill.fill_id, fill, order, told) for order, told in known for fill in told.fills]
    for _, _, fill, order, told in sorted(fills, key=lambda item: item[:2]):
        if fill.fill_id not in order.fill_ids and not fill.busted:
            take_report(turn, _trade(books, told, fill))
    for _, told in known:
        take_report(turn, _status(books, told))


def _trade(books: VenueBooks, told: ToldOrder, fill: VenueFill) -> VenueReport:
    return VenueReport(
        key=books.key,
        event_time_ns=fill.event_time_ns,
        available_at_ns=books.available_at_ns,
        event_id=derive_id(books.event_id, told.order_id, 0),
        order_id=told.order_id,
        instrument=told.instrument,
        kind=ReportKind.TRADE,
        venue_order_id=told.venue_order_id,
        fill_id=fill.fill_id,
        last_price=fill.price,
        last_quantity=fill.quantity,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        liquidity=fill.liquidity,
    )


def _status(books: VenueBooks, told: ToldOrder) -> VenueReport:
    return VenueReport(
        key=books.key,
        event_time_ns=books.event_time_ns,
        available_at_ns=books.available_at_ns,
        event_id=derive_id(books.event_id, told.order_id, 1),
        order_id=told.order_id,
        instrument=told.instrument,
        kind=ReportKind.STATUS,
        venue_order_id=told.venue_order_id,
        status=told.status,
        filled_quantity=told.filled_quantity,
        fills=told.fills,
        quantity=told.quantity,
        limit_price=told.limit_price,
        triggered=told.triggered,
    )


def _settle(turn: Turn, books: VenueBooks, one: VenueStanding) -> None:
    """Do what can be done about what differs, and say when the venue is asked again."""
    for item in one.differences:
        order = turn.order(item.name)
        if order is None:
            continue
        if item.kind is Doubt.ORDER_MISSING:
            turn.ask(order)
        elif item.kind is Doubt.ORDER_OPEN_THERE:
            # Here it is over, so nobody waits for it: it must not go on working.
            turn.request_cancel(order)
    backoff = turn.config.query_backoff_ns
    one.ask_at_ns = 0 if one.clean else turn.at_ns + backoff[min(books.attempt, len(backoff) - 1)]


def take_outcome(turn: Turn, order_id: str) -> None:
    """Ask at once when the last order that a venue did not know has come to its end: nothing else is waited for."""
    state: ReconciliationState | None = turn.state.get(STATE_KEY)
    order = turn.order(order_id)
    if state is None or state.clean_at_ns or order is None or not order.final:
        return
    one = state.venues.get(venue_of(order.instrument))
    awaited = [item.name for item in one.differences if item.kind is Doubt.ORDER_MISSING] if one is not None else []
    if one is None or order_id not in awaited:
        return
    if all((other := turn.order(name)) is None or other.final for name in awaited):
        one.ask_at_ns = min(one.ask_at_ns, turn.at_ns) if one.ask_at_ns else 0
        turn.state[STATE_KEY] = state


def withheld(turn: Turn, approval: OrderApproved, view: ExposureView) -> bool:
    """Tell whether an order must wait for the books to be those of the venues: all must be that add risk.

    What can only reduce a position may leave once the venue has answered, if nothing differs on its instrument: people
    must be able to close what is known for certain. Cancels never come here.
    """
    state: ReconciliationState | None = turn.state.get(STATE_KEY)
    if state is None or state.clean_at_ns:
        return False
    one = state.venues.get(venue_of(approval.instrument))
    line = view.lines.get((approval.strategy, approval.instrument))
    if one is None or not one.answered or line is None or approval.quantity <= 0:
        return True
    doubted = {item.instrument for item in one.differences if item.blocks}
    assets = {turn.config.instruments[approval.instrument].base_currency, approval.instrument}
    return bool(doubted & assets) or not line.reduced_by(approval.side, approval.quantity)
