"""A strategy on trial stays within its own caps, in the one function that risk and execution share."""

from decimal import Decimal
from typing import Any

import pytest
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, approved, instrument, limits, mark

from agents.limits.canary_caps import read_caps
from agents.limits.checks import check_order, failed
from agents.limits.day_counts import DayCounts
from agents.limits.exposure import ExposureLine, ExposureView
from agents.limits.flaw import Flaw
from schemas.decisions import DenyReason, OrderApproved
from schemas.values import NS_PER_S, ZERO, Side

R = DenyReason
DAY_NS = 86_400 * NS_PER_S


def view(*lines: ExposureLine, **changes: Any) -> ExposureView:
    fields: dict[str, Any] = {
        "instruments": INSTRUMENTS,
        "marks": {PERP: mark(), SPOT: mark(SPOT)},
        "lines": {(item.strategy, item.instrument): item for item in lines},
        "working": {},
        "equity": Decimal(10_000),
        "equity_peak": Decimal(10_000),
        "day_pnl": ZERO,
    }
    return ExposureView(**fields | changes)


def line(position: int, name: str = PERP, strategy: str = "alpha", **more: int) -> ExposureLine:
    return ExposureLine(strategy=strategy, instrument=name, position=position, **more)


def reasons(order: OrderApproved, on: ExposureView, now_ns: int = T0, **caps: Any) -> set[DenyReason]:
    return set(failed(check_order(order, on, limits(canaries={"alpha": caps}), now_ns)))


def orders(count: int, now_ns: int = T0) -> DayCounts:
    counted = DayCounts()
    for _ in range(count):
        counted.add("alpha", now_ns)
    return counted


@pytest.mark.parametrize(
    ("caps", "at_limit", "beyond"),
    [
        ({"instruments": [PERP]}, (approved(), view()), (approved(instrument=SPOT), view())),
        ({"order_value_max": 200}, (approved(quantity=2 * ONE), view()), (approved(quantity=2 * ONE + 1), view())),
        (
            {"position_value_max": 500},
            (approved(), view(line(3 * ONE), line(ONE, SPOT), line(9 * ONE, strategy="beta"))),
            (approved(), view(line(3 * ONE, buys=1), line(ONE, SPOT))),
        ),
        (
            {"orders_per_day_max": 2},
            (approved(), view(orders_of_day=orders(1))),
            (approved(), view(orders_of_day=orders(2))),
        ),
    ],
)
def test_exactly_the_cap_passes_and_one_more_does_not(caps: Any, at_limit: Any, beyond: Any) -> None:
    assert R.CANARY_CAP not in reasons(*at_limit, **caps)
    assert R.CANARY_CAP in reasons(*beyond, **caps)
    others = limits(canaries={"beta": caps})
    assert R.CANARY_CAP not in set(failed(check_order(beyond[0], beyond[1], others, T0))), "only the canary is capped"


def test_every_broken_cap_is_told_in_one_result() -> None:
    caps = {"instruments": [SPOT], "order_value_max": 1, "position_value_max": 1, "orders_per_day_max": 1}
    results = check_order(approved(), view(orders_of_day=orders(1)), limits(canaries={"alpha": caps}), T0)
    (found,) = [item for item in results if item.reason is R.CANARY_CAP]
    assert not found.passed
    for part in ("instrument SIM:BTCUSD", "order 2 of the day", "order value 100", "position value 100"):
        assert part in found.observed


def test_what_only_reduces_is_let_out_and_the_next_day_begins_at_none() -> None:
    caps = {"instruments": [SPOT], "order_value_max": 1, "orders_per_day_max": 1}
    selling = approved(side=Side.SELL)
    assert R.CANARY_CAP not in reasons(selling, view(line(5 * ONE), orders_of_day=orders(5)), **caps)
    full = view(orders_of_day=orders(1), marks={PERP: mark(at_ns=T0 + DAY_NS)})
    tomorrow = approved(expires_at_ns=T0 + 2 * DAY_NS)
    assert R.CANARY_CAP not in reasons(tomorrow, full, T0 + DAY_NS, orders_per_day_max=1)


def test_what_cannot_be_measured_is_beyond_the_cap() -> None:
    foreign = view(instruments={PERP: instrument(quote_currency="EUR")})
    assert R.CANARY_CAP in reasons(approved(), foreign, order_value_max=10_000)
    blind = view(line(ONE, SPOT), marks={PERP: mark()})
    assert R.CANARY_CAP in reasons(approved(), blind, position_value_max=10_000)


def test_an_order_approved_under_an_override_does_not_leave_after_it() -> None:
    under = view(override_until={"v": T0})
    assert R.OVERRIDE_EXPIRED not in reasons(approved(), under, T0 - 1, order_value_max=10_000)
    assert R.OVERRIDE_EXPIRED in reasons(approved(), under, T0, order_value_max=10_000)
    closing = view(line(5 * ONE), override_until={"v": T0})
    assert R.OVERRIDE_EXPIRED not in reasons(approved(side=Side.SELL), closing, order_value_max=10_000)


@pytest.mark.parametrize(
    "caps",
    [
        {},
        {"orders": 1},
        {"order_value_max": 0},
        {"order_value_max": "NaN"},
        {"orders_per_day_max": "1.5"},
        {"instruments": "all"},
        {"position_value_max": True},
    ],
)
def test_what_is_no_cap_is_refused_in_one_sentence(caps: Any) -> None:
    assert isinstance(read_caps("alpha", caps), Flaw)
    with pytest.raises(ValueError, match=r"limit|cap"):
        limits(canaries={"alpha": caps})
