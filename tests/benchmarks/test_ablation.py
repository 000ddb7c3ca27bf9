"""The ablation tells an expert that helps from one that does not, and an interval from a guess."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.ablation import Interval, ablations, bootstrap, differences, restraint
from benchmarks.vote_tapes import Series
from schemas.values import NS_PER_S
from streams.expert_record import Said, ScoredBallot, earnings, profit

FREE = 0.0


def market(seed: int, ballots: int, fee: float = FREE) -> Series:
    """Ballots of one second on which one expert often sees what comes, one never does, and one says the base rate."""
    draws = np.random.default_rng(seed)
    mid, made = 100.0, []
    sure = {-1: (0.6, 0.2, 0.2), 0: (0.2, 0.6, 0.2), 1: (0.2, 0.2, 0.6)}
    for number in range(ballots):
        outcome = int(draws.integers(-1, 2))
        seen = outcome if draws.random() < 0.7 else int(draws.integers(-1, 2))
        words = {"sighted": sure[seen], "blind": sure[int(draws.integers(-1, 2))], "vague": (1 / 3, 1 / 3, 1 / 3)}
        made.append(
            ScoredBallot(
                grid_time_ns=number * NS_PER_S,
                mid=mid,
                spread=0.0,
                volatility=1e-3,
                pool=(1 / 3, 1 / 3, 1 / 3),
                entries={name: Said(word, word) for name, word in words.items()},
                outcome=outcome,
                base_loss=0.24,
                pool_loss=0.24,
            )
        )
        mid *= 1 + 1e-3 * outcome
    return Series("TEST:X", NS_PER_S, NS_PER_S, fee, made)


def test_who_sees_helps_and_who_guesses_does_not() -> None:
    told = {row.expert: row for row in ablations("made up", [market(1, 700), market(2, 700)])}
    assert told["sighted"].log_loss.verdict == "helps"
    assert told["sighted"].signal.verdict == "helps"
    assert told["sighted"].net.verdict == "helps"
    assert told["blind"].log_loss.value < 0, "its weight is learned to be small, but not before it has cost something"
    assert abs(told["vague"].log_loss.value) < 0.02
    assert told["sighted"].votes == told["sighted"].ballots == 1400


def test_of_two_who_say_the_same_neither_adds_anything() -> None:
    """With the bounds of the pool it would seem so: a lone voter is capped, and says less than it could."""
    series = market(1, 400)
    twins = [
        replace(ballot, entries={name: ballot.entries["sighted"] for name in ("one", "other")})
        for ballot in series.ballots
    ]
    for row in ablations("twins", [replace(series, ballots=twins)]):
        assert row.log_loss.value == pytest.approx(0, abs=1e-9)
        assert row.signal.value == pytest.approx(0, abs=1e-9)


def test_a_few_blocks_give_no_interval() -> None:
    assert bootstrap([np.ones(290)], 30, 1, total=False) == Interval(1.0, None, None)
    assert bootstrap([np.ones(290)], 30, 1, total=False).verdict == "too short to tell"


@pytest.mark.parametrize("total", [False, True])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(total: bool) -> None:
    """Differences that hang together over ten ballots: one by one they would make it three times too narrow."""
    draws = np.random.default_rng(3)
    inside, tries = 0, 60
    for _ in range(tries):
        noise = draws.normal(size=1_009)
        series = np.convolve(noise, np.ones(10), mode="valid")
        found = bootstrap([series], 50, 1, total=total)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0 <= found.high
    assert 0.82 * tries <= inside


def test_what_an_expert_adds_is_the_difference_of_two_pools() -> None:
    series = market(4, 300)
    losses, signals, nets = differences(series, "sighted")
    assert len(losses) == len(signals) == len(nets) == 300
    assert losses.mean() > 0.05
    assert np.allclose(signals.sum(), nets.sum(), atol=0.2)


def test_earnings_are_the_profit_ballot_by_ballot() -> None:
    series = market(5, 200, fee=1e-4)
    opinions = [ballot.entries["sighted"].meant for ballot in series.ballots]
    made = list(earnings(series.ballots, opinions, NS_PER_S, series.taker_fee_rate))
    whole = profit(series.ballots, opinions, NS_PER_S, series.taker_fee_rate)
    assert len(made) == 200
    assert whole.net_bp == pytest.approx(sum(one.net for one in made) * 1e4)
    assert whole.turnover == pytest.approx(sum(one.turnover for one in made))
    assert (whole.turnover or 0) > 10


def test_under_an_alert_nothing_new_is_entered() -> None:
    series = market(6, 200)
    always, never = [True] * 200, [False] * 200
    opinions = [ballot.entries["sighted"].meant for ballot in series.ballots]
    kept = list(earnings(series.ballots, opinions, NS_PER_S, FREE, restricted=always))
    assert sum(one.turnover for one in kept) == 0
    assert not np.any(restraint(series, never)[0])
    gain, count = restraint(series, always)
    assert count == 200
    assert gain.sum() < 0
