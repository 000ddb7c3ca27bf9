"""Execution stops a strategy by its own books, whatever risk lets through, until a person sets it free."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from proposed_changes import examined, level_change
from trading_desk import CONFIG, ONE, PERP, SPOT, Desk, wide_limits

from agents.execution.state import DeskState
from agents.stage import ShardState
from schemas.control import ScopeKind
from schemas.decisions import DenyReason
from schemas.event import Event, Heartbeat
from schemas.orders import AccountMark, CancelRequested, OrderEvent, ReportKind, SubmitRequested
from schemas.values import NS_PER_S, Level, Side, TimeInForce

R = DenyReason
DAY_MS = 86_400_000
ALPHA = "STRATEGY|alpha"


def desk(**limits: Any) -> Desk:
    """Return a desk with these limits."""
    return Desk(replace(CONFIG, limits={"main": wide_limits("alpha", "beta", **limits)}))


def levels(on: Desk) -> DeskState:
    """Return what the desk remembers of levels."""
    found: DeskState = on.state["desk"]
    return found


def refused(events: Sequence[Event]) -> tuple[DenyReason, ...]:
    """Return the reasons of the one denial among events, or () when the order left."""
    assert sum(isinstance(event, SubmitRequested) for event in events) + _denials(events) == 1
    return next((e.deny_reasons for e in events if isinstance(e, OrderEvent) and e.deny_reasons), ())


def _denials(events: Sequence[Event]) -> int:
    return sum(isinstance(event, OrderEvent) and bool(event.deny_reasons) for event in events)


def free(on: Desk, level: Level = Level.ACTIVE, **scope: Any) -> None:
    """Let two people set a level, by default alpha's."""
    named = {"scope": ScopeKind.STRATEGY, "target": "alpha", "nonce": str(on.serial)} | scope
    on.give(examined(level_change(level, **named)))


def restarted(on: Desk) -> Desk:
    """Return the desk as a checkpoint brings it back."""
    again = Desk(on.config, now_ns=on.now_ns)
    again.state, again.serial = ShardState(), on.serial
    for key, value in on.state.items():
        again.state.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=on.stage.state_type(key)))
    return again


def test_exactly_as_many_executions_as_allowed_leave_then_the_strategy_is_halted() -> None:
    on = desk(executions_max=3)
    for number in range(3):
        assert not refused(on.approve(f"o{number}", side=Side.BUY if number % 2 else Side.SELL))
        on.beat(10)
    assert refused(on.approve("o3")) == (R.EXEC_THROTTLE,)
    assert levels(on).levels == {ALPHA: Level.HALTED}
    assert levels(on).causes == {ALPHA: "execution: EXEC_THROTTLE"}
    assert not refused(on.approve("b0", strategy="beta")), "the others go on"


def test_the_halt_outlives_the_window_a_restart_and_the_day_until_a_person_names_the_strategy() -> None:
    on = desk(executions_max=1)
    on.approve("o0")
    on.approve("o1", limit_price=99 * ONE)
    on = restarted(on)
    on.beat(2 * DAY_MS)
    on.mark(PERP, 100 * ONE)
    assert R.KILLED in refused(on.approve("o2"))
    free(on, scope=ScopeKind.GLOBAL, target="*")
    assert R.KILLED in refused(on.approve("o3"))
    free(on)
    on.report("o0", ReportKind.REJECTED)
    assert not refused(on.approve("o4"))


def test_a_halt_cancels_what_works_of_the_strategy_alone() -> None:
    on = desk(executions_max=1)
    for name, strategy in (("a", "alpha"), ("b", "beta")):
        on.approve(name, strategy=strategy, time_in_force=TimeInForce.GTC, limit_price=90 * ONE)
        on.report(name, ReportKind.ACCEPTED, venue_order_id=f"v-{name}")
        on.beat(10)
    events = on.approve("a2", limit_price=91 * ONE)
    assert [event.order_id for event in events if isinstance(event, CancelRequested)] == ["a"]


def _rejected(on: Desk, count: int) -> None:
    for _ in range(count):
        on.beat(10)
        name = f"r{on.serial}"
        assert not refused(on.approve(name))
        on.report(name, ReportKind.REJECTED, reason="no")
        on.beat(10)


