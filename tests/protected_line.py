"""Risk and execution joined, before a venue that does what a test says: one strategy, one instrument, its protection.

The venue's own record is the truth; what it reports waits until it is delivered, in its order.
"""

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from money_events import INSTRUMENTS, ONE, PERP, T0, command, decision, limits, mark
from msgspec.structs import force_setattr

from agents.execution.stage import Execution
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.pipeline import Pipeline
from agents.risk.config import ProtectionTerms, RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.risk.state import AccountRisk
from schemas.control import ControlAction
from schemas.decisions import OrderApproved, OrderDenied
from schemas.event import Event, derive_id
from schemas.orders import (
    CancelRequested,
    OrderStatus,
    QueryRequested,
    ReportKind,
    SubmitRequested,
    VenueFill,
    VenueReport,
)
from schemas.reconciliation import BooksRequested
from schemas.values import NS_PER_MS, ZERO, Leg, Liquidity, OrderType, Side, TimeInForce

BRACKET = ProtectionTerms(Decimal("0.01"), Decimal("0.02"))
STOP_ONLY = ProtectionTerms(Decimal("0.01"))


@dataclass
class AtVenue:
    """One order as the venue has it."""

    request: SubmitRequested
    filled: int = 0
    live: bool = True
    status: OrderStatus = OrderStatus.NEW
    triggered: bool = False
    fills: list[VenueFill] = field(default_factory=list)

    @property
    def leaves(self) -> int:
        return self.request.quantity - self.filled

    @property
    def signed(self) -> int:
        return self.request.side.sign * self.leaves


