"""Events from the decision to the verdict of the hard limits."""

import enum

import msgspec

from schemas.event import Event
from schemas.values import Leg, OrderType, Side, TimeInForce


class DecisionOutcome(enum.StrEnum):
    """Whether the decider wants a position other than the one it wanted before."""

    TARGET = "TARGET"
    NO_TRADE = "NO_TRADE"
    ADVICE = "ADVICE"


class NoTradeReason(enum.StrEnum):
    """Why a decider did nothing when it did nothing."""

    NO_DIRECTION = "NO_DIRECTION"
    NO_MARKET = "NO_MARKET"
    EDGE_BELOW_COST = "EDGE_BELOW_COST"
    TARGET_UNCHANGED = "TARGET_UNCHANGED"
    WARMING_UP = "WARMING_UP"
    ALERT = "ALERT"
    DATA_STALE = "DATA_STALE"
    LEVEL = "LEVEL"
    NULL_POLICY = "NULL_POLICY"
    POLICY_INVALID = "POLICY_INVALID"


class WithheldReason(enum.StrEnum):
    """Why the model in force was not asked, and somebody else was. The list is closed."""

    OUTSIDE_TRAINING = "OUTSIDE_TRAINING"


class Decision(Event, frozen=True, kw_only=True, gc=False):
    """A target exposure in [-1, 1] of the instrument's risk budget for one (account, strategy, instrument).

    ``key`` is the account. ``decision_id`` names it everywhere. ``target`` is the exposure in force after it,
    ``previous_target`` before it. ``observation`` is what the policy saw, ``edge`` the expected move and ``cost``
    the round-trip cost, both as fractions of the mid. A decision older than ``expires_at_ns`` is denied.
    ``withheld`` names the model that is in force in the strategy and was not asked, ``withheld_for`` says why; both are
    null where ``policy`` is whoever is in force.
    """

    decision_id: str
    account: str
    strategy: str
    instrument: str
    ballot_id: str
    tally_id: str
    outcome: DecisionOutcome
    reason: NoTradeReason | None
    target: float
    previous_target: float
    mid: int | None
    horizon_ns: int
    policy: str
    policy_stage: str
    edge: float | None
    cost: float | None
    observation: dict[str, float | None]
    expires_at_ns: int
    request_id: str | None = None
    withheld: str | None = None
    withheld_for: WithheldReason | None = None


class DenyReason(enum.StrEnum):
    """Every reason for which an order is refused by us. The list is closed."""

    DATA_STALE = "DATA_STALE"
    REF_PRICE_STALE = "REF_PRICE_STALE"
    PRICE_COLLAR = "PRICE_COLLAR"
    ORDER_VALUE_MAX = "ORDER_VALUE_MAX"
    ORDER_QTY_MAX = "ORDER_QTY_MAX"
    ORDER_QTY_MIN = "ORDER_QTY_MIN"
    NOTIONAL_MIN = "NOTIONAL_MIN"
    TICK_SIZE = "TICK_SIZE"
    LOT_SIZE = "LOT_SIZE"
    SHORT_NOT_ALLOWED = "SHORT_NOT_ALLOWED"
    MSG_RATE = "MSG_RATE"
    POSITION_LIMIT = "POSITION_LIMIT"
    GROSS_EXPOSURE = "GROSS_EXPOSURE"
    NET_EXPOSURE = "NET_EXPOSURE"
    CREDIT_LIMIT = "CREDIT_LIMIT"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    SELF_TRADE = "SELF_TRADE"
    LOSS_LIMIT = "LOSS_LIMIT"
    DRAWDOWN = "DRAWDOWN"
    KILLED = "KILLED"
    REDUCE_ONLY = "REDUCE_ONLY"
    NOT_PERMITTED = "NOT_PERMITTED"
    INSTRUMENT_UNKNOWN = "INSTRUMENT_UNKNOWN"
    INVALID_NUMBER = "INVALID_NUMBER"
    UNKNOWN_ORDER_OPEN = "UNKNOWN_ORDER_OPEN"
    NOT_SENT_IN_TIME = "NOT_SENT_IN_TIME"
    RECONCILING = "RECONCILING"
    PRICE_MOVE = "PRICE_MOVE"
    EXEC_THROTTLE = "EXEC_THROTTLE"
    REJECT_STREAK = "REJECT_STREAK"
    CLOCK_DRIFT = "CLOCK_DRIFT"
    RISK_THRESHOLD = "RISK_THRESHOLD"
    NOT_AMENDABLE = "NOT_AMENDABLE"
    CANARY_CAP = "CANARY_CAP"
    OVERRIDE_EXPIRED = "OVERRIDE_EXPIRED"


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One hard-limit check: what was seen, what was allowed, and whether it passed."""

    reason: DenyReason
    passed: bool
    observed: str
    limit: str


class OrderApproved(Event, frozen=True, kw_only=True, gc=False):
    """An order that risk has sized and approved. ``key`` is the account; quantities in units of 1e-8.

    ``order_id`` is our client order id, fixed here. ``cancels`` are orders of ours to cancel before it is sent.
    With quantity 0 only the cancels are carried out. ``limit_price`` is the protection price of a MARKET or STOP order,
    the worst that is reckoned with. An order that protects a position names its ``leg`` and, as ``parent_order_id``,
    the newest order that made the position; ``decision_id`` is that order's.

    With ``amends`` it is no new order: it gives the working order of that id a new price and a new quantity (the whole
    order's, what is filled included), and ``order_id`` names the change.
    """

    order_id: str
    decision_id: str
    account: str
    strategy: str
    instrument: str
    side: Side
    quantity: int
    order_type: OrderType
    limit_price: int | None
    time_in_force: TimeInForce
    reduce_only: bool
    cancels: tuple[str, ...]
    decision_mid: int
    limits_version: str
    checks: tuple[CheckResult, ...]
    expires_at_ns: int
    decided_at_ns: int
    stop_price: int | None = None
    parent_order_id: str | None = None
    leg: Leg | None = None
    amends: str | None = None


class OrderDenied(Event, frozen=True, kw_only=True, gc=False):
    """An order that risk refused, with all failing reasons and every check. ``key`` is the account."""

    order_id: str
    decision_id: str
    account: str
    strategy: str
    instrument: str
    side: Side | None
    quantity: int
    target: float
    reasons: tuple[DenyReason, ...]
    limits_version: str
    checks: tuple[CheckResult, ...]
    stop_price: int | None = None
    parent_order_id: str | None = None
    leg: Leg | None = None
