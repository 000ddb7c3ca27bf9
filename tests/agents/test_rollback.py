"""Rollback with money: two strategies on one account, decider to venue, and a model that goes bad in each way.

What is asked: after how many decisions is the champion back, is anything ordered by a bad model, and does what a canary
held come to nothing by orders that only reduce, whatever its caps and its level are.
"""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from filling_venue import reports
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, command, decision, limits, mark, tally
from release_train import BUDGET, Store, Wants, released

from agents.decider.config import DeciderConfig, Follows, StrategyConfig
from agents.decider.policy_source import ModelName, ModelTerms
from agents.decider.stage import Decider
from agents.execution.stage import Execution
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from agents.pipeline import Pipeline
from agents.release.drift import DriftTerms
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.stage import Risk
from agents.stage import ShardState, run_step
from schemas.control import ControlAction, ScopeKind
from schemas.decisions import Decision, DenyReason, OrderApproved, OrderDenied
from schemas.event import Event
from schemas.feedback import ModelRelease, ReleaseStage
from schemas.orders import AccountMark, SubmitRequested
from schemas.values import NS_PER_S, Level

LIMITS = limits(canaries={"beta": {"orders_per_day_max": 1, "position_value_max": 600}}, order_value_max=2_000)
BLOCK = 8


def _venue(request: Event) -> Iterable[Event]:
    """Fill every order whole at its price."""
    return reports(request, request.quantity, "0.01") if isinstance(request, SubmitRequested) else ()


class Floor:
    """Alpha follows the champion, beta the canary, on one account and one instrument."""

    def __init__(self, policies: dict[str, Any], champion: str, drift: DriftTerms | None = None) -> None:
        store = Store({f"sha-{name}": policy for name, policy in policies.items()})
        rule, traded = Wants(0.0, "rule"), (PERP, SPOT)
        models = ModelTerms(champion=ModelName(champion, f"sha-{champion}"), loss_max=0.05, drift=drift)
        config = DeciderConfig(
            INSTRUMENTS,
            (
                StrategyConfig("alpha", "main", traded, NS_PER_S, rule, follows=Follows.CHAMPION, budget=BUDGET),
                StrategyConfig("beta", "main", (PERP,), NS_PER_S, rule, follows=Follows.CANARY, budget=BUDGET),
            ),
            source=store,
            models=models,
        )
        risks = {name: StrategyRisk(name, "main", BUDGET) for name in ("alpha", "beta")}
        stages = [
            Decider(config),
            Risk(RiskConfig(INSTRUMENTS, {"main": LIMITS}, risks)),
            Execution(
                ExecutionConfig(
                    instruments=INSTRUMENTS,
                    accounts={"main": AccountTerms(capital=Decimal(10_000), currency="USD")},
                    strategies={
                        "alpha": StrategyTerms(account="main", instruments=traded),
                        "beta": StrategyTerms(account="main", instruments=(PERP,)),
                    },
                    limits={"main": LIMITS},
                )
            ),
        ]
        self.events: list[Event] = []
        self.pipeline = Pipeline(stages, perform=_venue, observe=self.events.append)
        self.second = 0

    def tick(self, mid: int = 100 * ONE, **changes: Any) -> list[Event]:
        """Let a second pass; return everything that came of it."""
        self.second += 1
        at_ns, before = T0 + self.second * NS_PER_S, len(self.events)
        self.pipeline.publish(mark(PERP, at_ns, mid))
        self.pipeline.publish(tally(self.second, at_ns, mid=mid, **changes))
        return self.events[before:]

    def release(self, model: str, stage: ReleaseStage) -> None:
        """Publish a person's release."""
        self.pipeline.publish(released(model, stage))

    def held(self, strategy: str) -> int:
        """Return what a strategy holds of the perpetual, by the newest valuation."""
        marks = [
            item for item in _of(self.events, AccountMark) if item.strategy == strategy and item.instrument == PERP
        ]
        return int(marks[-1].position)

    def ordered_by(self, policy: str) -> list[OrderApproved]:
        """Return the orders that cite a decision of this policy."""
        cited = {item.decision_id for item in _of(self.events, Decision) if item.policy == policy}
        return [item for item in _of(self.events, OrderApproved) if item.decision_id in cited and item.quantity]


