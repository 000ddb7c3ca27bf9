"""What an order of ours is: its terms, what is filled of it, and what is under way.

How it may change is ``agents.execution.transitions``.
"""

from decimal import Decimal

import msgspec

from agents.execution.transitions import TERMINAL, TRANSITIONS
from schemas.orders import ExecType, OrderStatus
from schemas.values import ZERO, Leg, Liquidity, OrderType, Side, TimeInForce


class Amend(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a working order that was asked for and is not answered yet. ``quantity`` is the whole order's."""

    amend_id: str
    quantity: int
    limit_price: int
    sent_at_ns: int
    not_after_ns: int


class BookedFill(msgspec.Struct, kw_only=True):
    """A fill as it was booked, so that it can be taken back. ``number`` counts the fills of its line from 1.

    ``held_before`` and ``cost_before`` are the line's position just before it.
    """

    number: int
    price: int
    quantity: int
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    held_before: int
    cost_before: Decimal
    busted: bool = False


class OrderState(msgspec.Struct, kw_only=True):
    """One order of ours as execution knows it. Quantities and prices in units of 1e-8, times in ns.

    ``filled_notional`` is the sum of price x quantity, exact and without the multiplier. ``timer_ns`` is when the
    order wants attention (0: never), ``attempts`` how often the venue was asked since it last answered. ``triggered``:
    its stop price has been reached. ``client_order_id`` is the id that the venue
    knows it by, fixed in the intent; empty when nobody remembers it.

    ``fill_ids`` are all that were ever heard of, ``booked`` those that were booked, ``busted_early`` those that the
    venue took back before it told of them; ``busted_quantity`` was filled and is no more. ``amend`` is under way;
    ``amend_outcomes`` says of each one that is over whether the venue took it, ``terms_at_ns`` when one last did.
    ``cancel_epoch`` is the claim under which a cancel was last asked for.
    """

    order_id: str
    decision_id: str
    account: str
    strategy: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int | None
    quantity: int
    decision_mid: int
    decided_at_ns: int
    created_at_ns: int
    not_after_ns: int
    status: OrderStatus = OrderStatus.PENDING_NEW
    venue_order_id: str | None = None
    filled_quantity: int = 0
    filled_notional: Decimal = ZERO
    fill_ids: list[str] = []
    cancel_wanted: bool = False
    timer_ns: int = 0
    attempts: int = 0
    anomalies: int = 0
    finished_at_ns: int = 0
    stop_price: int | None = None
    triggered: bool = False
    parent_order_id: str | None = None
    leg: Leg | None = None
    client_order_id: str = ""
    booked: dict[str, BookedFill] = {}
    busted_early: list[str] = []
    busted_quantity: int = 0
    amend: Amend | None = None
    amend_outcomes: dict[str, bool] = {}
    terms_at_ns: int = 0
    cancel_epoch: int = 0

    @property
    def final(self) -> bool:
        """Whether no further outcome can come, save a late fill."""
        return self.status in TERMINAL

    @property
    def leaves_quantity(self) -> int:
        """Return what may still be filled; 0 once the order is final."""
        return 0 if self.status in TERMINAL else max(self.quantity - self.filled_quantity, 0)

    @property
    def pending_quantity(self) -> int:
        """Return the largest quantity that the order may have by now: an amend under way may have been taken."""
        return self.quantity if self.amend is None else max(self.quantity, self.amend.quantity)

    @property
    def exposed_quantity(self) -> int:
        """Return the most that may still be filled, whatever becomes of an amend."""
        return 0 if self.status in TERMINAL else max(self.pending_quantity - self.filled_quantity, 0)

    @property
    def exposed_price(self) -> int | None:
        """Return the limit price that reaches furthest of those that the order may have by now."""
        if self.amend is None or self.limit_price is None:
            return self.limit_price
        worst = max if self.side is Side.BUY else min
        return worst(self.limit_price, self.amend.limit_price)

    @property
    def average_price(self) -> int | None:
        """Return the mean fill price in units of 1e-8, rounded half-even, or None without a fill."""
        if not self.filled_quantity:
            return None
        numerator = int(self.filled_notional.scaleb(16))
        return round_half_even(numerator, self.filled_quantity)


def round_half_even(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded half-even, in whole numbers, for a positive denominator."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


def next_status(order: OrderState, exec_type: ExecType) -> OrderStatus | None:
    """Return the status after ``exec_type``, with fills and terms already counted, or None if it is illegal.

    NEW with a fill reads PARTIALLY_FILLED, and that without one NEW. While an amend is under way an order that works is
    PENDING_REPLACE, and complete only when it is so by either terms; once it is over, by the terms that are in force.
    """
    status = TRANSITIONS[order.status].get(exec_type)
    if status is None:
        return None
    settles = exec_type in (ExecType.REPLACED, ExecType.REPLACE_REJECTED) and status not in TERMINAL
    if (exec_type is ExecType.TRADE or settles) and order.filled_quantity >= order.pending_quantity:
        return OrderStatus.FILLED
    if status is OrderStatus.NEW or status is OrderStatus.PARTIALLY_FILLED:
        if order.amend is not None:
            return OrderStatus.PENDING_REPLACE
        return OrderStatus.PARTIALLY_FILLED if order.filled_quantity else OrderStatus.NEW
    return status
