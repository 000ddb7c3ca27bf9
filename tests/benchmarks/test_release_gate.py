"""What is said of the release gate, in short: equals stay outside, and what is better by the stated effect comes in."""

import pytest

from agents.release.gate import GateTerms
from benchmarks.release_gate import INCUMBENT, STATED, judged, shares

TERMS = GateTerms()


def test_of_equals_at_most_one_in_twenty_is_promoted() -> None:
    found = shares(40, TERMS, INCUMBENT, first_seed=1_000)
    assert found.differing < TERMS.differing_max
    assert found.by_bound <= 2


def test_the_stated_effect_is_promoted_in_four_of_five() -> None:
    assert shares(30, TERMS, STATED, first_seed=1_000).passed >= 24


def test_one_and_the_same_pair_gets_the_same_verdict() -> None:
    assert judged(3, TERMS, STATED) == judged(3, TERMS, STATED)


@pytest.mark.parametrize("decisions", [400])
def test_with_fewer_decisions_less_is_promoted(decisions: int) -> None:
    few = shares(20, GateTerms(decisions_min=decisions), STATED, first_seed=2_000)
    many = shares(20, TERMS, STATED, first_seed=2_000)
    assert few.by_bound < many.by_bound