def test_more_rejects_in_a_row_than_allowed_halt_the_strategy() -> None:
    on = desk(rejects_max=2)
    _rejected(on, 2)
    assert not refused(on.approve("taken"))
    on.report("taken", ReportKind.ACCEPTED, venue_order_id="v")
    on.report("taken", ReportKind.EXPIRED)
    _rejected(on, 2)
    assert not levels(on).levels, "an order that was taken ends the row"
    _rejected(on, 1)
    assert levels(on).causes == {ALPHA: "execution: REJECT_STREAK"}
    on = restarted(on)
    assert refused(on.approve("more")) == (R.REJECT_STREAK, R.REDUCE_ONLY, R.KILLED)
    free(on)
    _rejected(on, 2)


def test_denials_of_its_own_count_towards_the_row() -> None:
    on = desk(rejects_max=1, price_collar="0.01")
    for number in range(2):
        assert refused(on.approve(f"o{number}", limit_price=110 * ONE)) == (R.PRICE_COLLAR,)
    assert levels(on).causes == {ALPHA: "execution: REJECT_STREAK"}


def test_a_backlog_of_expired_approvals_halts_nobody() -> None:
    on = desk(rejects_max=1)
    for number in range(5):
        assert refused(on.approve(f"o{number}", expires_at_ns=on.now_ns - 1)) == (R.DATA_STALE,)
    assert not levels(on).levels


def test_a_strategys_loss_of_the_day_is_its_own_and_beyond_its_threshold_it_is_halted() -> None:
    on = desk(strategy_loss_max={"alpha": 10})
    on.mark(PERP, 100 * ONE)
    for name in ("alpha", "beta"):
        on.approve(name, strategy=name)
        on.trade(name, f"f-{name}", ONE)
    on.beat(1000)
    marks = [event for event in on.mark(PERP, 91 * ONE) if isinstance(event, AccountMark)]
    assert {event.strategy: event.strategy_day_pnl for event in marks} == dict.fromkeys(
        ("alpha", "beta"), Decimal("-9.04")
    )
    assert not levels(on).levels
    on.beat(1000)
    on.mark(PERP, 90 * ONE)
    assert levels(on).causes == {ALPHA: "execution: RISK_THRESHOLD"}
    assert refused(on.approve("more", decision_mid=90 * ONE, limit_price=90 * ONE)) == (
        R.RISK_THRESHOLD,
        R.REDUCE_ONLY,
        R.KILLED,
    )


def test_the_day_of_a_strategy_begins_anew_but_its_halt_does_not_end() -> None:
    on = desk(strategy_loss_max={"*": 5})
    on.mark(PERP, 100 * ONE)
    on.approve("o")
    on.trade("o", "f", ONE)
    on.beat(1000)
    on.mark(PERP, 90 * ONE)
    on.beat(DAY_MS)
    (mine, _) = [event for event in on.mark(PERP, 90 * ONE) if isinstance(event, AccountMark)]
    assert mine.strategy_day_pnl == 0
    assert levels(on).levels == {ALPHA: Level.HALTED}


def test_a_strategys_own_exposure_is_checked_at_the_last_step() -> None:
    on = desk(strategy_exposure_max={"alpha": 150})
    assert not refused(on.approve("o0"))
    assert refused(on.approve("o1", limit_price=99 * ONE)) == (R.RISK_THRESHOLD,)


def test_what_moved_too_far_is_refused_at_the_last_step() -> None:
    on = desk(price_move_max="0.05")
    on.mark(PERP, 106 * ONE)
    on.beat(1000)
    assert refused(on.approve("o0")) == (R.PRICE_MOVE,)
    assert not refused(on.approve("s0", instrument=SPOT))


def test_what_is_restricted_is_refused_at_the_last_step() -> None:
    assert refused(desk(restricted=[PERP]).approve("o0")) == (R.NOT_PERMITTED,)


@pytest.mark.parametrize(("clock", "reasons"), [("wall", (R.CLOCK_DRIFT,)), ("capture", ())])
def test_a_mark_ahead_of_our_clock_is_refused_at_the_last_step(clock: str, reasons: tuple[DenyReason, ...]) -> None:
    on = Desk()
    on.state["desk"].clock_ns = 0
    on.give(Heartbeat(key="x", event_time_ns=on.now_ns, available_at_ns=on.now_ns, clock=clock))
    on.now_ns += 2 * NS_PER_S
    assert refused(on.approve("o0")) == reasons
