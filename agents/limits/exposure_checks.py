"""Checks of what the account would hold if the worst of its working orders filled, this one among them.

An order that can only bring a position nearer to 0 passes them all: a limit must never hold anyone in a position.
"""

from decimal import Decimal

from agents.limits.case import Case, Check, result, units_text
from agents.limits.valuation import finite
from schemas.decisions import CheckResult, DenyReason
from schemas.values import ZERO

_REDUCES = "only reduces"


def short_allowed(case: Case) -> CheckResult:
    """A strategy cannot sell what it does not hold of an instrument that cannot be sold short."""
    lowest = case.line.after(case.order.side, case.order.quantity).lowest
    shortable = case.view.instruments[case.order.instrument].shortable
    # A buy never makes a position shorter, whatever stands already.
    passed = shortable or lowest >= 0 or case.order.side.sign > 0
    return result(DenyReason.SHORT_NOT_ALLOWED, passed, units_text(lowest), "any" if shortable else "0")


def position_limit(case: Case) -> CheckResult:
    """The account's worst positions in the instrument, over all its strategies, at the mid."""
    name = case.order.instrument
    limit = case.limits.position_value_max
    limit = min(limit, case.limits.position_value_max_of.get(name, limit))
    value = case.at_mid(name, case.totals.quantities.get(name, 0))
    return _compared(case, DenyReason.POSITION_LIMIT, value, limit)


def gross_exposure(case: Case) -> CheckResult:
    """The worst positions of all lines, added up."""
    return _compared(case, DenyReason.GROSS_EXPOSURE, case.totals.gross, case.limits.gross_exposure_max)


def net_exposure(case: Case) -> CheckResult:
    """The worst sum of signed positions, long or short."""
    highest, lowest = case.totals.highest, case.totals.lowest
    net = None if highest is None or lowest is None else max(highest, lowest.copy_negate())
    return _compared(case, DenyReason.NET_EXPOSURE, net, case.limits.net_exposure_max)


def credit(case: Case) -> CheckResult:
    """Gross exposure is at most the account's equity times its leverage."""
    equity = case.view.equity
    known = equity.is_finite()
    limit = equity * case.limits.leverage_max if known and equity > 0 else ZERO
    return _compared(case, DenyReason.CREDIT_LIMIT, case.totals.gross, limit)


def risk_threshold(case: Case) -> CheckResult:
    """The strategy's own thresholds: its loss of the day, and the worst positions of its own lines, added up."""
    strategy, limits = case.order.strategy, case.limits
    lost = -case.view.conduct.day_pnl.get(strategy, ZERO)
    held = case.totals.own
    loss_max, exposure_max = limits.loss_threshold(strategy), limits.exposure_threshold(strategy)
    passed = held is not None and held <= exposure_max and finite(lost) and lost <= loss_max
    observed = f"loss {lost:f}, exposure {'unknown' if held is None else format(held, 'f')}"
    limit = f"loss {loss_max:f}, exposure {exposure_max:f}"
    return result(DenyReason.RISK_THRESHOLD, case.reduces or passed, observed, limit)


def _compared(case: Case, reason: DenyReason, value: Decimal | None, limit: Decimal) -> CheckResult:
    if case.reduces:
        return result(reason, True, _REDUCES if value is None else value, limit)
    if value is None:
        return result(reason, False, "a position without a mid or a rate", limit)
    return result(reason, value <= limit, value, limit)


EXPOSED: tuple[Check, ...] = (short_allowed, position_limit, gross_exposure, net_exposure, credit, risk_threshold)
"""Checks that need a known instrument and valid numbers."""
