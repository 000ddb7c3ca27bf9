"""Checks of conduct: how often, whether twice, against ourselves, after which losses, under which latch."""

from decimal import Decimal

from agents.limits.case import Case, Check, result
from agents.limits.exposure import content_key, messages_of
from agents.limits.valuation import finite, positive_units
from agents.limits.working import WorkingOrder, may_rest
from schemas.decisions import CheckResult, DenyReason
from schemas.values import NS_PER_MS, Level, Side


def message_rate(case: Case) -> CheckResult:
    """Submits and cancels in the sliding window; an order that only cancels is counted but never refused."""
    since_ns = case.now_ns - case.limits.message_window_ms * NS_PER_MS
    recent = sum(1 for time_ns in case.view.messages_ns if time_ns > since_ns)
    count = recent + messages_of(case.order)
    passed = case.order.quantity == 0 or count <= case.limits.messages_max
    limit = f"{case.limits.messages_max} in {case.limits.message_window_ms} ms"
    return result(DenyReason.MSG_RATE, passed, count, limit)


def duplicate(case: Case) -> CheckResult:
    """Neither an id that is working already nor the same content once more within the window."""
    limit = f"once in {case.limits.duplicate_window_ms} ms"
    if case.order.order_id in case.view.working:
        return result(DenyReason.DUPLICATE_ORDER, False, f"{case.order.order_id} is working", limit)
    last_ns = case.view.contents_ns.get(content_key(case.order))
    if last_ns is None:
        return result(DenyReason.DUPLICATE_ORDER, True, "first", limit)
    age_ns = case.now_ns - last_ns
    passed = age_ns >= case.limits.duplicate_window_ms * NS_PER_MS
    return result(DenyReason.DUPLICATE_ORDER, passed, f"same content {age_ns} ns ago", limit)


def self_trade(case: Case) -> CheckResult:
    """No resting order of the account stands on the other side at a price that this one would reach."""
    instrument = case.order.instrument
    for working in case.view.working.values():
        if working.instrument == instrument and _would_meet(case, working):
            return result(DenyReason.SELF_TRADE, False, working.order_id, "no crossing order of our own")
    return result(DenyReason.SELF_TRADE, True, "none", "no crossing order of our own")


def _would_meet(case: Case, working: WorkingOrder) -> bool:
    order = case.order
    if working.instrument != order.instrument or working.side is order.side or not working.rests:
        return False
    price, resting = order.limit_price, working.limit_price
    if price is None or resting is None or not positive_units(price):
        return True
    if order.stop_price is None and working.stop_price is None:
        return price >= resting if order.side is Side.BUY else price <= resting
    if order.stop_price is None and not may_rest(order.order_type, order.time_in_force):
        # What takes is over before a stop on the other side can act.
        return False
    low, high = _zone(price, order.stop_price)
    other_low, other_high = _zone(resting, working.stop_price)
    return low <= other_high and other_low <= high


def _zone(price: int, stop_price: int | None) -> tuple[int, int]:
    """Return between which prices an order may trade with one that rests: a stop only from its stop price on.

    A resting order that stands before the stop price is reached before it, by whoever moves the price there.
    """
    return (price, price) if stop_price is None else (min(price, stop_price), max(price, stop_price))


def no_unknown_order(case: Case) -> CheckResult:
    """Nothing is added to an instrument while it is not known what became of an order there."""
    for working in case.view.working.values():
        if working.unknown and working.instrument == case.order.instrument:
            observed = f"{working.order_id} is UNKNOWN"
            return result(DenyReason.UNKNOWN_ORDER_OPEN, case.reduces, observed, "none, or only reduces")
    return result(DenyReason.UNKNOWN_ORDER_OPEN, True, "none", "none, or only reduces")


def daily_loss(case: Case) -> CheckResult:
    """The account's loss of the day."""
    limit = case.limits.daily_loss_max
    day_pnl = case.view.day_pnl
    passed = case.reduces or (finite(day_pnl) and -day_pnl <= limit)
    return result(DenyReason.LOSS_LIMIT, passed, day_pnl, -limit)


def drawdown(case: Case) -> CheckResult:
    """The fall of the account's equity from its peak."""
    passed = case.reduces or not drawdown_exceeded(case.view.equity, case.view.equity_peak, case.limits.drawdown_max)
    return result(
        DenyReason.DRAWDOWN, passed, f"{case.view.equity} from {case.view.equity_peak}", case.limits.drawdown_max
    )


def drawdown_exceeded(equity: Decimal, peak: Decimal, limit: Decimal) -> bool:
    """Return whether equity has fallen from its peak by more than the fraction ``limit``; True when unknown."""
    return not (finite(equity) and finite(peak) and peak > 0 and peak - equity <= limit * peak)


def execution_throttle(case: Case) -> CheckResult:
    """Orders of the strategy in the window, this one among them; whoever exceeds it is stopped until a person acts."""
    limits = case.limits
    count = case.view.conduct.sent_within(case.order.strategy, case.now_ns, limits) + (case.order.amends is None)
    told = f"{limits.executions_max} in {limits.execution_window_ms} ms"
    return result(DenyReason.EXEC_THROTTLE, case.reduces or count <= limits.executions_max, count, told)


def reject_streak(case: Case) -> CheckResult:
    """Rejects of the strategy in a row."""
    count = case.view.conduct.rejects.get(case.order.strategy, 0)
    limit = case.limits.rejects_max
    return result(DenyReason.REJECT_STREAK, case.reduces or count <= limit, count, limit)


def reduce_only(case: Case) -> CheckResult:
    """Under REDUCING, and for an order that says so itself, only what reduces a position may pass."""
    wanted = case.order.reduce_only or case.view.level is not Level.ACTIVE
    observed = "reduces" if case.reduces else "does not reduce"
    limit = f"{case.view.level} {case.view.level_source}".strip()
    return result(DenyReason.REDUCE_ONLY, case.reduces or not wanted, observed, limit)


def not_killed(case: Case) -> CheckResult:
    """Under HALTED nothing leaves but cancels."""
    observed = f"{case.view.level} {case.view.level_source}".strip()
    return result(DenyReason.KILLED, case.view.level is not Level.HALTED, observed, "not HALTED")


CONDUCT: tuple[Check, ...] = (
    message_rate,
    duplicate,
    self_trade,
    no_unknown_order,
    execution_throttle,
    reject_streak,
    daily_loss,
    drawdown,
    reduce_only,
    not_killed,
)
"""Checks that can judge any order, whatever it holds."""
