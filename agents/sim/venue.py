"""The account side of the simulated exchange: what an order manager talks to. Pure: time comes with every call.

A request travels for a seeded latency, meets the engine, and what follows travels back. An order id is accepted
once, ever: a second request with it changes nothing. Holders of an older epoch than the newest seen are fenced off.
"""

from agents.sim.engine import Engine, Taken, Terms, VenueOrder
from agents.sim.stops import WaitingStops, last_price
from agents.sim.venue_amends import amend_refusal
from agents.sim.venue_fills import book_fill, take_back
from agents.sim.venue_funding import FundingClock
from agents.sim.venue_inbox import VenueInbox
from agents.sim.venue_post import VenuePost
from agents.sim.venue_reports import amend_report, answer, bust_report, cancel_refusal, order_report, trade_report
from agents.sim.venue_rules import Seen, asked_about, name_of, order_of, rejection, sellable, untimely
from agents.sim.venue_state import (
    Action,
    Bust,
    FaultKind,
    VenueChanges,
    VenueState,
    VenueTerms,
)
from schemas.event import Event
from schemas.orders import (
    AmendRequested,
    CancelRequested,
    OrderStatus,
    QueryRequested,
    ReportKind,
    SubmitRequested,
    VenueReport,
)
from schemas.values import Liquidity


