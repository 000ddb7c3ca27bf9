"""What a network reads: a set of votes without names, bounded context in units of the expected move, nothing else."""

import hashlib
import math

import numpy as np
import pytest
import set_policies
from hypothesis import given
from hypothesis import strategies as st
from set_policies import SEEN, observation, votes, with_field, within

from agents.decider.encoding import (
    CONTEXT_FEATURES,
    CONTEXT_HIGH,
    CONTEXT_LOW,
    SCHEMA,
    VOTE_FEATURES,
    VOTE_HIGH,
    VOTE_LOW,
    encode,
)

FLAGS = {
    "p_up": "has_pool",
    "volatility": "has_volatility",
    "spread_relative": "has_cost",
    "cost.fee": "has_cost",
    "cost.excess": "has_cost",
    "moment.mean": "has_moments",
    "moment.square": "has_moments",
    "exposure": "has_exposure",
    "allowed.low": "has_allowed",
    "allowed.high": "has_allowed",
    "context.anomaly.score": "has_anomaly",
    "context.volatility_regime.high": "has_regime",
    "context.volatility_regime.change": "has_regime_change",
}


def context_of(seen: dict[str, float | None]) -> dict[str, float]:
    return dict(zip(CONTEXT_FEATURES, encode(seen).context.tolist(), strict=True))


def rows_of(seen: dict[str, float | None]) -> list[dict[str, float]]:
    return [dict(zip(VOTE_FEATURES, row, strict=True)) for row in encode(seen).votes.tolist()]


def test_other_features_are_another_schema() -> None:
    told = repr((VOTE_FEATURES, VOTE_LOW.tolist(), VOTE_HIGH.tolist()))
    told += repr((CONTEXT_FEATURES, CONTEXT_LOW.tolist(), CONTEXT_HIGH.tolist()))
    assert (SCHEMA, hashlib.sha256(told.encode()).hexdigest()[:16]) == ("set.v1", "a80e081272eca6a6")


def test_costs_and_returns_are_seen_in_units_of_the_expected_move() -> None:
    seen = context_of(observation([]))
    sigma = 0.0002 * math.sqrt(4.0)
    cost = 0.0001 + 0.0001
    assert seen["cost_in_sigma"] == pytest.approx(cost / sigma)
    assert seen["log_cost_in_sigma"] == pytest.approx(math.log(cost / sigma))
    assert seen["spread_in_sigma"] == pytest.approx(0.0002 / sigma)
    assert seen["moment_mean"] == pytest.approx(4e-5 / sigma)
    assert seen["moment_deviation"] == pytest.approx(math.sqrt(1.6e-7 - 16e-10) / sigma, rel=1e-5)
    assert seen["log_volatility"] == pytest.approx(math.log(2.0))
    assert seen["log_horizon"] == pytest.approx(math.log(4.0))
    assert seen["anomaly"] == pytest.approx(math.log(1.25))


def test_what_is_said_of_the_line_and_the_market_is_passed_on() -> None:
    seen = context_of(observation([]))
    given_on = {
        "p_down": 0.2, "p_flat": 0.3, "p_up": 0.5, "disagreement": 0.01, "target": 0.5, "exposure": 0.45,
        "allowed_low": 0.0, "allowed_high": 0.5, "mark_age_s": 0.5,
        "regime_low": 0.1, "regime_normal": 0.7, "regime_high": 0.2, "regime_change": 0.05,
        "alert_normal": 0.0, "alert_elevated": 1.0, "alert_high": 0.0,
    }  # fmt: skip
    assert {name: seen[name] for name in given_on} == pytest.approx(given_on)
    assert all(seen[flag] == 1.0 for flag in FLAGS.values())


