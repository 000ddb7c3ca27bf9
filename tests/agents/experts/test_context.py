"""What the experts that know no direction publish: the regime, and the alert level with its hysteresis."""

import math
import random
from typing import Any

import msgspec
from snapshot_stories import make_snapshot, walk

from agents.experts._contract import Alert
from agents.experts._registry import load
from schemas.opinions import AbstainReason, AlertLevel, FeatureSnapshot

REGIME, ANOMALY = load()["volatility_regime"], load()["anomaly"]
MID = 60_000 * 10**8
QUIET = 80


def watch(snapshots: list[FeatureSnapshot], state: Any = None) -> tuple[Any, list[Alert]]:
    state = ANOMALY.initial() if state is None else state
    alerts = []
    for snapshot in snapshots:
        state, assessment = ANOMALY.assess(state, snapshot)
        if assessment.alert is not None:
            alerts.append(assessment.alert)
    return state, alerts


def quiet_then(features: dict[str, float | None], steps: int = 1, **fields: Any) -> list[FeatureSnapshot]:
    story = list(walk(31, QUIET + steps))
    struck = [
        msgspec.structs.replace(snapshot, features=snapshot.features | features, **fields) for snapshot in story[QUIET:]
    ]
    return story[:QUIET] + struck


def test_a_walk_raises_no_alert() -> None:
    assert watch(list(walk(32, 1500)))[1] == []


def test_a_crash_is_high_at_once() -> None:
    _, alerts = watch(quiet_then({"return_1s": -5e-3}))
    assert [(alert.level, alert.kind) for alert in alerts] == [(AlertLevel.HIGH, "return")]
    assert alerts[0].score > 2


def test_each_kind_of_trouble_is_told_by_its_name() -> None:
    spread = {"spread": 200e8, "spread_relative": 200e8 / MID}
    assert watch(quiet_then(spread))[1][0].kind == "spread"
    assert watch(quiet_then({"depth_10": 1e8}))[1][0].kind == "depth"
    assert watch(quiet_then({"age_s": 60.0}))[1][0].kind == "stale"
    assert watch(quiet_then({"trade_rate_10s": 900.0}))[1][0].kind == "burst"
    assert watch(quiet_then({}, mid=None))[1][0].kind == "no_market"
    assert watch(quiet_then({}, synchronised=False))[1][0].kind == "unsynchronised"


def test_the_level_falls_step_by_step_after_calm_only() -> None:
    story = quiet_then({"return_1s": -5e-3}, steps=1) + list(walk(33, QUIET + 40))[QUIET + 1 :]
    _, alerts = watch(story)
    assert [alert.level for alert in alerts] == [AlertLevel.HIGH, AlertLevel.ELEVATED, AlertLevel.NORMAL]
    assert [alert.kind for alert in alerts] == ["return", "calm", "calm"]


def test_trouble_that_comes_back_within_the_calm_keeps_the_level_without_repeating_itself() -> None:
    state, alerts = watch(quiet_then({"return_1s": -5e-3}))
    assert len(alerts) == 1
    for _ in range(10):
        state, again = watch(list(walk(34, QUIET + 3))[QUIET:], state)
        assert again == []
        state, again = watch(quiet_then({"return_1s": 9e-3})[QUIET:], state)
        assert again == []


def test_a_market_without_depth_or_spread_is_not_anomalous_for_that() -> None:
    story = [
        make_snapshot(step, MID, {"return_1s": 1e-5 * (-1) ** step, "age_s": 0.1}, synchronised=False)
        for step in range(200)
    ]
    assert watch(story)[1] == []


def test_a_slow_feed_is_measured_against_its_own_pace() -> None:
    story = [make_snapshot(step, MID, {"age_s": 20.0 + step % 40}) for step in range(200)]
    assert watch(story)[1] == []


def test_the_level_travels_in_the_context() -> None:
    state, _ = watch(quiet_then({"return_1s": -5e-3}))
    _, assessment = ANOMALY.assess(state, list(walk(31, QUIET + 2))[-1])
    assert {opinion.abstained for opinion in assessment.opinions} == {AbstainReason.CONTEXT_ONLY}
    assert assessment.opinions[0].context["level"] == 2.0


def test_what_is_usual_is_robust_against_one_wild_value() -> None:
    """After a return of ninety usual ones the next large one is as much of an anomaly as it was before."""
    calm, struck = quiet_then({"return_1s": -5e-4}), quiet_then({"return_1s": 5e-3})
    state, _ = watch(struck)
    _, before = ANOMALY.assess(watch(calm[:QUIET])[0], calm[QUIET])
    _, after = ANOMALY.assess(state, calm[QUIET])
    first, second = (one.opinions[0].evidence["return"] for one in (before, after))
    assert first is not None
    assert second is not None
    assert 0.9 * first < second <= first


def posterior(volatilities: list[float]) -> dict[str, float]:
    state: Any = REGIME.initial()
    for step, volatility in enumerate(volatilities):
        snapshot = make_snapshot(step, MID, {"volatility_fast": volatility})
        state, assessment = REGIME.assess(state, snapshot)
    assert {opinion.abstained for opinion in assessment.opinions} == {AbstainReason.CONTEXT_ONLY}
    return assessment.opinions[0].context


def test_regimes_are_told_apart() -> None:
    usual = [5e-5] * 120
    assert posterior(usual)["normal"] > 0.9
    assert posterior(usual + [20e-5] * 6)["high"] > 0.9
    assert posterior(usual + [1.5e-5] * 6)["low"] > 0.9
    assert math.isclose(sum(posterior(usual).values()), 1)


def test_spread_and_pace_help_to_tell_and_may_be_missing() -> None:
    def wild(**others: float) -> float:
        state: Any = REGIME.initial()
        calm = {"volatility_fast": 5e-5, "spread_relative": 1e-5, "trade_rate_10s": 5.0}
        for step in range(122):
            features: dict[str, float | None] = dict(calm)
            if step >= 120:
                features |= {"volatility_fast": 9e-5} | others
            state, assessment = REGIME.assess(state, make_snapshot(step, MID, features))
        return assessment.opinions[0].context["high"]

    assert wild(spread_relative=4e-5, trade_rate_10s=20.0) > wild() + 0.1
    assert "change" not in REGIME.assess(REGIME.initial(), make_snapshot(0, MID, {}))[1].opinions[0].context


def changes(returns: list[float]) -> list[float]:
    """The probability of a recent change after each return from the fifteenth on."""
    state: Any = REGIME.initial()
    found = []
    for step, change in enumerate(returns):
        snapshot = make_snapshot(step, MID, {"volatility_fast": 5e-5, "return_1s": change})
        state, assessment = REGIME.assess(state, snapshot)
        found.append(assessment.opinions[0].context.get("change", 0.0))
    return found


def test_a_change_of_the_law_of_returns_is_published_at_once_and_fades() -> None:
    draws = random.Random(5)
    told = changes([draws.gauss(0, 5e-5) for _ in range(200)] + [draws.gauss(0, 25e-5) for _ in range(100)])
    assert max(told[30:200]) < 0.9
    assert max(told[200:212]) > 0.95
    assert told[-1] < 0.5