class Floor:
    """Risk, execution and the venue. ``mid`` is where the market stands; the mark is always fresh."""

    def __init__(
        self, protection: ProtectionTerms | None = BRACKET, time_in_force: TimeInForce = TimeInForce.IOC, **changes: Any
    ) -> None:
        caps = limits(**({"messages_max": 10_000, "duplicate_window_ms": 1} | changes))
        strategy = StrategyRisk(
            "alpha", "main", Decimal(1_000), time_in_force=time_in_force, protection=protection, amend=False
        )
        risk = Risk(RiskConfig(INSTRUMENTS, {"main": caps}, {"alpha": strategy}))
        execution = Execution(
            ExecutionConfig(
                instruments=INSTRUMENTS,
                accounts={"main": AccountTerms(capital=Decimal(10_000), currency="USD")},
                strategies={"alpha": StrategyTerms(account="main", instruments=(PERP,))},
                limits={"main": caps},
            )
        )
        self.seen: list[Event] = []
        self.pipeline = Pipeline([risk, execution], perform=self._perform, observe=self.seen.append)
        self.pending: list[Event] = []
        self.reports: deque[VenueReport] = deque()
        self.orders: dict[str, AtVenue] = {}
        self.now_ns, self.mid, self.serial = T0, 100 * ONE, 0
        self.move(self.mid)

    def _perform(self, request: Event) -> tuple[Event, ...]:
        if not isinstance(request, BooksRequested):
            self.pending.append(request)
        return ()

    def _named(self, event: Any) -> Any:
        self.serial += 1
        force_setattr(event, "event_id", derive_id("floor", "event", self.serial))
        return event

    def move(self, mid: int) -> None:
        """Let the market stand at ``mid`` and say so."""
        self.mid = mid
        self.now_ns += 50 * NS_PER_MS
        self.pipeline.publish(self._named(mark(at_ns=self.now_ns, mid=mid)))

    def wait(self, milliseconds: int) -> None:
        """Let time pass; the market stands."""
        for _ in range(max(1, milliseconds // 500)):
            self.now_ns += min(milliseconds, 500) * NS_PER_MS
            self.move(self.mid)

    def decide(self, target: float) -> None:
        """Let the strategy want a target: 0.5 is 5 at a price of 100."""
        self.serial += 1
        self.pipeline.publish(self._named(decision(target, self.serial, self.now_ns)))

    def command(self, action: ControlAction, *, read: bool = True, **changes: Any) -> None:
        """Let a person order something: risk hears of it, and execution reads it where it is written, or not yet."""
        self.serial += 1
        times = {"event_time_ns": self.now_ns, "available_at_ns": self.now_ns}
        ordered = command(action, event_id=f"command-{self.serial}", ordinal=self.serial, **times | changes)
        if read:
            self.pipeline.feed("execution", ordered)
        self.pipeline.publish(ordered)

    def answer(self, index: int = 0, *, reject: bool = False) -> None:
        """Let the venue take the request that waits at this place."""
        request = self.pending.pop(index)
        if isinstance(request, SubmitRequested):
            order = self.orders[request.order_id] = AtVenue(request)
            if reject:
                self._end(order, OrderStatus.REJECTED, ReportKind.REJECTED)
            else:
                self._report(request.order_id, ReportKind.ACCEPTED)
        elif isinstance(request, CancelRequested):
            found = self.orders.get(request.order_id)
            if found is not None and found.live and not reject:
                self._end(found, OrderStatus.CANCELED, ReportKind.CANCELED)
            else:
                self._report(request.order_id, ReportKind.CANCEL_REJECTED)
        elif isinstance(request, QueryRequested):
            self._tell(request.order_id)

    def _tell(self, order_id: str) -> None:
        order = self.orders.get(order_id)
        if order is None:
            self._report(order_id, ReportKind.NOT_FOUND)
            return
        fields: dict[str, Any] = {"status": order.status, "triggered": order.triggered, "fills": tuple(order.fills)}
        self._report(order_id, ReportKind.STATUS, filled_quantity=order.filled, **fields)

    def trade(self, order_id: str, quantity: int | None = None) -> None:
        """Fill an order, whatever its state: one that is over is filled late. A stop is triggered first."""
        order = self.orders[order_id]
        if order.request.order_type.waits and not order.triggered:
            order.triggered = True
            self._report(order_id, ReportKind.TRIGGERED, triggered=True)
        quantity = min(order.leaves, quantity or order.leaves)
        price = order.request.limit_price or self.mid
        self.serial += 1
        fill = VenueFill(
            fill_id=f"f{self.serial}",
            price=price,
            quantity=quantity,
            fee=ZERO,
            fee_currency="USD",
            liquidity=Liquidity.TAKER,
            event_time_ns=self.now_ns,
        )
        order.fills.append(fill)
        order.filled += quantity
        if order.live:
            order.live = order.leaves > 0
            order.status = OrderStatus.PARTIALLY_FILLED if order.live else OrderStatus.FILLED
        self._report(
            order_id,
            ReportKind.TRADE,
            fill_id=fill.fill_id,
            last_price=price,
            last_quantity=quantity,
            fee=ZERO,
            fee_currency="USD",
            liquidity=Liquidity.TAKER,
        )

    def expire(self, order_id: str) -> None:
        """Let what an order has not taken be over."""
        self._end(self.orders[order_id], OrderStatus.EXPIRED, ReportKind.EXPIRED)

    def _end(self, order: AtVenue, status: OrderStatus, kind: ReportKind) -> None:
        order.live, order.status = False, status
        self._report(order.request.order_id, kind)

    def _report(self, order_id: str, kind: ReportKind, **fields: Any) -> None:
        report = VenueReport(
            key="main",
            event_time_ns=self.now_ns,
            available_at_ns=self.now_ns,
            order_id=order_id,
            instrument=PERP,
            kind=kind,
            venue_order_id=None if kind is ReportKind.NOT_FOUND else f"v-{order_id}",
            **fields,
        )
        self.reports.append(self._named(report))

    def deliver(self, count: int = 1_000) -> None:
        """Let up to so many reports arrive."""
        for _ in range(min(count, len(self.reports))):
            self.pipeline.feed("execution", self.reports.popleft())

    def settle(self) -> None:
        """Answer and deliver everything; what takes at once and has not been filled by a test is over."""
        for _ in range(200):
            while self.pending:
                self.answer()
            for order_id, order in self.orders.items():
                if order.live and not order.request.order_type.waits and order.request.time_in_force is not _GTC:
                    self.expire(order_id)
            if not self.reports:
                return
            self.deliver()
        raise AssertionError("it does not come to rest")

    def settle_filling(self) -> None:
        """Answer and deliver everything; what takes back an overfill, or closes at any price, is filled."""
        for _ in range(200):
            while self.pending:
                self.answer()
            for order_id, order in self.orders.items():
                at_any_price = order.request.order_type is OrderType.MARKET
                if order.live and (at_any_price or self.leg_of(order_id) is Leg.OVERFILL):
                    self.trade(order_id)
            self.settle()
            if not self.pending and not self.reports:
                return

    def enter(self, target: float = 0.5) -> str:
        """Hold a position: the order is filled whole and its legs are at the venue. Returns the entry's id."""
        self.decide(target)
        entry = next(item.order_id for item in self.pending if isinstance(item, SubmitRequested))
        self.answer()
        self.trade(entry)
        self.settle()
        return entry

    @property
    def position(self) -> int:
        """What the venue says that we hold."""
        return sum(order.request.side.sign * order.filled for order in self.orders.values())

    @property
    def account(self) -> AccountRisk:
        """Risk's account."""
        found: AccountRisk = self.pipeline.state("risk")["account/main"]
        return found

    def leg_of(self, order_id: str) -> Leg | None:
        """Return what an order is for."""
        return self.approvals()[order_id].leg

    def approvals(self) -> dict[str, OrderApproved]:
        """Return every approved order."""
        return {event.order_id: event for event in self.seen if isinstance(event, OrderApproved) and event.quantity}

    def denials(self) -> list[OrderDenied]:
        """Return every denial of risk's."""
        return [event for event in self.seen if isinstance(event, OrderDenied)]

    def live(self) -> dict[str, AtVenue]:
        """Return the orders that work at the venue."""
        return {order_id: order for order_id, order in self.orders.items() if order.live}

    def live_legs(self) -> list[AtVenue]:
        """Return the protective orders that work at the venue, or are on their way there."""
        return [order for order_id, order in self.live().items() if self.leg_of(order_id) is not None]

    def closing(self, side: Side) -> int:
        """Return what could still be traded on a side: at the venue, or on the way there."""
        there = sum(order.leaves for order in self.orders.values() if order.live and order.request.side is side)
        waiting = [item for item in self.pending if isinstance(item, SubmitRequested) and item.side is side]
        return there + sum(item.quantity for item in waiting)


_GTC = TimeInForce.GTC
