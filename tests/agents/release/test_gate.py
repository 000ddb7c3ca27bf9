"""The gate: its bound is a bootstrap's, its draws a function of ids, and each of its conditions can say no."""

import math

import numpy as np
import pytest

from agents.release.gate import GateRefusal, GateTerms, _below, judge, lower_bound
from agents.release.paper import PaperResult
from agents.sim.generator import Generator, seeded

TERMS = GateTerms(decisions_min=400, block=10, draws=1_000)


def result(differences: np.ndarray, differing: float = 0.2) -> PaperResult:
    return PaperResult(np.zeros(len(differences)), differences, differing)


def drawn(count: int, mean: float, seed: int = 1) -> np.ndarray:
    generator = seeded("test gate", seed)
    return np.array([mean + generator.normal() for _ in range(count)])


def test_what_is_clearly_better_passes_and_what_is_not_does_not() -> None:
    assert judge(result(drawn(400, 0.5)), TERMS, "a").passes
    verdict = judge(result(drawn(400, 0.0)), TERMS, "a")
    assert verdict.refusals == (GateRefusal.NOT_BETTER,)
    assert verdict.lower < verdict.mean


def test_an_equal_never_passes() -> None:
    verdict = judge(result(np.zeros(400), 0.0), TERMS, "a")
    assert (verdict.lower, verdict.refusals) == (0.0, (GateRefusal.NOT_BETTER,))


def test_too_few_decisions_tell_nothing_however_good_they_were() -> None:
    verdict = judge(result(drawn(399, 5.0)), TERMS, "a")
    assert verdict.refusals == (GateRefusal.TOO_FEW_DECISIONS,)
    assert verdict.lower == -math.inf


def test_what_behaves_quite_otherwise_is_left_to_people() -> None:
    verdict = judge(result(drawn(400, 5.0), 0.51), TERMS, "a")
    assert verdict.refusals == (GateRefusal.TOO_DIFFERENT,)


def test_who_asks_again_hears_the_same_and_other_ids_draw_otherwise() -> None:
    differences = drawn(400, 0.1)
    first, again, other = (lower_bound(differences, TERMS, name) for name in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_the_draws_are_the_generators() -> None:
    generator = Generator(12_345)
    expected = [(generator.word() >> 32) * 700 >> 32 for _ in range(1_000)]
    assert _below(700, 1_000, 12_345).tolist() == expected


def test_the_bound_is_that_of_blocks_that_wrap_around() -> None:
    """A slow oracle: the same starts, the blocks written out."""
    differences = drawn(37, 0.3)
    terms = GateTerms(decisions_min=37, block=10, draws=200)
    starts = _below(37, 200 * 4, seeded("release gate", "a").state).reshape(200, 4)
    means = sorted(
        sum(float(differences[(start + step) % 37]) for start in draw for step in range(10)) / 40 for draw in starts
    )
    assert lower_bound(differences, terms, "a") == pytest.approx(means[4])


def test_blocks_widen_the_bound_of_what_hangs_together() -> None:
    persistent = np.repeat(drawn(80, 0.1), 10)
    narrow = lower_bound(persistent, GateTerms(decisions_min=400, block=1, draws=1_000), "a")
    wide = lower_bound(persistent, GateTerms(decisions_min=400, block=50, draws=1_000), "a")
    assert wide < narrow


@pytest.mark.parametrize(
    "changes", [{"level": 1.0}, {"block": 0}, {"draws": 10}, {"decisions_min": 10}, {"differing_max": 0}]
)
def test_terms_that_mean_nothing_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gate needs"):
        GateTerms(**changes)  # type: ignore[arg-type]