@given(st.floats(0.1, 10.0))
def test_a_market_that_moves_more_at_more_cost_is_the_same_but_for_its_volatility(factor: float) -> None:
    scaled = {
        name: value * factor ** (2 if name == "moment.square" else 1)
        for name in ("volatility", "spread_relative", "cost.excess", "cost.fee", "moment.mean", "moment.square")
        if (value := SEEN[name]) is not None
    }
    before, after = context_of(observation([])), context_of(observation([], **scaled))
    assert after.pop("log_volatility") == pytest.approx(before.pop("log_volatility") + math.log(factor), abs=1e-5)
    assert after == pytest.approx(before, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("name", "flag"), FLAGS.items())
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_missing_is_0_beside_a_flag(name: str, flag: str, value: float | None) -> None:
    seen = context_of(observation([], **{name: value}))
    assert seen[flag] == 0.0
    assert context_of(observation([]))[flag] == 1.0


def test_of_nothing_nothing_is_seen() -> None:
    found = encode({})
    assert found.votes.shape == (0, len(VOTE_FEATURES))
    assert not found.context.any()


def test_a_vote_is_a_row_without_a_name() -> None:
    (told,) = votes(1, 1)
    told = with_field(with_field(told, "skill", 0.1), "calibration_error", 0.05)
    (row,) = rows_of(observation([told], ["ann"]))
    down, up, meant_down, meant_up, weight = told[:5]
    assert down is not None
    assert up is not None
    assert meant_down is not None
    assert meant_up is not None
    assert row == pytest.approx(
        {
            "direction": meant_up - meant_down,
            "active": meant_up + meant_down,
            "odds": math.log(meant_up / meant_down),
            "said_direction": up - down,
            "said_active": up + down,
            "weight": weight,
            "skill": 0.1,
            "calibration_error": 0.05,
            "is_calibrated": 1.0,
            "has_skill": 1.0,
            "has_calibration_error": 1.0,
        },
        rel=1e-5,
    )
    assert rows_of(observation([told], ["bob.p_up"])) == [row]


def test_a_vote_that_was_not_calibrated_means_what_it_says() -> None:
    (told,) = votes(1, 1)
    (row,) = rows_of(observation([with_field(told, "calibrated_up", None)]))
    assert row["direction"] == row["said_direction"]
    assert row["is_calibrated"] == 0.0


def test_who_abstains_is_no_row() -> None:
    first, second = votes(2, 2)
    silent = with_field(with_field(second, "p_up", None), "p_down", None)
    assert rows_of(observation([first, silent])) == rows_of(observation([first]))


@given(st.permutations(range(7)))
def test_the_order_of_the_votes_changes_only_the_order_of_the_rows(order: list[int]) -> None:
    told, names = votes(3, 7), [f"expert_{place}" for place in range(7)]
    before = encode(observation(told, names))
    after = encode(observation([told[place] for place in order], [names[place] for place in order]))
    assert (after.votes == before.votes[order]).all()
    assert (after.context == before.context).all()


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.floats(), max_size=8))
def test_a_foreign_experts_context_is_not_read(injected: dict[str, float]) -> None:
    told = votes(4, 3)
    seen = observation(told)
    foreign = {f"context.{name}": value for name, value in injected.items()}
    before, after = encode(seen), encode(foreign | seen)
    assert (after.votes == before.votes).all()
    assert (after.context == before.context).all()


@given(
    st.dictionaries(st.sampled_from(sorted(SEEN)), st.none() | st.floats()),
    st.lists(st.lists(st.none() | st.floats(), min_size=7, max_size=7), max_size=15),
)
def test_whatever_is_observed_the_numbers_are_finite_and_bounded(
    changes: dict[str, float | None], said: list[list[float | None]]
) -> None:
    found = encode(observation([tuple(numbers) for numbers in said], **changes))
    assert within(found.votes, found.context)
    assert len(found.votes) <= sum(numbers[0] is not None and numbers[1] is not None for numbers in said)


def test_one_bad_number_takes_nothing_else_with_it() -> None:
    told = votes(5, 3)
    spoiled = [with_field(told[0], "skill", math.nan), *told[1:]]
    before, after = encode(observation(told)), encode(observation(spoiled))
    differing = np.argwhere(before.votes != after.votes)
    skill = {VOTE_FEATURES.index("skill"), VOTE_FEATURES.index("has_skill")}
    assert {int(row) for row, _ in differing} <= {0}
    assert {int(column) for _, column in differing} <= skill
    assert (before.context == after.context).all()
    assert set_policies.within(after.votes, after.context)
