"""Events of ``tradermind.account.event.v1`` (orders, fills, positions, marks) and of the venue port.

Quantities are unsigned integers in units of 1e-8 unless a name says *position* (signed). Money is Decimal.
"""

import enum
from decimal import Decimal

import msgspec

from schemas.decisions import DenyReason
from schemas.event import Event
from schemas.values import Liquidity, OrderType, Side, TimeInForce


class OrderStatus(enum.StrEnum):
    """OrdStatus of an order, with our own states before the venue has spoken."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    NOT_SENT = "NOT_SENT"


class ExecType(enum.StrEnum):
    """What happened to an order."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    TRADE = "TRADE"
    PENDING_CANCEL = "PENDING_CANCEL"
    CANCELED = "CANCELED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    TIMED_OUT = "TIMED_OUT"
    NOT_FOUND = "NOT_FOUND"
    STATUS = "STATUS"


class OrderEvent(Event, frozen=True, kw_only=True, gc=False):
    """One change of one order. ``key`` is the account.

    ``position_after`` is the signed position of (account, strategy, instrument) and ``working_after`` the signed
    quantity still working there (buys less sells) after this event. ``average_price`` is in units of 1e-8, null
    without a fill. ``final`` says that no further outcome of the order can come, save a late fill.
    """

    order_id: str
    venue_order_id: str | None
    decision_id: str
    account: str
    strategy: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int | None
    quantity: int
    filled_quantity: int
    leaves_quantity: int
    average_price: int | None
    status: OrderStatus
    exec_type: ExecType
    final: bool
    reason: str | None
    deny_reasons: tuple[DenyReason, ...]
    position_after: int
    working_after: int
    decided_at_ns: int


class Posting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a ledger entry. Over one entry the amounts of each asset sum to exactly 0."""

    ledger_account: str
    asset: str
    amount: Decimal


class Fill(Event, frozen=True, kw_only=True, gc=False):
    """One execution. ``key`` is the account; ``fill_id`` is the venue's execution id, unique per venue.

    ``slippage`` is money lost against the mid of the decision (negative when gained).
    """

    fill_id: str
    order_id: str
    venue_order_id: str
    decision_id: str
    account: str
    strategy: str
    instrument: str
    side: Side
    price: int
    quantity: int
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    slippage: Decimal
    realised_pnl: Decimal
    position_after: int
    postings: tuple[Posting, ...]


class Position(Event, frozen=True, kw_only=True, gc=False):
    """The position of one (account, strategy, instrument) after a fill; ``quantity`` is signed."""

    account: str
    strategy: str
    instrument: str
    quantity: int
    average_price: int | None
    realised_pnl: Decimal
    fees: Decimal
    currency: str


class AccountMark(Event, frozen=True, kw_only=True, gc=False):
    """An account valued at a grid mark of one instrument. ``key`` is the account.

    One is emitted per (account, strategy) that trades the instrument. ``position``, ``unrealised_pnl``,
    ``realised_pnl`` and ``fees`` are those of (account, strategy, instrument); ``equity``, ``equity_peak`` and
    ``day_pnl`` are the account's. ``mark_id`` is the MarketMark's event id. ``postings`` hold funding, if any fell due.
    """

    account: str
    strategy: str
    instrument: str
    mark_id: str
    grid_time_ns: int
    mid: int | None
    position: int
    working: int
    unrealised_pnl: Decimal
    realised_pnl: Decimal
    fees: Decimal
    funding: Decimal
    equity: Decimal
    equity_peak: Decimal
    day_pnl: Decimal
    currency: str
    postings: tuple[Posting, ...] = ()


class Claimed(Event, frozen=True, kw_only=True, gc=False):
    """The shell has claimed this shard: whatever was sent before ``epoch`` may or may not have arrived."""

    epoch: int


class SubmitRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue to take an order. Performed once, by the process that committed it; never re-sent.

    It has no topic. ``not_after_ns``: at the socket an older request is not sent.
    """

    order_id: str
    instrument: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price: int | None
    quantity: int
    not_after_ns: int


class CancelRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue to cancel an order. It has no topic."""

    order_id: str
    instrument: str


class QueryRequested(Event, frozen=True, kw_only=True, gc=False):
    """Ask the venue what became of an order. It has no topic; ``attempt`` counts from 1."""

    order_id: str
    instrument: str
    attempt: int


class ReportKind(enum.StrEnum):
    """What the venue, or the lack of its answer, says about an order; FUNDING is about a position."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    EXPIRED = "EXPIRED"
    STATUS = "STATUS"
    NOT_FOUND = "NOT_FOUND"
    TIMED_OUT = "TIMED_OUT"
    NOT_SENT = "NOT_SENT"
    FUNDING = "FUNDING"


class VenueFill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution as the venue lists it in an order's status."""

    fill_id: str
    price: int
    quantity: int
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    event_time_ns: int


class VenueReport(Event, frozen=True, kw_only=True, gc=False):
    """A venue's word on one order of ours, or its absence. It enters execution as a journaled input.

    For TRADE ``last_price``, ``last_quantity``, ``fee`` and ``fill_id`` are set. For STATUS ``filled_quantity``,
    ``status`` and ``fills`` (the TRADE reports known to the venue) are set.

    FUNDING is about no order: ``order_id`` is empty, ``key`` the account, ``event_time_ns`` when it was charged, and
    ``funding_total`` what the account has paid on the instrument in all (negative: received), so that a report that
    was missed, or comes twice, changes nothing.
    """

    order_id: str
    instrument: str
    kind: ReportKind
    venue_order_id: str | None = None
    status: OrderStatus | None = None
    fill_id: str | None = None
    last_price: int | None = None
    last_quantity: int | None = None
    filled_quantity: int | None = None
    fee: Decimal | None = None
    fee_currency: str | None = None
    liquidity: Liquidity | None = None
    reason: str | None = None
    fills: tuple[VenueFill, ...] = ()
    funding_total: Decimal | None = None
