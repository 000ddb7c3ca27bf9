"""THE gate: one pure function between every order and the venue (DESIGN 3, handbook/reliability.md 2).

Risk calls it to approve, execution calls it again as the last step before the venue. It evaluates every check it
can, in a fixed order, and reports them all: an operator must see everything that is wrong, not the first of it.
"""

from collections.abc import Sequence
from typing import Final

from agents.limits.amendment import amendable, in_its_place
from agents.limits.canary_checks import TEMPORARY
from agents.limits.case import Case
from agents.limits.conduct_checks import CONDUCT, message_rate
from agents.limits.exposure import ExposureView
from agents.limits.exposure_checks import EXPOSED
from agents.limits.limit_set import LimitSet
from agents.limits.order_checks import ALWAYS, MEASURED
from schemas.decisions import CheckResult, DenyReason, OrderApproved

_MEASURING: Final = MEASURED + EXPOSED + TEMPORARY
_UNMEASURABLE: Final = frozenset({DenyReason.INSTRUMENT_UNKNOWN, DenyReason.INVALID_NUMBER})


def check_order(order: OrderApproved, view: ExposureView, limits: LimitSet, now_ns: int) -> tuple[CheckResult, ...]:
    """Return the result of every check, in a fixed order; the order may leave only if all have passed.

    ``view`` must not yet count the order itself. An order of quantity 0 carries only cancels: they lower risk and
    are never refused. With an unknown instrument or an invalid number, what would be measured by them is left out,
    since the order is refused already. An amend is judged as a new order in the place of the one that it changes.
    """
    change: tuple[CheckResult, ...] = ()
    if order.amends is not None:
        change = (amendable(order, view),)
        order, view = in_its_place(order, view)
    case = Case.of(order, view, limits, now_ns)
    if order.quantity == 0 and order.cancels:
        return (message_rate(case),)
    results = [check(case) for check in ALWAYS]
    if not _UNMEASURABLE.intersection(failed(results)):
        results += [check(case) for check in _MEASURING]
    return (*change, *results, *[check(case) for check in CONDUCT])


def failed(results: Sequence[CheckResult]) -> tuple[DenyReason, ...]:
    """Return the reasons of the checks that did not pass, in order."""
    return tuple(item.reason for item in results if not item.passed)
