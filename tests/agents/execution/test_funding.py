"""Funding: the venue's sum, told once, twice, late or not at all, is in the books exactly once and balances."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trading_desk import ONE, PERP, SPOT, Desk

from agents.execution.funding import shares
from agents.execution.ledger import imbalance
from schemas.dead_letters import BadRecord
from schemas.orders import AccountMark, ReportKind


def _held(**quantities: int) -> Desk:
    desk = Desk()
    for number, (strategy, quantity) in enumerate(quantities.items()):
        desk.approve(f"o{number}", strategy=strategy, quantity=quantity * ONE)
        desk.trade(f"o{number}", f"f{number}", quantity * ONE)
    return desk


def _charged(desk: Desk, total: str, after_ms: int = 1_000, **changes: object) -> dict[str, AccountMark]:
    desk.beat(after_ms)
    outputs = desk.report("", ReportKind.FUNDING, funding_total=Decimal(total), **changes)
    return {event.strategy: event for event in outputs if isinstance(event, AccountMark)}


def _marked(desk: Desk, mid: int | None = 100 * ONE) -> dict[str, AccountMark]:
    desk.beat(1)
    return {event.strategy: event for event in desk.mark(PERP, mid) if isinstance(event, AccountMark)}


def test_what_the_venue_charged_is_booked_at_once_on_the_newest_valuation_and_lowers_equity() -> None:
    desk = _held(alpha=10)
    before = _marked(desk)["alpha"]
    (charged,) = _charged(desk, "0.2").values()
    assert (charged.strategy, charged.funding) == ("alpha", Decimal("0.2"))
    assert (charged.mark_id, charged.grid_time_ns, charged.mid) == (before.mark_id, before.grid_time_ns, before.mid)
    assert charged.postings
    assert not any(imbalance(charged.postings).values())
    assert charged.equity == before.equity - Decimal("0.2")
    after = _marked(desk)["alpha"]
    assert (after.funding, after.equity) == (0, charged.equity)


def test_before_the_first_valuation_it_waits_for_one_that_has_a_mid() -> None:
    desk = _held(alpha=10)
    assert _charged(desk, "0.2") == {}
    assert _marked(desk, None)["alpha"].funding == 0
    marks = _marked(desk)
    assert (marks["alpha"].funding, marks["beta"].funding) == (Decimal("0.2"), 0)
    assert not any(imbalance(marks["alpha"].postings).values())
    assert _marked(desk)["alpha"].funding == 0


def test_a_report_that_is_late_doubled_or_missed_changes_no_sum() -> None:
    desk = _held(alpha=10)
    _marked(desk)
    now_ns = desk.now_ns
    assert _charged(desk, "0.2", event_time_ns=now_ns + 60)["alpha"].funding == Decimal("0.2")
    assert _charged(desk, "0.2", event_time_ns=now_ns + 60) == {}
    assert _charged(desk, "0.1", event_time_ns=now_ns + 30) == {}
    # The one at +120 never came; the next tells of both.
    assert _charged(desk, "0.7", event_time_ns=now_ns + 180)["alpha"].funding == Decimal("0.5")
    assert _charged(desk, "-0.3", event_time_ns=now_ns + 240)["alpha"].funding == Decimal(-1)
    assert desk.account.positions[f"alpha|{PERP}"].funding == Decimal("-0.3")


def test_strategies_on_one_account_share_by_what_they_hold() -> None:
    desk = _held(alpha=6, beta=3)
    _marked(desk)
    marks = _charged(desk, "0.9")
    assert (marks["alpha"].funding, marks["beta"].funding) == (Decimal("0.6"), Decimal("0.3"))


@given(
    due=st.decimals(-1000, 1000, places=18),
    quantities=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=5),
)
def test_shares_add_up_exactly_whatever_is_held(due: Decimal, quantities: list[int]) -> None:
    split = shares(due, quantities)
    assert sum(split, Decimal(0)) == due
    if sum(quantities):
        for quantity, share in zip(quantities, split, strict=True):
            ideal = float(due) * quantity / sum(quantities)
            assert float(share) == pytest.approx(ideal, rel=1e-6, abs=1e-9 + abs(ideal) * 1e-6)


def test_funding_of_what_nobody_trades_or_without_a_sum_is_a_bad_record() -> None:
    desk = _held(alpha=1)
    for changes in (
        {"funding_total": None},
        {"funding_total": Decimal(1), "key": "strange"},
        {"funding_total": Decimal(1), "instrument": "SIM:NONE"},
        {"funding_total": Decimal(1), "order_id": "o0"},
    ):
        order_id = str(changes.pop("order_id", ""))
        with pytest.raises(BadRecord):
            desk.report(order_id, ReportKind.FUNDING, **changes)
    assert desk.account.positions.get(f"alpha|{SPOT}") is None