class SimulatedVenue:
    """Orders, executions, positions and balances as the venue has them.

    ``submit`` and ``cancel`` accept a request; ``advance`` moves time on and returns the reports that have come back;
    ``query`` answers at once. ``changes`` gathers what whoever keeps a record must write down.
    """

    def __init__(
        self,
        terms: VenueTerms,
        engine: Engine,
        state: VenueState | None = None,
        changes: VenueChanges | None = None,
    ) -> None:
        self.terms = terms
        self.engine = engine
        self.state = state if state is not None else VenueState()
        self._funding = FundingClock(terms.instruments)
        self._changes = changes
        self._inbox = VenueInbox(terms, self.state, changes)
        self._stops = WaitingStops(self.state.orders.values())
        self._live = {order.order_id: order for order in self.state.orders.values() if order.live}
        self._post = VenuePost(terms, self.state, changes)

    def submit(self, request: SubmitRequested, now_ns: int, epoch: int = 1, sent_ns: int | None = None) -> Action:
        """Take an order request at ``now_ns``, sent at ``sent_ns``; it meets the engine after the latency."""
        action = Action(due_ns=0, serial=0, sent_ns=sent_ns or now_ns, epoch=epoch, submit=request)
        return self._inbox.send(action, request.order_id, now_ns)

    def cancel(self, request: CancelRequested, now_ns: int, epoch: int = 1) -> Action:
        """Take a request to cancel."""
        action = Action(due_ns=0, serial=0, sent_ns=now_ns, epoch=epoch, cancel=request)
        return self._inbox.send(action, request.order_id, now_ns)

    def amend(self, request: AmendRequested, now_ns: int, epoch: int = 1, sent_ns: int | None = None) -> Action:
        """Take a request to change a resting order."""
        action = Action(due_ns=0, serial=0, sent_ns=sent_ns or now_ns, epoch=epoch, amend=request)
        return self._inbox.send(action, request.order_id, now_ns)

    def query(self, request: QueryRequested, now_ns: int) -> VenueReport:
        """Return what the venue knows of an order at ``now_ns``: STATUS with all fills, or NOT_FOUND."""
        # Whoever asks has taken over: nothing of a former holder is taken from now on.
        self.state.epoch = max(self.state.epoch, request.epoch)
        return answer(request, asked_about(request, self.state.orders), self.terms.name, now_ns)

    def open_orders(self) -> list[VenueOrder]:
        """Return the orders that may still trade."""
        return list(self._live.values())

    def on_market(self, event: Event) -> None:
        """Take a recorded market event: first whatever was due before it, then the event itself."""
        due_ns = self._inbox.due_ns
        if due_ns is not None and due_ns <= event.available_at_ns:
            self._run_until(event.available_at_ns)
        self.engine.on_market(event)
        self._book_maker_fills()
        if self._stops:
            self._trigger_stops(event.available_at_ns)

    def advance(self, now_ns: int) -> list[VenueReport]:
        """Move time on to ``now_ns`` and return the reports that have come back by then, numbered and in order."""
        self._run_until(now_ns)
        self.state.now_ns = max(self.state.now_ns, now_ns)
        return self._post.take_arrived(now_ns)

    def readmit(self, now_ns: int) -> None:
        """Put the orders that were open before a crash back into a new book, behind whoever is there now."""
        for order in self.open_orders():
            if order.waiting:
                continue
            arrival = self.engine.place(order, now_ns)
            if arrival.refused is not None:
                self._end(order, OrderStatus.EXPIRED, ReportKind.EXPIRED, now_ns, f"on restart: {arrival.refused}")
            for taken in arrival.taken:
                self._fill(order, taken, Liquidity.TAKER, now_ns)
        self._trigger_stops(now_ns)

    @property
    def next_due_ns(self) -> int | None:
        """Return when something happens next of its own accord, or None if nothing will."""
        times = (self._inbox.due_ns, self._post.due_ns, self.engine.next_time_ns)
        return min((time_ns for time_ns in times if time_ns is not None), default=None)

    def _run_until(self, now_ns: int) -> None:
        """Carry out actions and engine steps in the order of their times."""
        inbox, engine = self._inbox, self.engine
        while True:
            step_ns, due_ns = engine.next_time_ns, inbox.due_ns
            if step_ns is not None and step_ns <= now_ns and not (due_ns is not None and due_ns < step_ns):
                self._charge_funding(step_ns)
                engine.advance()
                self._book_maker_fills()
                self._trigger_stops(step_ns)
            elif due_ns is not None and due_ns <= now_ns:
                self._perform(inbox.take())
            else:
                break
        if now_ns >= self._funding.due_ns:
            self._charge_funding(now_ns)

    def _perform(self, action: Action) -> None:
        self.state.now_ns = max(self.state.now_ns, action.due_ns)
        if action.submit is not None:
            self._arrive(action, action.submit)
        elif action.cancel is not None:
            self._cancel(action, action.cancel)
        elif action.amend is not None:
            self._amend(action, action.amend)
        elif action.bust is not None:
            self._bust(action.bust, action.due_ns)

    def _arrive(self, action: Action, request: SubmitRequested) -> None:
        state, now_ns = self.state, action.due_ns
        name = name_of(request, state.orders)
        if name in state.orders:
            state.orders[name].requests += 1
            self._note(state.orders[name])
            return
        state.order_number += 1
        number = state.order_number
        if self._fault(FaultKind.LOSE_REQUEST, number):
            return
        order = order_of(action, request, number, name)
        state.orders[order.order_id] = self._live[order.order_id] = order
        self._note(order)
        reason = self._refuse(action, request, order)
        if reason is not None:
            self._end(order, OrderStatus.REJECTED, ReportKind.REJECTED, now_ns, reason)
            return
        if order.waiting:
            self._stops.add(order, self.engine)
            self._post.send(order_report(order, ReportKind.ACCEPTED, now_ns), order)
        else:
            self._place(order, ReportKind.ACCEPTED, now_ns)
            self._trigger_stops(now_ns)
        if self._fault(FaultKind.DISCONNECT, number):
            state.disconnects += 1

    def _place(self, order: VenueOrder, told_as: ReportKind, now_ns: int) -> None:
        """Let an order meet the market: as it arrives, or as its stop price is reached."""
        arrival = self.engine.place(order, now_ns)
        if arrival.refused is not None:
            self._end(order, OrderStatus.REJECTED, ReportKind.REJECTED, now_ns, arrival.refused)
            return
        self._post.send(order_report(order, told_as, now_ns), order)
        for taken in arrival.taken:
            self._fill(order, taken, Liquidity.TAKER, now_ns)
        if not arrival.rests and order.live:
            self._end(order, OrderStatus.EXPIRED, ReportKind.EXPIRED, now_ns, "nothing more to take")
        self._book_maker_fills()

    def _trigger_stops(self, now_ns: int) -> None:
        """Let the stops act whose price has been reached; what they trade may reach others."""
        while self._stops and (reached := self._stops.take_reached(self.engine)):
            for order in reached:
                order.triggered = True
                self._note(order)
                self._place(order, ReportKind.TRIGGERED, now_ns)

    def _refuse(self, action: Action, request: SubmitRequested, order: VenueOrder) -> str | None:
        state = self.state
        reason = untimely(action, self.terms, state.epoch)
        if reason is not None:
            return reason
        state.epoch = max(state.epoch, action.epoch)
        if self._fault(FaultKind.REJECT, order.number):
            return "rejected by script"
        others = (other for other in self._live.values() if other is not order)
        inventory = sellable(state.accounts.get(order.account), others, order)
        instrument = self.terms.instruments.get(order.instrument)
        if instrument is None:
            return rejection(request, None, Seen(None, None, inventory))
        mid, last = self.engine.mid(order.instrument), last_price(self.engine, order.instrument)
        return rejection(request, instrument, Seen(mid, last, inventory))

    def _cancel(self, action: Action, request: CancelRequested) -> None:
        state = self.state
        order = asked_about(request, state.orders)
        fenced = self.terms.fences_epochs and action.epoch < state.epoch
        if order is None or not order.live or fenced:
            self._post.send(cancel_refusal(request, order, action.due_ns, fenced=fenced), None)
            return
        state.epoch = max(state.epoch, action.epoch)
        if not order.waiting:
            self.engine.cancel(order, action.due_ns)
        self._end(order, OrderStatus.CANCELED, ReportKind.CANCELED, action.due_ns, None)

    def _amend(self, action: Action, request: AmendRequested) -> None:
        state, now_ns = self.state, action.due_ns
        order = asked_about(request, state.orders)
        if order is not None and (request.amend_id in order.amends or self._fault(FaultKind.LOSE_AMEND, order.number)):
            return
        reason = untimely(action, self.terms, state.epoch)
        if reason is None:
            state.epoch = max(state.epoch, action.epoch)
            reason = amend_refusal(order, request, state.accounts, self.terms.instruments)
        if reason is not None or order is None:
            self._tell_amend(order, request, now_ns, reason)
            return
        former = Terms(order.limit_price, order.leaves_quantity)
        quantity, order.quantity, order.limit_price = order.quantity, request.quantity, request.limit_price
        arrival = self.engine.amend(order, former, now_ns)
        if arrival.refused is not None:
            order.quantity, order.limit_price = quantity, former.limit_price
        self._tell_amend(order, request, now_ns, arrival.refused)
        for taken in arrival.taken:
            self._fill(order, taken, Liquidity.TAKER, now_ns)
        self._book_maker_fills()
        self._trigger_stops(now_ns)

    def _tell_amend(self, order: VenueOrder | None, request: AmendRequested, now_ns: int, refused: str | None) -> None:
        if order is not None:
            order.amends[request.amend_id] = refused is None
            self._note(order)
        self._post.send(amend_report(order, request, now_ns, refused), order)

    def _bust(self, bust: Bust, now_ns: int) -> None:
        order = self.state.orders[bust.order_id]
        fill = take_back(self.state, self.terms, order, bust.fill_id)
        if fill is not None:
            self._note(order)
            self._post.send(bust_report(order, fill, now_ns), order)

    def _book_maker_fills(self) -> None:
        for fill in self.engine.take_maker_fills():
            met = Taken(fill.price, fill.quantity)
            self._fill(self.state.orders[fill.order_id], met, Liquidity.MAKER, fill.time_ns)

    def _fill(self, order: VenueOrder, met: Taken, liquidity: Liquidity, time_ns: int) -> None:
        fill = book_fill((self.state, self.terms), order, met, liquidity, time_ns)
        if order.status is OrderStatus.FILLED:
            del self._live[order.order_id]
        self._note(order)
        self._post.send(trade_report(order, fill), order)
        if self._fault(FaultKind.DUPLICATE_FILLS, order.number):
            self._post.send(trade_report(order, fill), order)
        self._inbox.plan_bust(order, fill)

    def _end(self, order: VenueOrder, status: OrderStatus, kind: ReportKind, time_ns: int, reason: str | None) -> None:
        order.status = status
        order.reason = reason
        self._live.pop(order.order_id, None)
        self._stops.drop(order)
        self._note(order)
        self._post.send(order_report(order, kind, time_ns, reason), order)

    def _note(self, order: VenueOrder) -> None:
        if self._changes is not None:
            self._changes.orders[order.order_id] = order

    def _fault(self, kind: FaultKind, number: int) -> bool:
        return self.terms.strikes(kind, number)

    def _charge_funding(self, now_ns: int) -> None:
        for report in self._funding.charge(self.state, self.engine, now_ns):
            self._post.send(report, None)