def _of(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def _retired(events: list[Event]) -> list[tuple[str, str]]:
    return [(item.model, item.reason) for item in _of(events, ModelRelease) if item.author == "decider"]


def _by(events: list[Event], strategy: str) -> Decision:
    (found,) = [item for item in _of(events, Decision) if item.strategy == strategy]
    assert isinstance(found, Decision)
    return found


@pytest.mark.parametrize("bad", [math.nan, math.inf, 7.0])
def test_of_a_bad_champion_no_order_leaves_and_the_former_decides_that_very_tally(bad: float) -> None:
    floor = Floor({"old": Wants(-0.5), "new": Wants(1.0, turns=5, then=bad)}, "old")
    floor.release("new", ReleaseStage.CHAMPION)
    while not (found := _retired(last := floor.tick())):
        assert _by(last, "alpha").policy == "new"
    orders = floor.ordered_by("new")
    assert found == [("new", "INVALID_OUTPUT")]
    assert (_by(last, "alpha").policy, _by(last, "alpha").target) == ("old", -0.5)
    for _ in range(20):
        floor.tick()
    assert floor.ordered_by("new") == orders
    assert len(orders) == 1
    assert floor.held("alpha") == -25 * ONE // 10


def test_a_bad_canary_is_closed_by_an_order_that_only_reduces_beyond_its_caps() -> None:
    """Its one order of the day is used up, and its level is REDUCING: the way out is open all the same."""
    floor = Floor({"old": Wants(0.5), "new": Wants(1.0, turns=3)}, "old")
    floor.release("new", ReleaseStage.CANARY)
    floor.tick()
    floor.tick()
    assert (floor.held("alpha"), floor.held("beta")) == (25 * ONE // 10, 5 * ONE)
    reducing = {"scope": ScopeKind.STRATEGY, "target": "beta", "level": Level.REDUCING}
    floor.pipeline.publish(command(ControlAction.SET_LEVEL, **reducing))
    while not (found := _retired(last := floor.tick())):
        pass
    assert found == [("new", "INVALID_OUTPUT")]
    (closing,) = _of(last, OrderApproved)
    assert (closing.strategy, closing.reduce_only) == ("beta", True)
    floor.tick()
    assert (floor.held("alpha"), floor.held("beta")) == (25 * ONE // 10, 0)


def test_a_canary_stays_within_its_caps_while_the_champion_trades_on() -> None:
    floor = Floor({"old": Wants(1.0, turns=3, then=-1.0), "new": Wants(1.0, turns=3, then=-1.0)}, "old")
    floor.release("new", ReleaseStage.CANARY)
    for _ in range(6):
        floor.tick()
    denied = _of(floor.events, OrderDenied)
    assert floor.held("alpha") == -5 * ONE
    assert {item.strategy for item in denied} == {"beta"}
    assert all(DenyReason.CANARY_CAP in item.reasons for item in denied)
    assert denied


def test_an_exploding_loss_takes_the_canary_out_and_its_position_to_nothing() -> None:
    floor = Floor({"old": Wants(0.0), "new": Wants(1.0)}, "old")
    floor.release("new", ReleaseStage.CANARY)
    floor.tick()
    fall, decisions = 1, 0
    while not _retired(floor.events):
        fall *= 2
        floor.tick(100 * ONE - fall * ONE // 10)
        decisions += 1
        assert decisions < 20
    worst = 100 * ONE - fall * ONE // 10
    # 5 % of the budget is a fall of 5: seen at the valuation of the first mark beyond it, before that tally's decision.
    assert _retired(floor.events) == [("new", "LOSS")]
    assert fall == 64
    floor.tick(worst)
    assert floor.held("beta") == 0
    assert all(item.reduce_only for item in floor.ordered_by("flat"))
    assert len(floor.ordered_by("new")) == 1


def test_drift_takes_the_champion_out_after_three_blocks_of_strange_inputs() -> None:
    floor = Floor({"old": Wants(0.0), "new": Wants(1.0)}, "old", DriftTerms(block=BLOCK))
    floor.release("new", ReleaseStage.CHAMPION)
    floor.tick(disagreement=99.0)
    decisions = 1
    while not _retired(floor.events):
        last = floor.tick(disagreement=99.0)
        decisions += 1
        assert decisions <= 3 * BLOCK
    assert (decisions, _retired(floor.events)) == (3 * BLOCK, [("new", "INPUT_DRIFT")])
    assert (_by(last, "alpha").policy, _by(last, "alpha").target) == ("old", 0.0)
    floor.tick()
    assert floor.held("alpha") == 0


def test_the_same_inputs_give_the_same_events_to_the_last_id() -> None:
    def told() -> list[Event]:
        policies = {"old": Wants(-0.5), "new": Wants(1.0, turns=7), "sly": Wants(0.5)}
        floor = Floor(policies, "old", DriftTerms(block=BLOCK))
        floor.release("new", ReleaseStage.CANARY)
        floor.release("sly", ReleaseStage.SHADOW)
        for _ in range(5 * BLOCK):
            floor.tick(100 * ONE, disagreement=5.0)
        assert _retired(floor.events)
        return floor.events

    assert told() == told()


def test_what_a_retired_model_left_can_only_be_closed() -> None:
    """Even a target that would open something opens nothing under the stage of a retired model."""
    stage = Risk(RiskConfig(INSTRUMENTS, {"main": LIMITS}, {"alpha": StrategyRisk("alpha", "main", BUDGET)}))
    state = ShardState()
    run_step(stage, state, mark(PERP))
    (denied,) = run_step(stage, state, decision(1.0, policy_stage="RETIRED"))[1]
    assert isinstance(denied, OrderDenied)
    assert denied.reasons == (DenyReason.REDUCE_ONLY,)
    (free,) = run_step(stage, state, decision(1.0, 2))[1]
    assert isinstance(free, OrderApproved)
