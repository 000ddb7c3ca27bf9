"""Tallies made anew: with nobody else they are the run's own to the bit, and a voter more changes them."""

import math
from functools import cache

import pytest

from agents.feedback.scoring import PROBABILITY_FLOOR, log_loss
from agents.sim.committee import VoteSource
from agents.sim.tape import Tape
from agents.voting.pool import PoolConfig, pooled
from benchmarks.simulated import simulated_tape
from schemas.opinions import VoteTally
from streams.training.pools import equally_weighed, experts_in, of_one, pooled_anew, without_votes
from streams.training.voters import base_rate_voter, ends_of, noisy_oracle


@cache
def heard(seconds: float = 240.0, seed: int = 7) -> Tape:
    return simulated_tape("mixed", seed, seconds)


@cache
def own_tallies() -> list[VoteTally]:
    return list(heard().tallies)


def anew(*voters: VoteSource) -> list[VoteTally]:
    return pooled_anew(heard(), voters)


def loss(tallies: list[VoteTally]) -> float:
    """The pool's mean log-loss in nats over the ballots that ended."""
    ends = ends_of(heard())
    losses = [
        log_loss((one.p_down, one.p_flat, one.p_up), int(outcome), PROBABILITY_FLOOR)  # type: ignore[arg-type]
        for one, outcome, known in zip(tallies, ends.outcomes, ends.known, strict=True)
        if known < len(tallies) and one.p_up is not None
    ]
    return -math.log(PROBABILITY_FLOOR) * sum(losses) / len(losses)


@pytest.mark.slow(seconds=5)
def test_with_nobody_else_the_tallies_are_the_runs_own_to_the_bit() -> None:
    assert len(own_tallies()) > 200
    assert len({one.p_up for one in own_tallies()}) > 100
    assert anew() == own_tallies()
    again = heard().with_tallies(anew())
    assert again.kept == heard().kept


@pytest.mark.slow(seconds=3)
def test_who_knows_something_is_trusted_more_and_makes_the_tally_better() -> None:
    after = anew(noisy_oracle(0.9, 1), base_rate_voter())
    assert loss(anew(noisy_oracle(0.9, 1))) < loss(own_tallies()) - 0.02
    weights = {entry.expert: entry.weight for entry in after[-30].entries if entry.p_up is not None}
    assert weights["oracle 0.9"] > 1.2 * weights["base rate"], "Hedge found out"
    for old, new in zip(own_tallies(), after, strict=True):
        assert (new.ballot_id, new.mid, new.event_id, new.context) == (
            old.ballot_id,
            old.mid,
            old.event_id,
            old.context,
        )


@pytest.mark.slow(seconds=3)
def test_who_knows_nothing_hardly_harms() -> None:
    before, after = loss(own_tallies()), loss(anew(base_rate_voter()))
    assert after != before
    assert after < before * 1.03


@pytest.mark.slow(seconds=3)
def test_of_one_expert_alone_the_pool_is_its_word() -> None:
    expert = experts_in(own_tallies())[0]
    told = list(of_one(own_tallies(), expert))
    assert any(one.p_up is None for one in told), "it warms up"
    for old, new in zip(own_tallies(), told, strict=True):
        (entry,) = new.entries
        assert entry.expert == expert
        assert (new.p_down, new.p_flat, new.p_up) == (entry.calibrated_down, entry.calibrated_flat, entry.calibrated_up)
        assert new.mid == old.mid
    assert all(one.p_up is None and one.entries == () for one in of_one(own_tallies(), "nobody"))


@pytest.mark.slow(seconds=3)
def test_equal_weights_are_equal_and_pool_as_the_stage_does() -> None:
    counts = set()
    for new in equally_weighed(own_tallies()):
        voting = [entry for entry in new.entries if entry.p_up is not None]
        counts.add(len(voting))
        assert {entry.weight for entry in voting} <= {1 / max(1, len(voting))}
        votes = [(entry.calibrated_down, entry.calibrated_flat, entry.calibrated_up) for entry in voting]
        if votes:
            share = [1 / len(votes)] * len(votes)
            assert (new.p_down, new.p_flat, new.p_up) == pooled(PoolConfig(), votes, share)  # type: ignore[arg-type]
    assert max(counts) > 1


@pytest.mark.slow(seconds=3)
def test_without_votes_only_the_pool_is_left() -> None:
    for old, new in zip(own_tallies(), without_votes(own_tallies()), strict=True):
        assert new.entries == ()
        assert (new.p_down, new.p_up, new.disagreement, new.mid) == (old.p_down, old.p_up, old.disagreement, old.mid)
