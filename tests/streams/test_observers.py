"""What the stages' metrics say: right from the state alone after a restart, and no more series however much happens."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from every_event import example

from agents.decider.policy import PolicyAnswer
from agents.decider.policy_source import LoadedPolicy
from agents.decider.releases import Releases
from agents.execution.orders import OrderState
from agents.execution.positions import PositionState
from agents.execution.reconciliation_state import STATE_KEY, BookDifference, Doubt, ReconciliationState, VenueStanding
from agents.execution.state import AccountState, InstrumentState
from agents.limits.exposure import AccountExposure
from agents.risk.state import AccountRisk, InstrumentRisk, Levels
from agents.stage import ShardState, Stage
from agents.voting.weights import Standing, Weights
from infra.metrics.registry import Metrics
from infra.settings import load_settings
from schemas.decisions import Decision, DenyReason, OrderApproved, OrderDenied
from schemas.event import Event
from schemas.feedback import BallotVoided, Experience, ModelRelease, ReleaseStage, RetirementReason
from schemas.market import Quality, QualityKind
from schemas.opinions import AbstainReason, MarketMark, VoteTally
from schemas.orders import Fill, OrderEvent, OrderStatus
from schemas.values import NS_PER_S, Level, Side, units
from streams.composition import Run, build_stage, compose, decider_config, execution_config, risk_config, voting_config
from streams.observers.decider import DeciderObserver, TimedPolicies, TimedPolicy, new_times
from streams.observers.execution import ExecutionObserver, VenueTimes
from streams.observers.feedback import FeedbackObserver
from streams.observers.ingestion import IngestionObserver
from streams.observers.risk import RiskObserver
from streams.observers.voting import VotingObserver

BTC = "SIM:BTCUSD"
ORDER_EVENT = example(OrderEvent)
FILL = example(Fill, instrument=BTC)
APPROVAL = example(OrderApproved, quantity=1)


@pytest.fixture(scope="module")
def run() -> Run:
    return compose(load_settings(None, {"feed.kind": "simulated"}))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("all", ["ingestion", "voting", "decider", "risk", "execution", "feedback", "sinks"])


def _told(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric, by its label values in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(labels.items())): value
        for sample, labels, value in metrics.samples()
        if sample == name
    }


def _series(metrics: Metrics) -> int:
    return sum(1 for _ in metrics.samples())


def _restored(stage: Stage, values: dict[str, Any]) -> ShardState:
    """Return a state as a checkpoint gives it back: encoded, and read by the stage's own types."""
    state = ShardState()
    for key, value in values.items():
        state.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=stage.state_type(key)))
    return state


def _mark(**changes: object) -> MarketMark:
    mark = example(MarketMark, key=BTC, **changes)
    assert isinstance(mark, MarketMark)
    return mark


def _order_event(number: int, status: OrderStatus) -> Event:
    final = status in (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.DENIED)
    side = Side.BUY if number % 2 else Side.SELL
    changes = {"order_id": f"order-{number}", "instrument": BTC, "status": status, "final": final, "side": side}
    return msgspec.structs.replace(ORDER_EVENT, **changes)


def test_ten_thousand_orders_make_no_more_series_than_a_hundred(run: Run, metrics: Metrics) -> None:
    times = VenueTimes()
    observer = ExecutionObserver(metrics, execution_config(run), times)
    risk = RiskObserver(metrics, risk_config(run))
    sizes = []
    for upto in (100, 10_000):
        for number in range(upto):
            times.sent(f"order-{number}", BTC)
            times.heard(f"order-{number}")
            times.tick_to_order_s.append(0.01)
            last = OrderStatus.FILLED if number % 3 else OrderStatus.CANCELED
            path = (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.NEW, last)
            observer.see([_order_event(number, status) for status in path], ())
            observer.see([msgspec.structs.replace(FILL, fill_id=f"f{number}", order_id=f"order-{number}")], ())
            risk.see([msgspec.structs.replace(APPROVAL, order_id=f"order-{number}")], [0.001])
            if number % 50 == 0:
                observer.tell([ShardState()])
        observer.tell([ShardState()])
        sizes.append(_series(metrics))
    assert sizes[0] == sizes[1]
    orders = _told(metrics, "tradermind_orders_total")
    assert orders["BUY", "PENDING_NEW", "SIM"] == 50 + 5_000
    assert orders["BUY", "NEW", "SIM"] == 50 + 5_000, "an order that says NEW twice came to it once"
    assert sum(_told(metrics, "tradermind_fills_total").values()) == 10_100
    assert _told(metrics, "tradermind_order_submit_seconds_count") == {("SIM",): 10_100.0}
    assert _told(metrics, "tradermind_risk_check_seconds_count") == {(): 10_100.0}


