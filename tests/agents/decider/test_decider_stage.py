"""The decider stage: one decision per tally and strategy, always with its reason, never against a restriction."""

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
    approved,
    entry,
    mark,
    order_event,
    tally,
)

from agents.decider.observation import vote_keys
from agents.decider.policy import Observation, Policy, PolicyAnswer, PolicyContext
from agents.decider.probe import ProbePolicy
from agents.decider.stage import Decider, DeciderConfig, StrategyConfig
from agents.stage import ShardState, run_step
from schemas.decisions import Decision, DecisionOutcome, DenyReason, NoTradeReason
from schemas.event import Event, Heartbeat, derive_id
from schemas.opinions import AlertLevel, MarkQuality
from schemas.orders import ExecType, OrderStatus
from schemas.values import NS_PER_MS, NS_PER_S, Leg, OrderType, Side

TARGET, NO_TRADE, ADVICE = DecisionOutcome.TARGET, DecisionOutcome.NO_TRADE, DecisionOutcome.ADVICE


class Follower:
    """Wants p_up - p_down as it stands: the tests say what is wanted through the tally."""

    name = "follower"

    def decide(self, observation: Observation, context: PolicyContext) -> PolicyAnswer:
        wanted = observation["conviction"]
        assert wanted is not None
        return PolicyAnswer(round(wanted, 6), None, 0.01, 0.001)


class Bench:
    """One shard of the decider."""

    def __init__(self, policy: Policy | None = None, names: tuple[str, ...] = ("alpha",), **changes: Any) -> None:
        chosen = Follower() if policy is None else policy
        strategies = tuple(StrategyConfig(name, "main", (PERP, SPOT), NS_PER_S, chosen) for name in names)
        self.stage = Decider(DeciderConfig(INSTRUMENTS, strategies, **changes))
        self.state = ShardState()

    def give(self, *events: Event) -> list[Any]:
        found: list[Any] = []
        for event in events:
            found += run_step(self.stage, self.state, event)[1]
        return found


def at(second: float) -> int:
    return T0 + int(second * NS_PER_S)


def wants(number: int, target: float, **changes: Any) -> Event:
    up, down = (target, 0.0) if target > 0 else (0.0, -target)
    return tally(number, at(number), up=up, down=down, **changes)


def second(number: int, target: float, key: str = PERP) -> tuple[Event, Event]:
    """Return a fresh mark and a tally of that second."""
    return mark(key, at(number)), wants(number, target, key=key)


def test_a_new_target_is_a_target_and_the_same_again_is_not() -> None:
    bench = Bench()
    first, again = bench.give(*second(0, 0.5), *second(1, 0.5))
    assert (first.outcome, first.target, first.previous_target, first.reason) == (TARGET, 0.5, 0.0, None)
    assert (again.outcome, again.target, again.reason) == (NO_TRADE, 0.5, NoTradeReason.TARGET_UNCHANGED)


def test_a_decision_names_itself_its_tally_and_its_life() -> None:
    said = wants(0, 0.5)
    (found,) = Bench(decision_life_ns=NS_PER_S).give(mark(), said)
    assert found.decision_id == found.event_id == derive_id(said.event_id, "decider", 0)
    assert (found.tally_id, found.ballot_id, found.cause_id) == (said.event_id, "ballot-0", said.event_id)
    assert found.expires_at_ns == said.available_at_ns + NS_PER_S
    assert (found.edge, found.cost, found.policy, found.policy_stage) == (0.01, 0.001, "follower", "CHAMPION")


def test_each_strategy_decides_on_its_own_with_its_own_id() -> None:
    first, other = Bench(names=("alpha", "beta")).give(*second(0, 0.5))
    assert (first.strategy, other.strategy) == ("alpha", "beta")
    assert first.decision_id != other.decision_id
    assert other.decision_id == other.event_id


def test_other_horizons_and_instruments_are_not_decided_on() -> None:
    bench = Bench()
    assert bench.give(mark(), wants(0, 0.5, horizon_ns=10 * NS_PER_S), wants(0, 0.5, key="SIM:NONE")) == []


