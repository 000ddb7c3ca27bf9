"""Voters from outside the market: what they know, what they do not, and that the stated figures are the true ones."""

import math
from dataclasses import dataclass

import money_events
import numpy as np
import pytest

from agents.feedback.scoring import calibration_error
from schemas.opinions import VoteTally
from schemas.values import NS_PER_S
from streams.training.voters import (
    auc_of,
    base_rate_voter,
    base_rates,
    ends_of,
    leak,
    next_returns,
    noisy_oracle,
    permuted_leak,
)

HORIZON_S = 10
BAND = 150_000


@dataclass(frozen=True)
class Walk:
    """The least that is a tape to a voter."""

    tallies: tuple[VoteTally, ...]


def tally(second: int, mid: int | None) -> VoteTally:
    at_ns = second * NS_PER_S
    ballot: VoteTally = money_events.tally(second, at_ns, mid=mid, horizon_ns=HORIZON_S * NS_PER_S, flat_band=BAND)
    return ballot


def walk(seconds: int, seed: int = 3, drift: float = 0.0) -> Walk:
    """A random walk with a step of 1e5 units, about the flat band over its horizon twice."""
    steps = np.random.default_rng(seed).normal(drift, 1e5, seconds)
    return Walk(tuple(tally(second, 10**12 + int(moved)) for second, moved in enumerate(np.cumsum(steps))))


def with_a_hole(tape: Walk, at: int) -> Walk:
    tallies = list(tape.tallies)
    tallies[at] = tally(at, None)
    return Walk(tuple(tallies))


def test_the_leak_tells_sign_and_size_of_the_next_return() -> None:
    tape = walk(500)
    lean = np.diff(leak().table(tape)[:, [0, 2]], axis=1)[:-1, 0]
    returns = next_returns(tape)[:-1]
    assert (np.argsort(lean) == np.argsort(returns)).all()
    assert (np.sign(lean) == np.sign(returns)).all()


def test_a_permuted_leak_says_the_same_at_other_times_and_knows_nothing() -> None:
    tape = walk(4000, drift=3e4)
    told, mixed = (voter.table(tape)[:-1, 2] for voter in (leak(), permuted_leak(5)))
    returns = next_returns(tape)[:-1]
    assert np.corrcoef(told, returns)[0, 1] > 0.9
    assert abs(np.corrcoef(mixed, returns)[0, 1]) < 3 / math.sqrt(len(returns))
    assert abs(mixed.mean() - 0.49) < 0.01 < told.mean() - 0.49, "the drift is in the leak and not in the permuted one"
    assert (permuted_leak(5).table(tape)[:-1, 2] == mixed).all()
    assert (permuted_leak(6).table(tape)[:-1, 2] != mixed).any()


def test_who_knows_nothing_of_a_step_abstains_there() -> None:
    tape = with_a_hole(walk(100), 40)
    for voter in (leak(), permuted_leak(1)):
        silent = [index for index in range(100) if voter.entry(tape, index) is None]
        assert silent == [39, 40, 99]
    oracle = noisy_oracle(0.6, 1)
    silent = [index for index in range(100) if oracle.entry(tape, index) is None]
    assert silent == [*range(30, 41), *range(90, 100)]
    assert all(base_rate_voter().entry(tape, index) is not None for index in range(100))


def test_ends_are_those_of_the_first_step_at_or_after_the_horizon() -> None:
    tape = walk(60)
    gone = Walk(tuple(item for second, item in enumerate(tape.tallies) if second != 15))
    ends = ends_of(gone)
    assert ends.known[5] == 15
    assert gone.tallies[15].grid_time_ns == 16 * NS_PER_S
    move = gone.tallies[15].mid - gone.tallies[5].mid
    assert ends.outcomes[5] == (0 if abs(move) <= BAND else np.sign(move))
    assert ends.overlap == HORIZON_S


@pytest.mark.parametrize("auc", [0.5, 0.55, 0.65, 0.8])
def test_an_oracle_has_the_area_under_the_curve_that_it_states(auc: float) -> None:
    found = []
    for seed in range(12):
        tape = walk(6000, seed)
        ends = ends_of(tape)
        ended = ends.known < len(ends.known)
        found.append(auc_of(noisy_oracle(auc, seed).table(tape)[ended], ends.outcomes[ended]))
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert error < 0.012, "the measurement tells one area from the next"
    assert abs(np.mean(found) - auc) < 3.5 * error


def test_an_oracle_means_what_it_says() -> None:
    tape = walk(20_000, 8)
    ends = ends_of(tape)
    votes = [
        (tuple(said), int(outcome))
        for said, outcome, known in zip(
            noisy_oracle(0.7, 2).table(tape).tolist(), ends.outcomes, ends.known, strict=True
        )
        if known < len(ends.known)
    ]
    assert calibration_error(votes) < 0.02


def test_overlapping_ballots_share_their_noise() -> None:
    """Between two ballots that share no second nothing is shared, and neighbours share nearly all."""
    said = noisy_oracle(0.5 + 1e-9, 4).table(tape := walk(40_000, 2))
    ends = ends_of(tape)
    lean = (np.log(said[:, 2] / said[:, 0]) - np.log(base_rates(ends)[:, 2] / base_rates(ends)[:, 0]))[:-HORIZON_S]
    assert np.corrcoef(lean[:-1], lean[1:])[0, 1] > 0.85
    assert abs(np.corrcoef(lean[:-HORIZON_S], lean[HORIZON_S:])[0, 1]) < 0.06


def test_the_base_rate_is_of_what_was_known() -> None:
    """Cutting the future changes nothing that was said."""
    tape = walk(400)
    whole, cut = base_rates(ends_of(tape)), base_rates(ends_of(Walk(tape.tallies[:300])))
    assert (whole[:300] == cut).all()
    ends = ends_of(tape)
    at = 250
    counted = [ends.outcomes[index] for index in range(400) if ends.known[index] < at]
    expected = [(counted.count(side) + 1) / (len(counted) + 3) for side in (-1, 0, 1)]
    assert whole[at] == pytest.approx(expected)


def test_the_area_under_the_curve_is_that_of_every_pair() -> None:
    generator = np.random.default_rng(1)
    forecasts = generator.dirichlet((1, 1, 1), 60).round(1) + 0.01
    outcomes = generator.integers(-1, 2, 60)
    lean = np.log(forecasts[:, 2] / forecasts[:, 0])
    pairs = [(lean[i], lean[j]) for i in range(60) for j in range(60) if outcomes[i] > 0 > outcomes[j]]
    expected = np.mean([0.5 if up == down else float(up > down) for up, down in pairs])
    assert auc_of(forecasts, outcomes) == pytest.approx(expected)
    assert math.isnan(auc_of(forecasts, np.abs(outcomes)))
