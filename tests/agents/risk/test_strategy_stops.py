"""A strategy that repeats itself, is rejected in a row or loses too much is stopped until a person sets it free."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from money_events import ONE, PERP, SPOT, T0, account_mark, decision, limits, mark, order_event, reset
from risk_bench import Bench

from agents.limits.book import book_of
from agents.stage import ShardState
from schemas.control import ScopeKind
from schemas.decisions import DenyReason, OrderApproved, OrderDenied
from schemas.event import Heartbeat
from schemas.orders import ExecType, OrderStatus
from schemas.values import NS_PER_MS, NS_PER_S, Level, TimeInForce

R = DenyReason
DAY_NS = 86_400 * NS_PER_S
ALPHA = "STRATEGY/alpha"


def free(level: Level = Level.ACTIVE) -> Any:
    """Return execution's word that two people have set alpha's level."""
    return reset(level, ScopeKind.STRATEGY, "alpha")


def orders(bench: Bench, count: int, at_ns: int = T0, strategy: str = "alpha") -> list[Any]:
    """Return the verdicts on so many flips, each filled at once, 10 ms apart."""
    found: list[Any] = []
    for number in range(count):
        at_ns += 10 * NS_PER_MS
        target = -0.2 if bench.state and bench.account.exposure.positions.get(strategy, {}).get(PERP, 0) > 0 else 0.2
        (verdict,) = bench.give(mark(at_ns=at_ns), decision(target, at_ns + number, at_ns=at_ns, strategy=strategy))
        found.append(verdict)
        if isinstance(verdict, OrderApproved):
            held = verdict.side.sign * 2 * ONE
            bench.give(order_event(verdict, OrderStatus.FILLED, exec_type=ExecType.TRADE, position_after=held))
    return found


def restarted(bench: Bench) -> Bench:
    """Return the bench as a checkpoint brings it back."""
    again = Bench()
    again.stage = bench.stage
    again.state = ShardState()
    for key, value in bench.state.items():
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=bench.stage.state_type(key))
        again.state.restore(key, kept)
    return again


def test_exactly_as_many_executions_as_allowed_then_the_strategy_is_halted() -> None:
    bench = Bench(executions_max=5, duplicate_window_ms=1)
    found = orders(bench, 7)
    assert [type(item) for item in found] == [OrderApproved] * 5 + [OrderDenied] * 2
    assert found[5].reasons == (R.EXEC_THROTTLE,)
    assert R.KILLED in found[6].reasons
    assert bench.levels.levels == {ALPHA: Level.HALTED}
    assert bench.levels.causes == {ALPHA: "risk: EXEC_THROTTLE"}
    assert isinstance(orders(bench, 1, T0 + NS_PER_S, "beta")[0], OrderApproved), "the others go on"


def test_a_halt_outlives_the_window_a_restart_and_the_day() -> None:
    bench = Bench(executions_max=1, duplicate_window_ms=1)
    orders(bench, 2)
    bench = restarted(bench)
    for at_ns in (T0 + 120 * NS_PER_S, T0 + 2 * DAY_NS):
        bench.give(account_mark(at_ns))
        assert orders(bench, 1, at_ns)[0].reasons == (R.REDUCE_ONLY, R.KILLED)


@pytest.mark.parametrize(("scope", "target"), [(ScopeKind.GLOBAL, "*"), (ScopeKind.ACCOUNT, "main")])
def test_only_a_person_who_names_the_strategy_sets_it_free(scope: ScopeKind, target: str) -> None:
    bench = Bench(executions_max=2, duplicate_window_ms=1)
    orders(bench, 3)
    bench.give(reset(scope=scope, target=target))
    assert R.KILLED in orders(bench, 1, T0 + NS_PER_S)[0].reasons
    bench.give(free())
    assert bench.levels.causes[ALPHA] == "ann: looked at"
    found = orders(bench, 3, T0 + 2 * NS_PER_S)
    assert [type(item) for item in found] == [OrderApproved, OrderApproved, OrderDenied], "and it begins anew"
    assert bench.levels.causes[ALPHA] == "risk: EXEC_THROTTLE"


def test_a_halt_cancels_what_rests_of_the_strategy_alone() -> None:
    bench = Bench(TimeInForce.GTC, executions_max=1, duplicate_window_ms=1)
    (first,) = bench.give(mark(), decision(0.5, 1))
    (other,) = bench.give(decision(0.5, 2, strategy="beta"))
    found = bench.give(mark(at_ns=T0 + NS_PER_MS), decision(1.0, 3, at_ns=T0 + NS_PER_MS))
    denied = [item for item in found if isinstance(item, OrderDenied)]
    assert [item.reasons for item in denied] == [(R.EXEC_THROTTLE,)]
    cancelled = {order_id for item in found if isinstance(item, OrderApproved) for order_id in item.cancels}
    assert cancelled == {first.order_id}
    assert other.order_id in bench.account.exposure.working


def test_what_only_reduces_is_counted_but_not_throttled() -> None:
    bench = Bench(executions_max=1, duplicate_window_ms=1)
    bench.give(mark(), account_mark(position=5 * ONE))
    first, second = bench.give(decision(0.3, 1), decision(0.0, 2))
    assert first.reduce_only
    assert second.reduce_only
    assert not bench.levels.levels
    assert orders(bench, 1, T0 + NS_PER_S)[0].reasons == (R.EXEC_THROTTLE,)


def rejects(bench: Bench, count: int, **changes: Any) -> None:
    """Let so many orders of alpha be approved and come back rejected by the venue, or as told."""
    for _ in range(count):
        at_ns = NS_PER_S + (bench.levels.now_ns if bench.state else T0)
        (order,) = bench.give(mark(at_ns=at_ns), decision(0.5, at_ns, at_ns=at_ns))
        told = {"status": OrderStatus.REJECTED, "exec_type": ExecType.REJECTED} | changes
        bench.give(order_event(order, told.pop("status"), position_after=0, **told))


def test_more_rejects_in_a_row_than_allowed_halt_the_strategy() -> None:
    bench = Bench(rejects_max=3)
    rejects(bench, 3)
    assert not bench.levels.levels
    rejects(bench, 1)
    assert bench.levels.levels == {ALPHA: Level.HALTED}
    assert bench.levels.causes == {ALPHA: "risk: REJECT_STREAK"}
    bench = restarted(bench)
    at_ns = T0 + 2 * DAY_NS
    (denied,) = bench.give(account_mark(at_ns), mark(at_ns=at_ns), decision(0.5, 99, at_ns=at_ns))
    assert denied.reasons == (R.REJECT_STREAK, R.REDUCE_ONLY, R.KILLED)
    bench.give(free())
    rejects(bench, 3)
    assert bench.levels.levels == {ALPHA: Level.ACTIVE}


@pytest.mark.parametrize("status", [OrderStatus.NEW, OrderStatus.EXPIRED, OrderStatus.FILLED])
def test_an_order_that_the_venue_takes_ends_the_row(status: OrderStatus) -> None:
    bench = Bench(rejects_max=2)
    rejects(bench, 2)
    rejects(bench, 1, status=status, exec_type=ExecType.NEW, filled_quantity=0)
    assert bench.account.exposure.conduct.rejects == {}


@pytest.mark.parametrize(
    ("reasons", "counted"),
    [
        ((R.PRICE_COLLAR,), 1),
        ((R.PRICE_COLLAR, R.KILLED), 1),
        ((R.KILLED,), 0),
        ((R.DATA_STALE, R.REF_PRICE_STALE), 0),
        ((R.REDUCE_ONLY,), 0),
    ],
)
def test_a_denial_by_execution_counts_unless_it_is_a_persons_or_a_backlogs(reasons: Any, counted: int) -> None:
    bench = Bench()
    rejects(bench, 1, status=OrderStatus.DENIED, exec_type=ExecType.DENIED, deny_reasons=reasons)
    assert bench.account.exposure.conduct.rejects.get("alpha", 0) == counted


def test_a_throttle_of_executions_own_stops_the_strategy_here_too() -> None:
    bench = Bench()
    rejects(bench, 1, status=OrderStatus.DENIED, exec_type=ExecType.DENIED, deny_reasons=(R.EXEC_THROTTLE,))
    assert bench.levels.causes == {ALPHA: "risk: EXEC_THROTTLE"}


def test_a_strategy_beyond_its_own_loss_is_halted_and_its_account_is_not() -> None:
    bench = Bench(strategy_loss_max={"alpha": 100})
    bench.give(mark(), account_mark(strategy_day_pnl=Decimal(-100)))
    assert not bench.levels.levels
    bench.give(account_mark(T0 + 1, strategy_day_pnl=Decimal("-100.01")))
    assert bench.levels.causes == {ALPHA: "risk: RISK_THRESHOLD"}
    (approved,) = bench.give(decision(0.5, strategy="beta"))
    assert isinstance(approved, OrderApproved)


def test_a_strategy_beyond_its_share_of_exposure_is_denied_and_not_halted() -> None:
    bench = Bench(strategy_exposure_max={"*": 400})
    (denied,) = bench.give(mark(), decision(0.5))
    assert denied.reasons == (R.RISK_THRESHOLD,)
    assert not bench.levels.levels


def test_an_instrument_that_moved_too_far_may_only_be_reduced_until_the_window_is_over() -> None:
    bench = Bench(price_move_max="0.05", price_move_window_ms=10_000)
    bench.give(mark(mid=106 * ONE), mark(SPOT))
    at_ns = T0 + 5 * NS_PER_S
    (denied,) = bench.give(mark(at_ns=at_ns), decision(0.5, 1, at_ns=at_ns))
    assert denied.reasons == (R.PRICE_MOVE,)
    (reduces,) = bench.give(account_mark(at_ns, position=5 * ONE), decision(0.1, 2, at_ns=at_ns))
    assert isinstance(reduces, OrderApproved)
    at_ns = T0 + 15 * NS_PER_S
    (order,) = bench.give(mark(at_ns=at_ns), decision(1.0, 3, at_ns=at_ns))
    assert isinstance(order, OrderApproved)


def beat(at_ns: int, clock: str = "wall") -> Heartbeat:
    """Return a reading of a clock."""
    return Heartbeat(key="risk", event_time_ns=at_ns, available_at_ns=at_ns, event_id=f"beat-{at_ns}", clock=clock)


def test_a_mark_ahead_of_our_clock_refuses_and_moves_it_no_further_than_allowed() -> None:
    bench = Bench()
    ahead_ns = T0 + 3_600 * NS_PER_S
    (denied,) = bench.give(beat(T0), mark(at_ns=ahead_ns), decision(0.5))
    assert denied.reasons == (R.CLOCK_DRIFT,)
    assert bench.levels.now_ns == T0 + NS_PER_S
    (order,) = bench.give(beat(T0 + NS_PER_S), mark(at_ns=T0 + NS_PER_S), decision(0.5, 2, at_ns=T0 + NS_PER_S))
    assert isinstance(order, OrderApproved), "it lasts no longer than the drift"
    assert PERP in order.instrument


def test_on_a_capture_its_clock_rules() -> None:
    bench = Bench()
    later_ns = T0 + 3_600 * NS_PER_S
    (order,) = bench.give(beat(T0, "capture"), mark(at_ns=later_ns), decision(0.5, at_ns=later_ns))
    assert isinstance(order, OrderApproved)


def test_a_window_that_was_made_wider_is_kept_that_wide() -> None:
    bench = Bench(price_move_max="0.05", price_move_window_ms=10_000)
    bench.give(mark(mid=106 * ONE))
    book = book_of({"main": limits(price_move_max="0.05", price_move_window_ms=600_000)})
    bench.give(msgspec.structs.replace(reset(Level.ACTIVE), level=None, version="wider", sets=book.sets))
    for second in (15, 300):
        (denied,) = bench.give(mark(at_ns=T0 + second * NS_PER_S), decision(0.5, second, at_ns=T0 + second * NS_PER_S))
        assert denied.reasons == (R.PRICE_MOVE,)
