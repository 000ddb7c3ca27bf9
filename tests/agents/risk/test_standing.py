"""Risk judges by what execution says is in force, and loosens nothing that it hears from anybody else."""

import msgspec
import pytest
from money_events import ONE, T0, built, command, decision, mark, reset
from proposed_changes import TWO, examined, limits_change
from risk_bench import Bench

from agents.limits.book import LimitBook, with_version
from agents.limits.changes import LevelNow, decide
from schemas.changes import ControlOutcome, OutcomeKind
from schemas.control import ControlAction, ScopeKind
from schemas.decisions import DenyReason, OrderApproved, OrderDenied
from schemas.event import Heartbeat
from schemas.values import NS_PER_S, Level


def raised(bench: Bench, value: str = "5000", until_ns: int | None = None) -> LimitBook:
    """Return the book that execution has after two people raised the largest order."""
    effective = bench.stage._config.effective
    first = effective.first
    change = limits_change(first.version, values={"order_value_max": value}, until_ns=until_ns)
    found = decide(first, effective, examined(change), LevelNow(), T0).book
    assert found is not None
    return found


def word(book: LimitBook, outcome: OutcomeKind = OutcomeKind.APPLIED) -> ControlOutcome:
    """Return what execution says of a book."""
    fields = {
        "key": "main",
        "event_id": f"word-{book.version}",
        "outcome": outcome,
        "command_id": "c",
        "change_id": "x",
        "author": "ann",
        "reason": "more room",
        "approved_by": TWO,
        "action": ControlAction.SET_LIMITS,
        "scope": ScopeKind.ACCOUNT,
        "target": "main",
        "version": book.version,
        "sets": book.sets,
        "overrides": book.overrides,
    }
    found: ControlOutcome = built(ControlOutcome, fields, {})
    return found


def test_every_verdict_cites_the_version_that_it_was_judged_under() -> None:
    bench = Bench(order_value_max=300)
    (denied,) = bench.give(mark(), decision(0.5))
    first = bench.stage._config.effective.first.version
    assert isinstance(denied, OrderDenied)
    assert denied.limits_version == first
    book = raised(bench)
    (order,) = bench.give(word(book), decision(0.5, 2))
    assert isinstance(order, OrderApproved)
    assert order.limits_version == book.version != first


def test_a_record_on_the_control_topic_raises_nothing() -> None:
    bench = Bench(order_value_max=300)
    bench.give(mark())
    change = limits_change(bench.stage._config.effective.first.version, values={"order_value_max": "5000"})
    forged = examined(change).command
    (denied,) = bench.give(forged, decision(0.5))
    assert denied.reasons == (DenyReason.ORDER_VALUE_MAX,)
    bench.give(command(ControlAction.SET_LEVEL, level=Level.HALTED))
    assert bench.give(command(ControlAction.SET_LEVEL, level=Level.ACTIVE), decision(0.5, 2))[0].reasons[-1] == "KILLED"


def test_an_override_lapses_in_risk_though_nobody_says_so() -> None:
    bench = Bench(order_value_max=300)
    book = raised(bench, until_ns=T0 + NS_PER_S)
    (order,) = bench.give(mark(), word(book), decision(0.5))
    assert isinstance(order, OrderApproved)
    at_ns = T0 + NS_PER_S
    bench.give(Heartbeat(key="h", event_time_ns=at_ns, available_at_ns=at_ns))
    (denied,) = bench.give(mark(at_ns=at_ns), decision(-0.5, 2, at_ns=at_ns))
    assert denied.reasons == (DenyReason.ORDER_VALUE_MAX,)
    assert denied.limits_version not in (book.version, bench.stage._config.effective.first.version)


def test_what_risk_made_of_an_override_gives_way_to_what_execution_says() -> None:
    bench = Bench(order_value_max=300)
    book = raised(bench)
    other = with_version(book, "feedfacefeedface", sets={"ACCOUNT|main": book.sets["ACCOUNT|main"]})
    bench.give(mark(), word(book), word(other, OutcomeKind.IN_FORCE))
    kept: LimitBook = bench.state["limits"]
    assert (kept.version, kept.sets) == (other.version, other.sets)


def test_a_refusal_is_no_news_for_risk() -> None:
    bench = Bench(order_value_max=300)
    book = raised(bench)
    refused = msgspec.structs.replace(word(book, OutcomeKind.REFUSED), sets={}, overrides=())
    level = msgspec.structs.replace(reset(), outcome=OutcomeKind.REFUSED, event_id="r")
    halt = command(ControlAction.SET_LEVEL, level=Level.HALTED)
    (denied,) = bench.give(mark(), refused, halt, level, decision(0.5))
    assert set(denied.reasons) >= {DenyReason.ORDER_VALUE_MAX, DenyReason.KILLED}


def test_a_reset_that_was_proposed_before_a_breach_does_not_release_it() -> None:
    bench = Bench(executions_max=1, duplicate_window_ms=1)
    at_ns = T0 + 2 * NS_PER_S
    bench.give(mark(at_ns=at_ns), decision(0.2, 1, at_ns=at_ns), decision(0.4, 2, at_ns=at_ns))
    assert bench.levels.levels == {"STRATEGY/alpha": Level.HALTED}
    early = msgspec.structs.replace(reset(scope=ScopeKind.STRATEGY, target="alpha"), proposed_at_ns=at_ns - 1)
    bench.give(early)
    assert bench.levels.levels == {"STRATEGY/alpha": Level.HALTED}
    bench.give(msgspec.structs.replace(early, proposed_at_ns=at_ns, event_id="later"))
    assert bench.levels.levels == {"STRATEGY/alpha": Level.ACTIVE}


@pytest.mark.parametrize("strategy", ["alpha", "beta"])
def test_a_canary_is_held_by_risk(strategy: str) -> None:
    bench = Bench(canaries={"alpha": {"position_value_max": 150}}, order_value_max=10_000)
    (verdict,) = bench.give(mark(), decision(0.5, strategy=strategy))
    if strategy == "alpha":
        assert verdict.reasons == (DenyReason.CANARY_CAP,)
    else:
        assert verdict.quantity == 5 * ONE
    (small,) = bench.give(decision(0.1, 2, strategy="alpha"))
    assert isinstance(small, OrderApproved)


def test_the_limits_survive_a_checkpoint() -> None:
    bench = Bench()
    bench.give(mark(), word(raised(bench, until_ns=T0 + NS_PER_S)))
    kept = bench.state["limits"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(kept), type=bench.stage.state_type("limits")) == kept
