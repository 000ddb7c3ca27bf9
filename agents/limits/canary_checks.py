"""Checks of what is only for a while: the caps of a strategy on trial, and orders approved under an override."""

from decimal import Decimal

from agents.limits.canary_caps import CanaryCaps
from agents.limits.case import Case, Check, result
from schemas.decisions import CheckResult, DenyReason
from schemas.values import ZERO

_REDUCES = "only reduces"


def canary_cap(case: Case) -> CheckResult:
    """A strategy on trial stays within caps of its own; what cannot be measured is beyond them."""
    caps = case.limits.canaries.get(case.order.strategy)
    if caps is None:
        return result(DenyReason.CANARY_CAP, True, "no canary", "any")
    broken = "; ".join(_broken(case, caps))
    return result(DenyReason.CANARY_CAP, case.reduces or not broken, broken or _REDUCES, _told(caps))


def _broken(case: Case, caps: CanaryCaps) -> list[str]:
    order, found = case.order, []
    if caps.instruments is not None and order.instrument not in caps.instruments:
        found.append(f"instrument {order.instrument}")
    if caps.orders_per_day_max is not None:
        orders = case.view.orders_of_day.of(order.strategy, case.now_ns) + 1
        if orders > caps.orders_per_day_max:
            found.append(f"order {orders} of the day")
    if caps.order_value_max is not None:
        value = _order_value(case)
        if value is None or value > caps.order_value_max:
            found.append("order value unknown" if value is None else f"order value {value:f}")
    if caps.position_value_max is not None:
        value = _held_value(case)
        if value is None or value > caps.position_value_max:
            found.append("position value unknown" if value is None else f"position value {value:f}")
    return found


def _order_value(case: Case) -> Decimal | None:
    instrument, price = case.view.instruments.get(case.order.instrument), case.order.limit_price
    if instrument is None or price is None:
        return None
    return case.value(instrument, max(price, case.mid or 0), case.order.quantity)


def _held_value(case: Case) -> Decimal | None:
    """Return the strategy's worst positions in all instruments at the mid, this order among them."""
    total = ZERO
    for line in case.lines_after():
        if line.strategy == case.order.strategy and line.worst:
            value = case.at_mid(line.instrument, line.worst)
            if value is None:
                return None
            total += value
    return total


def _told(caps: CanaryCaps) -> str:
    named = caps._asdict().items()
    return ", ".join(f"{name} {_plain(value)}" for name, value in named if value is not None)


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def override_lasts(case: Case) -> CheckResult:
    """What was approved under an override does not leave after it: then it would be nobody's permission."""
    until_ns = case.view.override_until.get(case.order.limits_version)
    over = until_ns is not None and until_ns <= case.now_ns
    observed = f"limits {case.order.limits_version}" + (" with an override that is over" if over else "")
    return result(DenyReason.OVERRIDE_EXPIRED, case.reduces or not over, observed, "in force")


TEMPORARY: tuple[Check, ...] = (canary_cap, override_lasts)
"""Checks that need a known instrument and valid numbers."""