def _account() -> AccountState:
    account = AccountState("USD")
    account.positions = {
        f"committee|{BTC}": PositionState(quantity=units("0.5"), cost=Decimal(25_000), fees=Decimal("12.5"), fills=1)
    }
    account.equity, account.equity_peak = Decimal(90_000), Decimal(120_000)
    account.strategy_pnl = {"committee": Decimal("-10000.25")}
    account.open_orders = ["one", "two"]
    return account


def _order(order_id: str, status: OrderStatus) -> OrderState:
    changes = {"side": Side.BUY, "account": "main", "strategy": "committee", "instrument": BTC, "status": status}
    approved = example(OrderApproved)
    assert isinstance(approved, OrderApproved)
    facts = {name: getattr(approved, name) for name in ("decision_id", "order_type", "time_in_force", "limit_price")}
    times = {"decision_mid": 1, "decided_at_ns": 1, "created_at_ns": 1, "not_after_ns": 1, "quantity": 1}
    return OrderState(order_id=order_id, **facts, **times, **changes)


def test_after_a_restart_the_accounts_are_told_before_anything_has_come(run: Run, metrics: Metrics) -> None:
    account = next(iter(run.settings.accounts))
    state = _restored(
        build_stage(run, "execution"),
        {
            f"account/{account}": _account(),
            f"instrument/{BTC}": InstrumentState(mid=units("60000")),
            "order/one": _order("one", OrderStatus.NEW),
            "order/two": _order("two", OrderStatus.UNKNOWN),
            STATE_KEY: ReconciliationState(
                epoch=1, began_at_ns=1, venues={"SIM": VenueStanding(instruments=[BTC], attempt=1)}
            ),
        },
    )
    missing = ExecutionObserver(metrics, execution_config(run), VenueTimes()).tell([state])
    assert missing == {"reconciled": "not reconciled with SIM"}
    assert _told(metrics, "tradermind_position_notional")[BTC, "committee"] == 30_000.0
    assert _told(metrics, "tradermind_net_pnl")["USD", "committee"] == -10_000.25
    assert _told(metrics, "tradermind_fees_total")["USD", "committee"] == 12.5
    assert _told(metrics, "tradermind_drawdown_ratio")["committee",] == 0.25
    assert _told(metrics, "tradermind_equity")["USD",] == 90_000.0
    assert _told(metrics, "tradermind_orders_open")["SIM",] == 2.0
    assert _told(metrics, "tradermind_orders_unknown")["SIM",] == 1.0
    assert _told(metrics, "tradermind_reconciled") == {("SIM",): 0.0}


def test_execution_is_ready_only_once_every_venue_agrees(run: Run, metrics: Metrics) -> None:
    observer = ExecutionObserver(metrics, execution_config(run), VenueTimes())
    state = ShardState()
    assert observer.tell([]) == {}, "a standby has nothing to compare"
    assert "reconciled" in observer.tell([state])
    standing = VenueStanding(instruments=[BTC], attempt=1, answered=1)
    standing.differences = [
        BookDifference(kind=Doubt.POSITION, instrument=BTC, name="committee"),
        BookDifference(kind=Doubt.FOREIGN_ORDER, instrument=BTC, name="another's"),
    ]
    state[STATE_KEY] = ReconciliationState(epoch=1, began_at_ns=1, venues={"SIM": standing})
    assert observer.tell([state]) == {"reconciled": "not reconciled with SIM"}
    assert _told(metrics, "tradermind_reconcile_differences") == {("SIM",): 1.0}, "another's order blocks nothing"
    standing.clean, standing.differences = True, []
    assert observer.tell([state]) == {}
    assert _told(metrics, "tradermind_reconciled") == {("SIM",): 1.0}


