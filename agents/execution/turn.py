"""One step of execution at work: the state it touches, the time it has, and the events it makes."""

from decimal import Decimal

from agents.execution.ledger import opening_entry, post
from agents.execution.orders import OrderState
from agents.execution.positions import PositionState, average_price
from agents.execution.state import AccountState, DeskState, ExecutionConfig, InstrumentState
from agents.limits.book import LimitBook, lapsed
from agents.limits.limit_set import LimitSet
from agents.stage import ShardState
from schemas.decisions import DenyReason
from schemas.event import Event
from schemas.market import InstrumentDefined
from schemas.orders import CancelRequested, ExecType, OrderEvent, Position, QueryRequested
from schemas.values import NS_PER_MS


class Turn:
    """What one input leads to. Everything that changes state goes through here, so that keys are marked as touched."""

    __slots__ = ("at_ns", "config", "desk", "event", "outputs", "state")

    def __init__(self, config: ExecutionConfig, state: ShardState, event: Event) -> None:
        desk: DeskState | None = state.get("desk")
        if desk is None:
            desk = state["desk"] = DeskState()
        self.config = config
        self.state = state
        self.event = event
        self.desk = desk
        self.at_ns = max(desk.now_ns, event.available_at_ns)
        self.outputs: list[Event] = []

    def touch_desk(self) -> None:
        """Mark the shared state as changed."""
        self.state["desk"] = self.desk

    def account(self, name: str) -> AccountState:
        """Return an account's books, opened with its capital at the first use."""
        account: AccountState | None = self.state.get(f"account/{name}")
        if account is None:
            terms = self.config.accounts[name]
            account = AccountState(currency=terms.currency)
            post(account.balances, opening_entry(terms.capital, terms.currency))
            account.equity = account.equity_peak = account.day_start_equity = terms.capital
            self.state[f"account/{name}"] = account
        return account

    def save_account(self, name: str, account: AccountState) -> None:
        """Mark an account as changed."""
        self.state[f"account/{name}"] = account

    def book(self, now_ns: int | None = None) -> LimitBook:
        """Return the limits in force, without the overrides that are over now (by default: at this turn's time)."""
        kept: LimitBook | None = self.state.get("limits")
        if kept is None:
            return self.config.effective.first
        return lapsed(kept, self.at_ns if now_ns is None else now_ns)

    def keep_book(self, book: LimitBook) -> None:
        """Put other limits in force."""
        self.state["limits"] = book

    def limits(self, account: str) -> LimitSet:
        """Return an account's limits in force."""
        return self.config.effective.of(self.book())[account]

    def order(self, order_id: str) -> OrderState | None:
        """Return an order that is still known."""
        return self.state.get(f"order/{order_id}")

    def save_order(self, order: OrderState) -> None:
        """Mark an order as changed, and see that its timer will be looked at."""
        self.state[f"order/{order.order_id}"] = order
        timer = order.timer_ns
        if timer and (self.desk.next_timer_ns == 0 or timer < self.desk.next_timer_ns):
            self.desk.next_timer_ns = timer
            self.touch_desk()

    def instrument(self, name: str) -> InstrumentState:
        """Return what is known of an instrument's market."""
        known: InstrumentState | None = self.state.get(f"instrument/{name}")
        if known is None:
            known = self.state[f"instrument/{name}"] = InstrumentState()
        return known

    def terms(self, order: OrderState) -> InstrumentDefined:
        """Return the definition of an order's instrument."""
        return self.config.instruments[order.instrument]

    def position(self, account: AccountState, strategy: str, instrument: str) -> PositionState:
        """Return the position of (account, strategy, instrument), flat at the first use."""
        return account.positions.setdefault(f"{strategy}|{instrument}", PositionState())

    def working(self, account: AccountState, strategy: str, instrument: str) -> int:
        """Return the signed quantity still working, buys less sells, without what only protects the position."""
        total = 0
        for order_id in account.open_orders:
            order: OrderState = self.state[f"order/{order_id}"]
            if order.instrument == instrument and order.strategy == strategy and order.leg is None:
                total += order.side.sign * order.leaves_quantity
        return total

    def say_order(
        self,
        order: OrderState,
        exec_type: ExecType,
        reason: str | None,
        *,
        denied: tuple[DenyReason, ...] = (),
        amend_id: str | None = None,
    ) -> None:
        """Emit the state of an order after a change, with position and working quantity after it."""
        account = self.account(order.account)
        position = account.positions.get(f"{order.strategy}|{order.instrument}")
        amend = None if order.final else order.amend
        self.outputs.append(
            OrderEvent(
                key=order.account,
                event_time_ns=self.event.event_time_ns,
                available_at_ns=self.at_ns,
                order_id=order.order_id,
                venue_order_id=order.venue_order_id,
                decision_id=order.decision_id,
                account=order.account,
                strategy=order.strategy,
                instrument=order.instrument,
                side=order.side,
                order_type=order.order_type,
                time_in_force=order.time_in_force,
                limit_price=order.limit_price,
                quantity=order.quantity,
                filled_quantity=order.filled_quantity,
                leaves_quantity=order.leaves_quantity,
                average_price=order.average_price,
                status=order.status,
                exec_type=exec_type,
                final=order.final,
                reason=reason,
                deny_reasons=denied,
                position_after=position.quantity if position is not None else 0,
                working_after=self.working(account, order.strategy, order.instrument),
                decided_at_ns=order.decided_at_ns,
                amend_id=amend.amend_id if amend is not None and amend_id is None else amend_id,
                pending_quantity=None if amend is None else amend.quantity,
                pending_price=None if amend is None else amend.limit_price,
                stop_price=order.stop_price,
                parent_order_id=order.parent_order_id,
                leg=order.leg,
                client_order_id=order.client_order_id or None,
            )
        )

    def say_position(self, order: OrderState, position: PositionState, multiplier: Decimal) -> None:
        """Emit a position after a fill."""
        self.outputs.append(
            Position(
                key=order.account,
                event_time_ns=self.event.event_time_ns,
                available_at_ns=self.at_ns,
                account=order.account,
                strategy=order.strategy,
                instrument=order.instrument,
                quantity=position.quantity,
                average_price=average_price(position, multiplier),
                realised_pnl=position.realised_pnl,
                fees=position.fees,
                currency=self.terms(order).quote_currency,
            )
        )

    def count_message(self, name: str) -> None:
        """Count a submit or a cancel towards the account's message rate."""
        account = self.account(name)
        limits = self.limits(name)
        since_ns = self.at_ns - max(limits.message_window_ms, limits.duplicate_window_ms) * NS_PER_MS
        account.messages_ns = [time_ns for time_ns in account.messages_ns if time_ns > since_ns]
        account.contents_ns = {key: time_ns for key, time_ns in account.contents_ns.items() if time_ns > since_ns}
        account.messages_ns.append(self.at_ns)
        self.save_account(name, account)

    def ask(self, order: OrderState) -> None:
        """Ask the venue about an order, and set the timer for asking again."""
        backoff = self.config.query_backoff_ns
        order.timer_ns = self.at_ns + backoff[min(order.attempts, len(backoff) - 1)]
        order.attempts += 1
        self.save_order(order)
        self.outputs.append(
            QueryRequested(
                key=order.account,
                event_time_ns=self.event.event_time_ns,
                available_at_ns=self.at_ns,
                order_id=order.order_id,
                instrument=order.instrument,
                attempt=order.attempts,
                client_order_id=order.client_order_id,
                epoch=self.desk.epoch,
            )
        )

    def request_cancel(self, order: OrderState) -> None:
        """Ask the venue to cancel an order."""
        self.count_message(order.account)
        self.outputs.append(
            CancelRequested(
                key=order.account,
                event_time_ns=self.event.event_time_ns,
                available_at_ns=self.at_ns,
                order_id=order.order_id,
                instrument=order.instrument,
                client_order_id=order.client_order_id,
            )
        )
