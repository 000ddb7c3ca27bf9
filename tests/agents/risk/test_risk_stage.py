"""The risk stage: sizing end to end, verdicts, latches, flattening, and the race for the last unit of a limit."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import (
    INSTRUMENTS,
    ONE,
    PERP,
    SPOT,
    T0,
    account_mark,
    alert,
    command,
    decision,
    mark,
    order_event,
    reset,
)
from risk_bench import Bench

from agents.risk.config import RiskConfig, StrategyRisk
from schemas.control import ControlAction, ScopeKind
from schemas.dead_letters import BadRecord
from schemas.decisions import DecisionOutcome, DenyReason, NoTradeReason, OrderApproved, OrderDenied
from schemas.event import Heartbeat
from schemas.opinions import AlertLevel
from schemas.orders import OrderStatus
from schemas.values import NS_PER_S, Level, Side, TimeInForce


def test_a_target_becomes_an_order_sized_from_the_budget() -> None:
    (order,) = Bench().give(mark(), decision(0.5))
    assert isinstance(order, OrderApproved)
    assert (order.side, order.quantity) == (Side.BUY, 5 * ONE)
    assert order.limit_price == 100 * ONE + ONE // 100 + 10 * (ONE // 100)
    assert order.decision_id == "decision-1"
    assert all(check.passed for check in order.checks)
    assert {check.reason for check in order.checks} >= {DenyReason.PRICE_COLLAR, DenyReason.KILLED}
    assert not order.reduce_only


def test_no_trade_and_advice_make_no_order() -> None:
    held = decision(0.5, outcome=DecisionOutcome.NO_TRADE, reason=NoTradeReason.TARGET_UNCHANGED)
    advised = decision(0.5, outcome=DecisionOutcome.ADVICE)
    assert Bench().give(mark(), held, advised) == []


def test_a_target_already_held_makes_no_order_but_is_counted() -> None:
    bench = Bench()
    (order,) = bench.give(mark(), decision(0.5))
    bench.give(order_event(order, OrderStatus.FILLED))
    assert bench.give(decision(0.5, 2)) == []
    assert bench.account.unchanged == 1


def test_a_flip_goes_through_zero_in_one_order_and_a_reduction_says_so() -> None:
    bench = Bench()
    (order,) = bench.give(mark(), decision(0.5))
    bench.give(order_event(order, OrderStatus.FILLED))
    (flip,) = bench.give(decision(-0.5, 2))
    assert (flip.side, flip.quantity, flip.reduce_only) == (Side.SELL, 10 * ONE, False)
    bench.give(order_event(flip, OrderStatus.REJECTED, position_after=5 * ONE))
    (smaller,) = bench.give(decision(0.0, 3))
    assert (smaller.side, smaller.quantity, smaller.reduce_only) == (Side.SELL, 5 * ONE, True)


def test_all_that_is_wrong_is_reported() -> None:
    late = decision(1.0, expires_at_ns=T0 - 1, strategy="beta", instrument=SPOT)
    (denied,) = Bench(order_value_max=10).give(mark(SPOT), late)
    assert isinstance(denied, OrderDenied)
    assert set(denied.reasons) == {DenyReason.DATA_STALE, DenyReason.NOT_PERMITTED, DenyReason.ORDER_VALUE_MAX}
    assert {check.reason for check in denied.checks if check.passed} >= {DenyReason.PRICE_COLLAR, DenyReason.KILLED}


def test_a_short_target_on_spot_is_denied() -> None:
    (denied,) = Bench().give(mark(SPOT), decision(-0.5, instrument=SPOT))
    assert denied.reasons == (DenyReason.SHORT_NOT_ALLOWED,)


@pytest.mark.parametrize("changes", [{"mid": None}, {"mid": 0}, {"mid": -5}])
def test_without_a_reference_nothing_is_sized(changes: dict[str, Any]) -> None:
    (denied,) = Bench().give(mark(**changes), decision(0.5))
    assert {DenyReason.REF_PRICE_STALE, DenyReason.PRICE_COLLAR} <= set(denied.reasons)
    assert denied.quantity == 0
    assert denied.side is None


def test_without_any_mark_the_denial_says_what_is_missing() -> None:
    (denied,) = Bench().give(decision(0.5))
    assert {DenyReason.DATA_STALE, DenyReason.REF_PRICE_STALE, DenyReason.INVALID_NUMBER} <= set(denied.reasons)


def test_a_strategy_that_is_not_configured_is_denied() -> None:
    (denied,) = Bench().give(mark(), decision(0.5, strategy="gamma"))
    assert denied.reasons == (DenyReason.NOT_PERMITTED,)


def test_an_unknown_instrument_is_denied() -> None:
    (denied,) = Bench().give(mark(), decision(0.5, instrument="SIM:NONE"))
    assert DenyReason.INSTRUMENT_UNKNOWN in denied.reasons


def test_a_backlog_never_trades() -> None:
    old = decision(0.5)
    (denied,) = Bench().give(mark(at_ns=T0 + 60 * NS_PER_S), old)
    assert DenyReason.DATA_STALE in denied.reasons


def test_a_resting_order_is_cancelled_and_what_could_still_fill_is_counted() -> None:
    bench = Bench(TimeInForce.POST_ONLY)
    (first,) = bench.give(mark(), decision(0.5))
    assert first.limit_price == 100 * ONE - ONE // 100
    (second,) = bench.give(decision(0.9, 2))
    assert second.cancels == (first.order_id,)
    assert first.quantity + second.quantity == 9 * ONE


def test_the_same_intent_twice_in_the_window_is_denied() -> None:
    bench = Bench()
    (first,) = bench.give(mark(), decision(0.5))
    bench.give(order_event(first, OrderStatus.EXPIRED))
    (denied,) = bench.give(mark(at_ns=T0 + NS_PER_S // 2 - 1), decision(0.5, 2))
    assert denied.reasons == (DenyReason.DUPLICATE_ORDER,)
    (again,) = bench.give(mark(at_ns=T0 + NS_PER_S // 2), decision(0.5, 3))
    assert isinstance(again, OrderApproved)


def test_a_target_of_zero_while_an_order_works_only_cancels() -> None:
    bench = Bench(TimeInForce.GTC)
    (first,) = bench.give(mark(), decision(0.5))
    (only,) = bench.give(decision(0.0, 2))
    assert (only.quantity, only.cancels) == (0, (first.order_id,))
    assert bench.give(decision(0.0, 3)) == [], "a cancel is not asked for twice"


def test_cancels_go_out_even_when_the_new_order_is_denied() -> None:
    bench = Bench(TimeInForce.GTC, order_value_max=600)
    (first,) = bench.give(mark(), decision(0.5))
    bench.give(order_event(first, OrderStatus.NEW))
    denied, only = bench.give(decision(-1.0, 2))
    assert DenyReason.ORDER_VALUE_MAX in denied.reasons
    assert (only.quantity, only.cancels) == (0, (first.order_id,))
    assert only.order_id != denied.order_id


def test_what_cannot_be_sized_is_denied_though_it_carries_cancels() -> None:
    bench = Bench(TimeInForce.GTC)
    (first,) = bench.give(mark(), decision(0.5))
    bench.give(mark(at_ns=T0 + 1, mid=None))
    denied, only = bench.give(decision(1.0, 2))
    assert isinstance(denied, OrderDenied)
    assert DenyReason.REF_PRICE_STALE in denied.reasons
    assert only.cancels == (first.order_id,)


def test_approvals_count_towards_the_message_rate() -> None:
    bench = Bench(messages_max=2)
    first, second, denied = bench.give(mark(), decision(0.1, 1), decision(0.3, 2), decision(0.9, 3))
    assert isinstance(first, OrderApproved)
    assert isinstance(second, OrderApproved)
    assert denied.reasons == (DenyReason.MSG_RATE,)
    (later,) = bench.give(mark(at_ns=T0 + NS_PER_S), decision(0.9, 4))
    assert isinstance(later, OrderApproved)


def test_a_high_alert_restricts_to_reducing_until_normal() -> None:
    bench = Bench()
    (denied,) = bench.give(mark(), alert(AlertLevel.HIGH), decision(0.5))
    assert denied.reasons == (DenyReason.REDUCE_ONLY,)
    (denied,) = bench.give(alert(AlertLevel.ELEVATED), decision(0.5, 2))
    assert denied.reasons == (DenyReason.REDUCE_ONLY,)
    (order,) = bench.give(alert(AlertLevel.NORMAL), decision(0.5, 3))
    assert isinstance(order, OrderApproved)


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        (ScopeKind.GLOBAL, "*"),
        (ScopeKind.ACCOUNT, "main"),
        (ScopeKind.STRATEGY, "alpha"),
        (ScopeKind.INSTRUMENT, PERP),
    ],
)
def test_a_kill_is_latched_at_each_scope_until_two_people_lift_it(scope: ScopeKind, target: str) -> None:
    bench = Bench()
    halt = command(ControlAction.SET_LEVEL, scope=scope, target=target, level=Level.HALTED)
    (denied,) = bench.give(mark(), halt, decision(0.5))
    assert DenyReason.KILLED in denied.reasons
    bench.give(Heartbeat(key="h", event_time_ns=0, available_at_ns=T0 + NS_PER_S))
    (denied,) = bench.give(decision(0.5, 2))
    assert DenyReason.KILLED in denied.reasons
    alone = command(ControlAction.SET_LEVEL, scope=scope, target=target, level=Level.ACTIVE)
    (denied,) = bench.give(alone, decision(0.5, 3))
    assert DenyReason.KILLED in denied.reasons, "what one person says, or whoever writes to the topic, loosens nothing"
    (order,) = bench.give(reset(scope=scope, target=target), decision(0.5, 4))
    assert isinstance(order, OrderApproved)


@pytest.mark.parametrize(("scope", "target"), [(ScopeKind.STRATEGY, "beta"), (ScopeKind.INSTRUMENT, SPOT)])
def test_a_kill_elsewhere_does_not_reach(scope: ScopeKind, target: str) -> None:
    halt = command(ControlAction.SET_LEVEL, scope=scope, target=target, level=Level.HALTED)
    (order,) = Bench().give(mark(), halt, decision(0.5))
    assert isinstance(order, OrderApproved)


def test_a_command_that_names_no_level_or_no_account_changes_nothing() -> None:
    bench = Bench()
    bench.give(mark())
    before = msgspec.msgpack.encode(dict(bench.state))
    for bad in (
        command(ControlAction.SET_LEVEL),
        command(ControlAction.FLATTEN, scope=ScopeKind.ACCOUNT, target="nobody"),
    ):
        with pytest.raises(BadRecord):
            bench.give(bad)
    assert msgspec.msgpack.encode(dict(bench.state)) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"day_pnl": Decimal(-501)}, DenyReason.LOSS_LIMIT),
        ({"equity": Decimal(8_999)}, DenyReason.DRAWDOWN),
    ],
)
def test_a_breach_halts_the_account_and_cancels_what_rests(changes: dict[str, Any], reason: DenyReason) -> None:
    bench = Bench(TimeInForce.GTC)
    (resting,) = bench.give(mark(), decision(0.5))
    (only,) = bench.give(account_mark(**changes))
    assert (only.quantity, only.cancels) == (0, (resting.order_id,))
    assert bench.state["levels"].causes["ACCOUNT/main"] == f"risk: {reason}"
    (denied,) = bench.give(account_mark(), decision(0.8, 2, strategy="beta"))
    assert DenyReason.KILLED in denied.reasons, "a recovery does not lift the latch"


def test_the_exact_loss_limit_does_not_halt() -> None:
    bench = Bench()
    bench.give(mark(), account_mark(day_pnl=Decimal(-500), equity=Decimal(9_000)))
    assert "ACCOUNT/main" not in bench.state["levels"].levels


def test_flatten_closes_in_slices_until_nothing_is_held() -> None:
    bench = Bench(order_value_max=300)
    bench.give(mark(), account_mark(position=8 * ONE))
    (first,) = bench.give(command(ControlAction.FLATTEN))
    assert first.side is Side.SELL
    assert first.reduce_only
    assert first.quantity <= 3 * ONE
    position, now_ns, order, ids = 8 * ONE, T0, first, {first.order_id}
    for _ in range(10):
        position -= order.quantity
        bench.give(order_event(order, OrderStatus.FILLED, position_after=position))
        now_ns += 2 * NS_PER_S
        events = bench.give(mark(at_ns=now_ns))
        if not events:
            break
        (order,) = events
        assert order.decision_id == first.decision_id
        assert order.order_id not in ids
        ids.add(order.order_id)
    assert position == 0
    assert bench.account.flattening == {}


def test_flatten_cancels_what_rests_and_waits_for_what_is_under_way() -> None:
    bench = Bench(TimeInForce.GTC)
    (resting,) = bench.give(mark(), decision(0.5))
    (only,) = bench.give(command(ControlAction.FLATTEN))
    assert (only.quantity, only.cancels) == (0, (resting.order_id,))
    assert bench.give(mark(at_ns=T0 + 5 * NS_PER_S)) == []
    bench.give(order_event(resting, OrderStatus.CANCELED, filled_quantity=ONE))
    (order,) = bench.give(mark(at_ns=T0 + 10 * NS_PER_S))
    assert (order.side, order.quantity, order.reduce_only) == (Side.SELL, ONE, True)


def test_while_flattening_no_decision_adds() -> None:
    bench = Bench()
    bench.give(mark(), account_mark(position=ONE))
    bench.give(command(ControlAction.FLATTEN))
    (denied,) = bench.give(decision(1.0))
    assert DenyReason.REDUCE_ONLY in denied.reasons


def test_flatten_reaches_its_scope_only() -> None:
    bench = Bench()
    bench.give(mark(), account_mark(position=ONE), account_mark(strategy="beta", position=-ONE))
    (order,) = bench.give(command(ControlAction.FLATTEN, scope=ScopeKind.STRATEGY, target="beta"))
    assert (order.strategy, order.side, order.quantity) == ("beta", Side.BUY, ONE)


def test_a_halted_flatten_is_denied_ever_more_seldom() -> None:
    bench = Bench()
    halt = command(ControlAction.SET_LEVEL, level=Level.HALTED)
    bench.give(mark(), account_mark(position=ONE), halt)
    denials = len(bench.give(command(ControlAction.FLATTEN)))
    for second in range(1, 200):
        denials += len(bench.give(mark(at_ns=T0 + second * NS_PER_S)))
    assert 3 <= denials <= 10
    bench.give(reset())
    orders = [event for second in range(200, 300) for event in bench.give(mark(at_ns=T0 + second * NS_PER_S))]
    assert isinstance(orders[0], OrderApproved)


def test_dust_below_the_venues_minimum_ends_the_flatten() -> None:
    bench = Bench()
    bench.give(mark(), account_mark(position=ONE // 100))
    (denied,) = bench.give(command(ControlAction.FLATTEN))
    assert DenyReason.NOTIONAL_MIN in denied.reasons
    assert bench.account.flattening == {}


def test_an_unknown_order_blocks_what_adds_and_lets_through_what_reduces() -> None:
    bench = Bench(duplicate_window_ms=1)
    (order,) = bench.give(mark(), decision(0.2))
    bench.give(order_event(order, OrderStatus.UNKNOWN, position_after=5 * ONE))
    (denied,) = bench.give(decision(1.0, 2))
    assert denied.reasons == (DenyReason.UNKNOWN_ORDER_OPEN,)
    (reducing,) = bench.give(decision(0.0, 3))
    assert isinstance(reducing, OrderApproved)


def test_two_hundred_approvals_before_any_word_reach_exactly_the_limit() -> None:
    bench = Bench(
        position_value_max=1_000,
        gross_exposure_max=100_000,
        net_exposure_max=100_000,
        messages_max=1000,
        duplicate_window_ms=1,
    )
    bench.give(mark())
    approved = denied = 0
    for number in range(200):
        strategy = "alpha" if number % 2 else "beta"
        line = sum(order.leaves for order in bench.account.exposure.working.values() if order.strategy == strategy)
        wanted = decision((line // ONE + 1) / 10, number, at_ns=T0, strategy=strategy)
        moved = mark(at_ns=T0 + number * 2_000_000)
        for event in bench.give(moved, wanted):
            approved += isinstance(event, OrderApproved)
            denied += isinstance(event, OrderDenied) and event.reasons == (DenyReason.POSITION_LIMIT,)
    assert (approved, denied) == (10, 190)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["alpha", "beta"]),
            st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]),
            st.sampled_from(["none", "fill", "part", "reject", "unknown"]),
            st.integers(95, 105),
        ),
        max_size=40,
    ),
    time_in_force=st.sampled_from([TimeInForce.IOC, TimeInForce.GTC]),
)
def test_whatever_happens_the_worst_case_stays_within_the_limit(
    steps: list[tuple[str, float, str, int]], time_in_force: TimeInForce
) -> None:
    bench = Bench(time_in_force, position_value_max=700, order_value_max=5_000, duplicate_window_ms=1)
    positions: dict[str, int] = {"alpha": 0, "beta": 0}
    now_ns = T0
    for number, (strategy, target, outcome, price) in enumerate(steps):
        now_ns += NS_PER_S // 5
        bench.give(mark(at_ns=now_ns, mid=price * ONE))
        before = _worst(bench)
        for event in bench.give(decision(target, number, at_ns=now_ns, strategy=strategy)):
            if not isinstance(event, OrderApproved) or event.quantity == 0:
                continue
            reduces = event.reduce_only
            assert _worst(bench) * price <= 700 * ONE or reduces
            assert not reduces or _worst(bench) <= before, "what only reduces never adds"
            _settle(bench, event, outcome, positions)


def _worst(bench: Bench) -> int:
    return sum(line.worst for line in bench.account.exposure.lines().values())


def _settle(bench: Bench, order: OrderApproved, outcome: str, positions: dict[str, int]) -> None:
    if outcome == "none":
        return
    status, share = {
        "fill": (OrderStatus.FILLED, 2),
        "part": (OrderStatus.PARTIALLY_FILLED, 1),
        "reject": (OrderStatus.REJECTED, 0),
        "unknown": (OrderStatus.UNKNOWN, 0),
    }[outcome]
    filled = order.quantity * share // 2
    positions[order.strategy] += order.side.sign * filled
    bench.give(order_event(order, status, filled_quantity=filled, position_after=positions[order.strategy]))


def test_the_state_survives_a_checkpoint() -> None:
    bench = Bench(TimeInForce.GTC)
    bench.give(mark(), decision(0.5), alert(AlertLevel.HIGH), command(ControlAction.FLATTEN))
    for key, value in bench.state.items():
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=bench.stage.state_type(key))
        assert kept == value
    assert bench.state.touched == set(bench.state)


def test_a_strategy_without_limits_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="no limits"):
        RiskConfig(INSTRUMENTS, {}, {"alpha": StrategyRisk("alpha", "main", Decimal(1))})