def test_after_a_restart_a_kill_is_told_before_anything_has_come(run: Run, metrics: Metrics) -> None:
    account = next(iter(run.settings.accounts))
    exposure = AccountExposure.opened_with(Decimal(100_000))
    exposure.equity, exposure.day_pnl = Decimal(99_000), Decimal(-1_000)
    exposure.positions = {"committee": {BTC: units("0.01")}}
    levels = Levels(now_ns=10 * NS_PER_S, levels={"GLOBAL": Level.HALTED, f"ACCOUNT/{account}": Level.REDUCING})
    state = _restored(
        build_stage(run, "risk"),
        {
            "levels": levels,
            f"account/{account}": AccountRisk(exposure=exposure),
            f"instrument/{BTC}": InstrumentRisk(mark=_mark(mid=units("60000"), newest_time_ns=7 * NS_PER_S)),
        },
    )
    RiskObserver(metrics, risk_config(run)).tell([state])
    assert _told(metrics, "tradermind_kill_switch_active") == {
        ("GLOBAL",): 1.0,
        ("ACCOUNT",): 0.0,
        ("STRATEGY",): 0.0,
        ("INSTRUMENT",): 0.0,
    }
    assert _told(metrics, "tradermind_trading_level")["ACCOUNT",] == 1.0
    assert _told(metrics, "tradermind_market_data_age_seconds") == {(BTC,): 3.0}
    used = _told(metrics, "tradermind_limit_used_ratio")
    limits = risk_config(run).effective.of(risk_config(run).effective.first)[account]
    assert used["daily_loss_max",] == pytest.approx(float(1_000 / limits.daily_loss_max))
    assert used["gross_exposure_max",] == pytest.approx(float(600 / limits.gross_exposure_max))
    assert used["drawdown_max",] == pytest.approx(float(Decimal("0.01") / limits.drawdown_max))


def test_denials_are_counted_by_their_first_reason_so_that_counts_add_up(run: Run, metrics: Metrics) -> None:
    reasons = (DenyReason.KILLED, DenyReason.DATA_STALE)
    outputs = [
        example(OrderDenied, reasons=reasons),
        example(OrderApproved, quantity=5),
        example(OrderApproved, quantity=0),
    ]
    RiskObserver(metrics, risk_config(run)).see(outputs, ())
    assert _told(metrics, "tradermind_risk_decisions_total") == {
        ("denied", "KILLED"): 1.0,
        ("approved", "none"): 1.0,
        ("cancel", "none"): 1.0,
    }


def test_after_a_restart_weights_are_told_before_anything_has_come(run: Run, metrics: Metrics) -> None:
    known = Standing(log_weight=0.0, loss=0.2, base_loss=0.4, scored=100)
    weights = Weights(standings={"momentum": known, "new.one": Standing(log_weight=0.0)})
    state = _restored(build_stage(run, "voting"), {f"{BTC}/{10 * NS_PER_S}/weights": weights})
    VotingObserver(metrics, voting_config(run)).tell([state])
    assert _told(metrics, "tradermind_expert_weight") == {
        ("momentum", "10s", BTC): 0.5,
        ("new.one", "10s", BTC): 0.5,
    }
    assert _told(metrics, "tradermind_expert_skill") == {("momentum", "10s", BTC): 0.5}, "unknown is no zero"
    assert _told(metrics, "tradermind_expert_calibration_error") == {}


def test_votes_are_counted_from_the_tallies(run: Run, metrics: Metrics) -> None:
    tally = example(VoteTally, key=BTC, horizon_ns=NS_PER_S, late=("slow",), disagreement=0.125)
    assert isinstance(tally, VoteTally)
    sure = msgspec.structs.replace(tally.entries[0], expert="a", p_down=0.1, p_flat=0.2, p_up=0.7, abstained=None)
    none: dict[str, Any] = dict.fromkeys(("p_down", "p_flat", "p_up"))
    mute = msgspec.structs.replace(sure, expert="b", abstained=AbstainReason.NO_EDGE, **none)
    asked = {"advice_for": "committee", "request_id": "r"}
    plain: dict[str, Any] = dict.fromkeys(asked)
    outputs = [
        msgspec.structs.replace(tally, entries=(sure, mute), **plain),
        msgspec.structs.replace(tally, entries=(mute,), late=(), **none, **plain),
        msgspec.structs.replace(tally, entries=(sure,), **asked),
    ]
    VotingObserver(metrics, voting_config(run)).see(outputs, ())
    assert _told(metrics, "tradermind_votes_total") == {("a", "up"): 1.0, ("b", "no_edge"): 2.0, ("slow", "late"): 1.0}
    assert _told(metrics, "tradermind_ballots_total") == {
        ("tallied",): 1.0,
        ("no_direction",): 1.0,
        ("advice",): 1.0,
    }
    assert _told(metrics, "tradermind_tally_disagreement") == {("1s", BTC): 0.125}


