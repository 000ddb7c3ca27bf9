"""The quant expert: what it abstains on, its symmetry, its evidence, and what its model file must be."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshot_stories import HORIZONS_NS, make_snapshot, walk, without

from agents.experts._registry import load
from agents.experts._trees import read_model
from agents.experts.quant import MODEL_FILE, Config, Quant
from agents.features.scale_free import COLUMNS, NEEDED, SIGNED_COLUMNS, columns_of, mirrored
from schemas.opinions import AbstainReason, FeatureSnapshot

EXPERT = load()["quant"]
MODEL, DIGEST = read_model("agents.experts", MODEL_FILE)
STORY = list(walk(41, 120))
LAST = STORY[-1]


def opinions(snapshot: FeatureSnapshot) -> Any:
    return EXPERT.assess(EXPERT.initial(), snapshot)[1].opinions


def upside_down(snapshot: FeatureSnapshot) -> FeatureSnapshot:
    turned = {
        name: None if value is None else -value if name in COLUMNS[:SIGNED_COLUMNS] else value
        for name, value in snapshot.features.items()
    }
    return msgspec.structs.replace(snapshot, features=turned)


@pytest.mark.parametrize("needed", NEEDED)
def test_without_an_input_that_it_needs_it_abstains(needed: str) -> None:
    assert {item.abstained for item in opinions(without(LAST, needed))} == {AbstainReason.MISSING_INPUT}


@pytest.mark.parametrize("helping", sorted(set(COLUMNS) - set(NEEDED)))
def test_without_one_that_merely_helps_it_votes(helping: str) -> None:
    assert {item.abstained for item in opinions(without(LAST, helping))} == {None}


def test_what_holds_for_up_holds_for_down() -> None:
    for snapshot in STORY[61:]:
        for one, other in zip(opinions(snapshot), opinions(upside_down(snapshot)), strict=True):
            assert (one.p_down, one.p_flat, one.p_up) == pytest.approx((other.p_up, other.p_flat, other.p_down))


def test_a_push_upwards_leans_upwards_at_the_shortest_horizon() -> None:
    pushed = {name: 0.8 for name in ("imbalance_1", "imbalance_5", "imbalance_10", "trade_flow_1s")}
    pushed |= {"ofi_1s": 2.0, "ofi_10s": 2.0, "ofi_multi_1s": 2.0, "microprice_offset": 2e-5}
    short = opinions(msgspec.structs.replace(LAST, features=LAST.features | pushed))[0]
    assert short.p_up > short.p_down + 0.1


def test_a_horizon_it_was_not_taught_is_left_to_others() -> None:
    questions = tuple(
        msgspec.structs.replace(item, horizon_ns=item.horizon_ns * factor)
        for item, factor in zip(LAST.questions, (1, 7, 1), strict=True)
    )
    reasons = [item.abstained for item in opinions(msgspec.structs.replace(LAST, questions=questions))]
    assert reasons == [None, AbstainReason.UNSUPPORTED_HORIZON, None]
    alone = msgspec.structs.replace(LAST, questions=questions[1:2])
    assert [item.abstained for item in opinions(alone)] == [AbstainReason.UNSUPPORTED_HORIZON]


def test_the_evidence_names_the_model_and_adds_up() -> None:
    """With every column as a reason, the reasons are the whole difference between the two scores."""
    talkative = Quant(Config(reasons=len(COLUMNS)), MODEL, DIGEST)
    for opinion in talkative.assess(talkative.initial(), LAST)[1].opinions:
        assert f"{int(opinion.evidence['model'] or 0):012x}" == DIGEST[:12]
        because = sum(value or 0.0 for name, value in opinion.evidence.items() if name.startswith("because."))
        lean = (opinion.evidence["score_up"] or 0.0) - (opinion.evidence["score_down"] or 0.0)
        assert because == pytest.approx(lean, abs=1e-9)
    told = [len(item.evidence) for item in opinions(LAST)]
    assert max(told) <= 3 + Config().reasons


def test_a_market_without_any_volatility_has_no_scale() -> None:
    still = msgspec.structs.replace(LAST, features=LAST.features | {"volatility": 0.0})
    assert {item.abstained for item in opinions(still)} == {AbstainReason.MISSING_INPUT}


def test_the_shipped_model_is_of_the_platforms_horizons_and_columns() -> None:
    assert [horizon.horizon_ns for horizon in MODEL.horizons] == list(HORIZONS_NS)
    with pytest.raises(ValueError, match="other columns"):
        Quant(Config(), msgspec.structs.replace(MODEL, columns=COLUMNS[1:]), DIGEST)


def test_it_says_by_how_much_it_beat_the_base_rate_on_seeds_it_was_not_trained_on() -> None:
    told = MODEL.training
    assert not set(told["seeds"]) & set(told["held_out_seeds"])
    assert told["held_out"]["1 s"]["log_loss"] < told["held_out"]["1 s"]["base_log_loss"] - 0.01


finite = st.floats(-1e12, 1e12)


@given(st.dictionaries(st.sampled_from([*COLUMNS, "volatility"]), st.one_of(st.none(), finite)))
def test_columns_are_bounded_and_turn_with_their_signs(features: dict[str, float | None]) -> None:
    whole = LAST.features | features
    columns = columns_of(whole)
    if columns is None:
        assert any(whole[name] is None for name in NEEDED) or (whole["volatility"] or 0) <= 0
        return
    assert all(math.isnan(value) or abs(value) <= 50 for value in columns)
    assert [math.isnan(value) for value in columns] == [whole[name] is None for name in COLUMNS]
    turned = columns_of(upside_down(make_snapshot(0, LAST.mid, whole)).features)
    assert turned is not None
    assert np.array_equal(mirrored(np.array(columns)), np.array(turned), equal_nan=True)