def test_what_it_saw_is_stored_and_a_missing_input_is_null() -> None:
    votes = (entry("flow", 0.5, 0.2), entry("silent", None, None))
    said = tally(0, entries=votes, volatility=None, context={"regime.trend": 0.7})
    (found,) = Bench().give(mark(newest_time_ns=T0 - NS_PER_S // 2), account_mark(position=2 * ONE), said)
    seen = found.observation
    assert seen["vote.flow.p_up"] == 0.5
    assert seen["vote.flow.weight"] == 0.5
    assert seen["vote.silent.p_up"] is None
    assert seen["volatility"] is None
    assert seen["context.regime.trend"] == 0.7
    assert seen["position"] == 2.0
    assert seen["spread_relative"] == pytest.approx(0.0002)
    assert seen["mark_age_s"] == 0.5


def test_another_expert_changes_no_other_number() -> None:
    one, two = (entry("a", 0.5, 0.2),), (entry("a", 0.5, 0.2), entry("b", 0.1, 0.1))
    (less,), (more,) = (Bench().give(mark(), tally(0, entries=votes)) for votes in (one, two))
    assert less.observation.items() <= more.observation.items()
    assert more.observation.keys() - less.observation.keys() == set(vote_keys("b"))


@pytest.mark.parametrize(
    ("market", "said", "reason"),
    [
        ([], wants(0, 0.5), NoTradeReason.NO_MARKET),
        ([mark(quality=MarkQuality.GAP)], wants(0, 0.5), NoTradeReason.NO_MARKET),
        ([mark(mid=None, quality=MarkQuality.ONE_SIDED)], wants(0, 0.5), NoTradeReason.NO_MARKET),
        ([mark()], wants(0, 0.5, mid=None), NoTradeReason.NO_MARKET),
        ([mark(newest_time_ns=T0 - 6 * NS_PER_S)], wants(0, 0.5), NoTradeReason.DATA_STALE),
        ([mark(at_ns=at(3))], wants(0, 0.5), NoTradeReason.DATA_STALE),
        (
            [mark(), Heartbeat(key="h", event_time_ns=0, available_at_ns=at(3))],
            wants(0, 0.5),
            NoTradeReason.DATA_STALE,
        ),
    ],
)
def test_without_a_fresh_market_nothing_is_wanted_anew(market: list[Event], said: Event, reason: NoTradeReason) -> None:
    (found,) = Bench().give(*market, said)
    assert (found.outcome, found.reason, found.target) == (NO_TRADE, reason, 0.0)


def test_a_request_is_answered_with_advice_and_changes_nothing() -> None:
    bench = Bench(names=("alpha", "beta"))
    (found,) = bench.give(mark(), wants(0, 0.5, advice_for="beta", request_id="r1", horizon_ns=60 * NS_PER_S))
    assert (found.outcome, found.strategy, found.target, found.request_id) == (ADVICE, "beta", 0.5, "r1")
    first, _ = bench.give(*second(1, 0.5))
    assert first.previous_target == 0.0


@pytest.mark.parametrize(
    ("held", "wanted", "target", "reason"),
    [
        (0.5, 1.0, 0.5, NoTradeReason.ALERT),
        (0.5, 0.2, 0.2, None),
        (0.5, -1.0, 0.0, None),
        (-0.5, -1.0, -0.5, NoTradeReason.ALERT),
        (-0.5, 1.0, 0.0, None),
    ],
)
def test_under_a_high_alert_only_less_is_wanted(
    held: float, wanted: float, target: float, reason: NoTradeReason | None
) -> None:
    bench = Bench()
    bench.give(*second(0, held), alert(AlertLevel.HIGH), alert(AlertLevel.ELEVATED))
    (found,) = bench.give(*second(1, wanted))
    assert (found.target, found.reason) == (target, reason)
    assert (found.outcome is TARGET) == (reason is None)
    (freed,) = bench.give(alert(AlertLevel.NORMAL), *second(2, 1.0 if wanted > 0 else -1.0))
    assert abs(freed.target) == 1.0


@pytest.mark.parametrize("reason", [DenyReason.KILLED, DenyReason.REDUCE_ONLY])
def test_a_denial_for_its_level_restricts_the_line_for_a_while(reason: DenyReason) -> None:
    bench = Bench()
    denied = order_event(approved(), OrderStatus.DENIED, deny_reasons=(reason,), position_after=0)
    bench.give(*second(0, 0.5), denied)
    (found,) = bench.give(*second(1, 1.0))
    assert (found.outcome, found.reason) == (NO_TRADE, NoTradeReason.LEVEL)
    (later,) = bench.give(*second(30, 1.0))
    assert later.outcome is TARGET


def test_a_short_target_on_spot_is_risks_to_refuse_unless_told_otherwise() -> None:
    (free,) = Bench().give(*second(0, -0.5, SPOT))
    (aware,) = Bench(long_only_aware=True).give(*second(0, -0.5, SPOT))
    assert (free.outcome, free.target) == (TARGET, -0.5)
    assert (aware.outcome, aware.target, aware.reason) == (NO_TRADE, 0.0, NoTradeReason.TARGET_UNCHANGED)


def test_what_a_stop_has_closed_is_not_entered_again_for_the_same_target() -> None:
    bench = Bench(retry_after_ns=NS_PER_S)
    (first,) = bench.give(*second(0, 0.5))
    entry = approved("entry", decision_id=first.decision_id)
    bench.give(order_event(entry, OrderStatus.EXPIRED, filled_quantity=ONE, position_after=ONE))
    stop = approved("stop", decision_id="another", side=Side.SELL, order_type=OrderType.STOP, leg=Leg.STOP_LOSS)
    closed: dict[str, Any] = {"exec_type": ExecType.TRADE, "leg": Leg.STOP_LOSS, "position_after": 0}
    bench.give(order_event(stop, OrderStatus.FILLED, **closed))
    (same,) = bench.give(*second(5, 0.5))
    assert (same.outcome, same.reason) == (NO_TRADE, NoTradeReason.TARGET_UNCHANGED)
    (other,) = bench.give(*second(6, 0.25))
    assert other.outcome is TARGET


def _after(bench: Bench, *, fills: bool, seconds: float) -> Decision:
    (first,) = bench.give(*second(0, 0.5))
    order = approved(decision_id=first.decision_id)
    bench.give(order_event(order, OrderStatus.FILLED if fills else OrderStatus.EXPIRED))
    said = msgspec.structs.replace(wants(1, 0.5), available_at_ns=first.available_at_ns + int(seconds * NS_PER_S))
    (found,) = bench.give(mark(at_ns=said.available_at_ns), said)
    assert isinstance(found, Decision)
    return found


@pytest.mark.parametrize(
    ("fills", "seconds", "retry_after_ns", "outcome"),
    [
        (False, 30, 30 * NS_PER_S, TARGET),
        (False, 29.9, 30 * NS_PER_S, NO_TRADE),
        (True, 31, 30 * NS_PER_S, NO_TRADE),
        (False, 999, None, NO_TRADE),
    ],
)
def test_a_target_that_did_not_come_about_is_asserted_again(
    fills: bool, seconds: float, retry_after_ns: int | None, outcome: DecisionOutcome
) -> None:
    found = _after(Bench(retry_after_ns=retry_after_ns), fills=fills, seconds=seconds)
    assert (found.outcome, found.target, found.previous_target) == (outcome, 0.5, 0.5)


def test_while_an_order_works_nothing_is_asserted_again() -> None:
    bench = Bench()
    (first,) = bench.give(*second(0, 0.5))
    bench.give(order_event(approved(decision_id=first.decision_id), OrderStatus.NEW))
    (found,) = bench.give(*second(60, 0.5))
    assert found.reason is NoTradeReason.TARGET_UNCHANGED


def test_flat_and_wanting_nothing_is_asserted_once_only() -> None:
    bench = Bench()
    decisions = bench.give(*second(0, 0.5), *second(1, 0.0), *second(60, 0.0), *second(120, 0.0))
    assert [found.outcome for found in decisions] == [TARGET, TARGET, NO_TRADE, NO_TRADE]


def test_the_probe_flips_as_a_positive_control() -> None:
    bench = Bench(ProbePolicy(every=2, size=1.0))
    decisions = [found for number in range(8) for found in bench.give(*second(number, 0.1))]
    assert [found.target for found in decisions if found.outcome is TARGET] == [1.0, -1.0, 1.0, -1.0]
    assert [found.outcome for found in decisions] == [TARGET, NO_TRADE] * 4


@given(st.lists(st.tuples(st.sampled_from(list(AlertLevel)), st.integers(-2, 2)), max_size=30))
def test_no_restricted_decision_ever_adds(steps: list[tuple[AlertLevel, int]]) -> None:
    bench = Bench()
    restricted = False
    for number, (level, halves) in enumerate(steps):
        restricted = level is AlertLevel.HIGH or (restricted and level is AlertLevel.ELEVATED)
        (found,) = bench.give(alert(level), *second(number, halves / 2))
        assert (found.outcome is TARGET) == (found.target != found.previous_target)
        assert (found.reason is None) == (found.outcome is TARGET)
        if restricted:
            assert abs(found.target) <= abs(found.previous_target)
            assert found.target * found.previous_target >= 0
        else:
            assert found.target == halves / 2


def test_the_state_survives_a_checkpoint() -> None:
    bench = Bench()
    bench.give(*second(0, 0.5), alert(AlertLevel.HIGH), account_mark(), order_event(approved(), OrderStatus.NEW))
    for key, value in bench.state.items():
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=bench.stage.state_type(key))
        assert kept == value
    assert bench.state.touched == set(bench.state)


def test_a_strategy_on_an_undefined_instrument_is_refused() -> None:
    with pytest.raises(ValueError, match="not defined"):
        DeciderConfig({}, (StrategyConfig("alpha", "main", (PERP,), NS_PER_S, Follower()),))


def test_the_life_of_a_decision_is_counted_from_its_tally() -> None:
    said = wants(0, 0.5)
    on_time = Heartbeat(key="h", event_time_ns=0, available_at_ns=said.available_at_ns + 2 * NS_PER_S)
    (found,) = Bench().give(mark(), on_time, said)
    assert found.outcome is TARGET
    assert said.available_at_ns == T0 + 20 * NS_PER_MS
