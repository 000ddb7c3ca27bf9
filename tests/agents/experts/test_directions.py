"""What the experts that vote on direction say, and whether it is worth anything."""

import math
from typing import Any

import msgspec
import pytest
from snapshot_stories import HORIZONS_NS, make_snapshot, walk, without

from agents.experts._contract import Assessment, Expert
from agents.experts._registry import load
from schemas.opinions import AbstainReason, FeatureSnapshot
from schemas.values import NS_PER_S

EXPERTS = load()
MID = 60_000 * 10**8


def assess_all(expert: Expert, snapshots: list[FeatureSnapshot]) -> list[Assessment]:
    state: Any = expert.initial()
    assessments = []
    for snapshot in snapshots:
        state, assessment = expert.assess(state, snapshot)
        assessments.append(assessment)
    return assessments


def lean(assessment: Assessment, question: int) -> float:
    opinion = assessment.opinions[question]
    assert opinion.p_up is not None
    assert opinion.p_down is not None
    return opinion.p_up - opinion.p_down


def mean_loss(snapshots: list[FeatureSnapshot], assessments: list[Assessment], question: int) -> float:
    """Return the mean log-loss of the votes whose horizon lies within the story."""
    horizon_steps = HORIZONS_NS[question] // NS_PER_S
    losses = []
    for step in range(len(snapshots) - horizon_steps):
        opinion = assessments[step].opinions[question]
        if opinion.p_up is None:
            continue
        then, now = snapshots[step + horizon_steps].mid, snapshots[step].mid
        assert then is not None
        assert now is not None
        band = snapshots[step].questions[question].flat_band
        said = opinion.p_up if then - now > band else opinion.p_down if then - now < -band else opinion.p_flat
        assert said is not None
        losses.append(-math.log(said))
    return sum(losses) / len(losses)


def test_order_flow_beats_the_base_rate_where_flow_leads() -> None:
    story = list(walk(21, 1500))
    loss = mean_loss(story, assess_all(EXPERTS["order_flow"], story), 0)
    assert loss < math.log(3) - 0.05


@pytest.mark.parametrize("name", ["order_flow", "momentum", "mean_reversion"])
@pytest.mark.parametrize("question", [0, 1])
def test_nobody_is_much_worse_than_the_base_rate_on_a_walk_without_drift(name: str, question: int) -> None:
    story = list(walk(22, 1500))
    assert mean_loss(story, assess_all(EXPERTS[name], story), question) < math.log(3) + 0.03


def test_momentum_follows_a_drift_and_reversion_opposes_it_at_first() -> None:
    """Before the first outcome of the longest horizon is known, each says what it believes."""
    story = list(walk(5, 55, drift=1.5))
    assert lean(assess_all(EXPERTS["momentum"], story)[-1], 2) > 0.03
    assert lean(assess_all(EXPERTS["mean_reversion"], story)[-1], 2) < -0.03
    fall = list(walk(5, 55, drift=-1.5))
    assert lean(assess_all(EXPERTS["momentum"], fall)[-1], 2) < -0.03
    assert lean(assess_all(EXPERTS["mean_reversion"], fall)[-1], 2) > 0.03


def test_a_drift_refutes_reversion_down_to_the_base_rate_but_never_beyond() -> None:
    story = list(walk(6, 900, drift=1.0))
    expert = EXPERTS["mean_reversion"]
    state: Any = expert.initial()
    for snapshot in story:
        state, assessment = expert.assess(state, snapshot)
    assert state.tracks[1].slope < 0.02
    assert lean(assessment, 1) > 0.2, "the base rate of a market that rises is up"


def test_order_flow_fades_with_the_horizon() -> None:
    expert = EXPERTS["order_flow"]
    state: Any = expert.initial()
    for snapshot in list(walk(8, 30)):
        state, _ = expert.assess(state, snapshot)
    pushed = {"imbalance_1": 0.95, "ofi_1s": 3.0, "ofi_multi_1s": 3.0, "imbalance_5": 0.9, "volatility": 5e-5}
    _, assessment = expert.assess(state, make_snapshot(30, MID, pushed))
    short, middle, long = (lean(assessment, question) for question in (0, 1, 2))
    assert short > middle > long > 0
    assert short > 0.2


def leaning(**inputs: float) -> float:
    """How far order flow leans at the shortest horizon after half a minute of a walk, under these inputs."""
    expert = EXPERTS["order_flow"]
    state: Any = expert.initial()
    for snapshot in list(walk(8, 30)):
        state, _ = expert.assess(state, msgspec.structs.replace(snapshot, features=snapshot.features | {"vpin": 0.3}))
    flat = {
        "imbalance_1": 0.3,
        "ofi_1s": 0.3,
        "imbalance_5": 0.0,
        "trade_flow_1s": 0.0,
        "vpin": 0.3,
        "volatility": 5e-5,
    }
    return lean(expert.assess(state, make_snapshot(30, MID, flat | inputs))[1], 0)


def test_order_flow_hears_the_microprice_the_deeper_levels_and_how_toxic_trading_is() -> None:
    plain = leaning()
    assert plain > 0
    assert leaning(microprice_offset=3e-6) > plain + 0.01 > plain > leaning(microprice_offset=-3e-6) + 0.01
    assert leaning(ofi_multi_1s=2.0) > plain + 0.01
    assert leaning(vpin=0.6) > plain + 0.005 > plain > leaning(vpin=0.1) + 0.005


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("order_flow", "imbalance_1"),
        ("order_flow", "ofi_1s"),
        ("momentum", "volatility"),
        ("momentum", "return_5s"),
        ("mean_reversion", "volatility"),
        ("volatility_regime", "volatility_fast"),
    ],
)
def test_who_needs_an_input_abstains_without_it(name: str, needed: str) -> None:
    story = list(walk(9, 60))
    last = assess_all(EXPERTS[name], [*story[:-1], without(story[-1], needed)])[-1]
    assert {opinion.abstained for opinion in last.opinions} == {AbstainReason.MISSING_INPUT}


def test_an_untrusted_book_is_told_apart_from_a_missing_one() -> None:
    story = list(walk(9, 60))
    dark = msgspec.structs.replace(without(story[-1], "imbalance_1", "ofi_1s"), synchronised=False)
    last = assess_all(EXPERTS["order_flow"], [*story[:-1], dark])[-1]
    assert {opinion.abstained for opinion in last.opinions} == {AbstainReason.UNSYNCHRONISED}


def test_inputs_that_merely_help_may_be_missing() -> None:
    story = [without(item, "trade_flow_1s", "trade_flow_10s", "ofi_multi_1s") for item in walk(9, 60)]
    assert assess_all(EXPERTS["order_flow"], story)[-1].opinions[0].abstained is None


def test_a_market_that_stands_still_moves_nobody() -> None:
    still = {f"return_{seconds}s": 0.0 for seconds in (1, 5, 10, 30, 60)} | {"volatility": 0.0}
    story = [make_snapshot(step, MID, still) for step in range(300)]
    for name in ("momentum", "mean_reversion"):
        last = assess_all(EXPERTS[name], story)[-1]
        assert lean(last, 0) == 0
        assert last.opinions[0].p_flat is not None
        assert last.opinions[0].p_flat > 0.75, "it learned that this market is flat"