def test_after_a_restart_the_policy_in_force_is_told_and_what_changes_is_counted(run: Run, metrics: Metrics) -> None:
    config = decider_config(run)
    observer = DeciderObserver(metrics, config, new_times())
    follows = next(strategy.name for strategy in config.strategies if strategy.follows.value == "champion")
    releases = Releases(names={"a" * 64: "better"}, champions=["a" * 64])
    state = _restored(build_stage(run, "decider"), {"releases": releases})
    observer.tell([state])
    in_force = _told(metrics, "tradermind_policy_in_force")
    assert in_force["better", "CHAMPION", follows] == 1.0
    assert sum(_told(metrics, "tradermind_model_releases_total").values()) == 0, "what stands is no change"
    state["releases"] = Releases(names={"b" * 64: "best"}, champions=["b" * 64], retired=["a" * 64])
    observer.tell([state])
    assert _told(metrics, "tradermind_policy_in_force")["best", "CHAMPION", follows] == 1.0
    assert ("better", "CHAMPION", follows) not in _told(metrics, "tradermind_policy_in_force")
    changes = _told(metrics, "tradermind_model_releases_total")
    assert (changes["CHAMPION",], changes["RETIRED",]) == (1.0, 1.0)


def test_decisions_of_shadows_are_nobodys_and_unfit_models_are_counted(run: Run, metrics: Metrics) -> None:
    retired = {"release_stage": ReleaseStage.RETIRED, "reason": RetirementReason.INVALID_OUTPUT.value, "model": "bad"}
    outputs = [
        example(Decision, strategy="committee", policy_stage="CHAMPION"),
        example(Decision, strategy="committee", policy_stage="SHADOW"),
        example(ModelRelease, **retired),
    ]
    DeciderObserver(metrics, decider_config(run), new_times()).see(outputs, ())
    assert sum(_told(metrics, "tradermind_decisions_total").values()) == 1.0
    assert _told(metrics, "tradermind_model_invalid_total")["bad",] == 1.0


class Fixed:
    """A policy that always answers the same."""

    name = "fixed"

    def decide(self, observation: object, context: object) -> PolicyAnswer:
        del observation, context
        return PolicyAnswer(0.5)


class OnePolicy:
    """A source that has one policy."""

    def __init__(self) -> None:
        self.loaded = LoadedPolicy(Fixed(), lambda seen: (1.0,))

    def policy(self, sha256: str) -> LoadedPolicy:
        del sha256
        return self.loaded


def test_a_timed_policy_answers_the_same_and_stays_the_same(metrics: Metrics, run: Run) -> None:
    times, source = new_times(), OnePolicy()
    timed = TimedPolicies(source, times)
    found = timed.policy("a")
    assert isinstance(found, LoadedPolicy) and isinstance(found.policy, TimedPolicy)
    assert timed.policy("a") is found and found.standardised is source.loaded.standardised
    nothing: Any = None
    assert found.policy.decide({}, nothing) == PolicyAnswer(0.5)
    DeciderObserver(metrics, decider_config(run), times).tell([])
    assert _told(metrics, "tradermind_model_inference_seconds_count") == {("fixed",): 1.0}


@pytest.mark.parametrize(("reward", "sign"), [("1", "positive"), ("-0.5", "negative"), ("0", "zero")])
def test_rewards_are_counted_by_their_sign(metrics: Metrics, reward: str, sign: str) -> None:
    outputs = [example(Experience, strategy="committee", reward=Decimal(reward)), example(BallotVoided)]
    FeedbackObserver(metrics).see(outputs, ())
    assert _told(metrics, "tradermind_rewards_total") == {(sign, "committee"): 1.0}
    assert _told(metrics, "tradermind_experiences_total") == {("committee",): 1.0}
    assert _told(metrics, "tradermind_ballots_total") == {("voided",): 1.0}


def test_findings_of_quality_count_the_records_that_they_speak_of(metrics: Metrics) -> None:
    IngestionObserver(metrics).see([example(Quality, key=BTC, kind=QualityKind.REFUSED, count=7)], ())
    assert _told(metrics, "tradermind_quality_events_total") == {(BTC, "REFUSED"): 7.0}


@pytest.mark.parametrize(
    "made",
    [
        lambda metrics, run: VotingObserver(metrics, voting_config(run)),
        lambda metrics, run: DeciderObserver(metrics, decider_config(run), new_times()),
        lambda metrics, run: RiskObserver(metrics, risk_config(run)),
        lambda metrics, run: ExecutionObserver(metrics, execution_config(run), VenueTimes()),
    ],
)
def test_a_shard_that_has_stepped_nothing_yet_can_be_told_of(
    metrics: Metrics, run: Run, made: Callable[[Metrics, Run], Any]
) -> None:
    made(metrics, run).tell([ShardState()])
