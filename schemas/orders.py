"""Events of ``tradermind.account.event.v1`` (orders, fills, positions, marks) and of the venue port.

Quantities are unsigned integers in units of 1e-8 unless a name says *position* (signed). Money is Decimal.
"""

import enum
from decimal import Decimal

import msgspec

from schemas.decisions import DenyReason
from schemas.event import Event
from schemas.values import Leg, Liquidity, OrderType, Side, TimeInForce
from schemas.venue_requests import AmendRequested as AmendRequested
from schemas.venue_requests import CancelRequested as CancelRequested
from schemas.venue_requests import Claimed as Claimed
from schemas.venue_requests import QueryRequested as QueryRequested
from schemas.venue_requests import SubmitRequested as SubmitRequested


class OrderStatus(enum.StrEnum):
    """OrdStatus of an order, with our own states before the venue has spoken."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    NOT_SENT = "NOT_SENT"


class ExecType(enum.StrEnum):
    """What happened to an order. TRIGGERED: the last price has reached its stop price."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    TRIGGERED = "TRIGGERED"
    TRADE = "TRADE"
    PENDING_CANCEL = "PENDING_CANCEL"
    CANCELED = "CANCELED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    PENDING_REPLACE = "PENDING_REPLACE"
    REPLACED = "REPLACED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    TIMED_OUT = "TIMED_OUT"
    NOT_FOUND = "NOT_FOUND"
    STATUS = "STATUS"
    TRADE_CANCEL = "TRADE_CANCEL"
    TRADE_CORRECT = "TRADE_CORRECT"


class OrderEvent(Event, frozen=True, kw_only=True, gc=False):
    """One change of one order. ``key`` is the account.

    ``position_after`` is the signed position of (account, strategy, instrument) and ``working_after`` the signed
    quantity still working there (buys less sells, without orders that only protect) after this event.
    ``average_price`` is in units of 1e-8, null without a fill. ``final`` says that no further outcome of the order can
    come, save a late fill. ``client_order_id`` is the id that the venue knows it by; null for one that was denied.

    ``amend_id`` is the id of the approval whose amend it is about; while that is under way ``pending_quantity`` and
    ``pending_price`` are the terms that the order may have by now.
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
    stop_price: int | None = None
    parent_order_id: str | None = None
    leg: Leg | None = None
    amend_id: str | None = None
    pending_quantity: int | None = None
    pending_price: int | None = None
    client_order_id: str | None = None


class Posting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a ledger entry. Over one entry the amounts of each asset sum to exactly 0."""

    ledger_account: str
    asset: str
    amount: Decimal


class Fill(Event, frozen=True, kw_only=True, gc=False):
    """One execution. ``key`` is the account; ``fill_id`` is the venue's execution id, unique per venue.

    ``slippage`` is money lost against the mid of the decision, of a stop against its stop price (negative when gained).

    ``reverses`` is set when the venue took an execution back (a bust): it names that ``fill_id``, whose quantity and
    price stand here with the other side, its fee with the other sign, and whose effect on the books is undone by it.
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
    leg: Leg | None = None
    reverses: str | None = None


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
    ``strategy_day_pnl`` is the strategy's part of the day's, over all its instruments.
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
    strategy_day_pnl: Decimal | None = None


class ReportKind(enum.StrEnum):
    """What the venue, or the lack of its answer, says about an order; FUNDING is about a position."""

    ACCEPTED = "ACCEPTED"
    TRIGGERED = "TRIGGERED"
    REJECTED = "REJECTED"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REPLACED = "REPLACED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    TRADE_CANCEL = "TRADE_CANCEL"
    TRADE_CORRECT = "TRADE_CORRECT"
    EXPIRED = "EXPIRED"
    STATUS = "STATUS"
    NOT_FOUND = "NOT_FOUND"
    TIMED_OUT = "TIMED_OUT"
    NOT_SENT = "NOT_SENT"
    FUNDING = "FUNDING"


class VenueFill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution as the venue lists it in an order's status; ``busted``: the venue has taken it back."""

    fill_id: str
    price: int
    quantity: int
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    event_time_ns: int
    busted: bool = False


class VenueReport(Event, frozen=True, kw_only=True, gc=False):
    """A venue's word on one order of ours, or its absence. It enters execution as a journaled input.

    For TRADE ``last_price``, ``last_quantity``, ``fee`` and ``fill_id`` are set. For STATUS ``filled_quantity``,
    ``status`` and ``fills`` (the TRADE reports known to the venue) are set, and ``triggered`` if its stop price has
    been reached.

    REPLACED, REPLACE_REJECTED: ``amend_id`` names the request if the venue tells it; ``quantity`` and ``limit_price``
    are the order's terms as the venue has them, which STATUS and the end of an order may tell, too. TRADE_CANCEL takes
    the execution ``refers_to`` back; TRADE_CORRECT replaces it by the one that it describes as TRADE does.

    ``deny_reason``: why our own sender kept a request back (NOT_SENT).

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
    amend_id: str | None = None
    quantity: int | None = None
    limit_price: int | None = None
    refers_to: str | None = None
    triggered: bool = False
    deny_reason: DenyReason | None = None
