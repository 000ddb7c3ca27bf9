"""Calibrators: the batch fit is their oracle, what is sound stays as it was said, and nothing blows up."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.voting.calibration import (
    CalibrationConfig,
    Calibrator,
    calibrated,
    calibration_error,
    take_outcome,
)
from agents.voting.pool import Probabilities

CONFIG = CalibrationConfig()
FOREVER = CalibrationConfig(slope_prior=10.0, bias_prior=10.0, memory=1e12)
Votes = list[tuple[Probabilities, int]]


def votes_of(count: int, slope: float, biases: tuple[float, float], seed: int = 7) -> Votes:
    """Votes by an expert whose words must be raised to ``slope`` and moved by ``biases`` (down, up) to be true."""
    generator = np.random.default_rng(seed)
    votes: Votes = []
    for lean in generator.normal(0.0, 0.7, count):
        logits = np.array([-lean, 0.1, lean])
        said = np.exp(logits) / np.exp(logits).sum()
        raised = slope * np.log(said) + np.array([biases[0], 0.0, biases[1]])
        truth = np.exp(raised) / np.exp(raised).sum()
        votes.append(((float(said[0]), float(said[1]), float(said[2])), int(generator.choice(3, p=truth)) - 1))
    return votes


def learned(votes: Votes, config: CalibrationConfig = FOREVER, overlap: int = 1) -> Calibrator:
    calibrator = Calibrator()
    for said, outcome in votes:
        take_outcome(config, calibrator, said, outcome, overlap)
    return calibrator


def batch_fit(votes: Votes, config: CalibrationConfig) -> np.ndarray:
    """The oracle: the maximum of the whole posterior at once, by Newton's method on all votes, with finite numbers."""
    logs = np.log([said for said, _ in votes])
    happened = np.eye(3)[[outcome + 1 for _, outcome in votes]]
    prior = np.diag([config.slope_prior, config.bias_prior, config.bias_prior])
    theta = begin = np.array([1.0, 0.0, 0.0])
    for _ in range(30):
        raised = theta[0] * logs + np.array([theta[1], 0.0, theta[2]])
        q = np.exp(raised - raised.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
        design = np.stack([logs, np.tile([1.0, 0, 0], (len(logs), 1)), np.tile([0, 0, 1.0], (len(logs), 1))], axis=1)
        gradient = np.einsum("nik,nk->i", design, q - happened) + prior @ (theta - begin)
        centred = design - np.einsum("nik,nk->ni", design, q)[:, :, None]
        curvature = np.einsum("nik,nk,njk->ij", centred, q, centred) + prior
        theta = theta - np.linalg.solve(curvature, gradient)
    return theta


def log_loss(votes: Votes, calibrator: Calibrator | None) -> float:
    return -sum(math.log(calibrated(CONFIG, calibrator, said)[outcome + 1]) for said, outcome in votes) / len(votes)


@pytest.mark.parametrize(("slope", "biases"), [(1.0, (0.0, 0.0)), (0.3, (0.0, 0.0)), (2.0, (0.5, -0.4)), (0.0, (1, 1))])
def test_one_by_one_it_learns_what_the_batch_fit_finds(slope: float, biases: tuple[float, float]) -> None:
    votes = votes_of(3000, slope, biases)
    online, batch = learned(votes), batch_fit(votes, FOREVER)
    assert [online.slope, online.down, online.up] == pytest.approx(batch.tolist(), abs=0.03)
    exact = Calibrator(slope=batch[0], down=batch[1], up=batch[2], scored=1)
    assert log_loss(votes, online) == pytest.approx(log_loss(votes, exact), abs=2e-4)


def test_an_overconfident_expert_is_read_down_and_a_timid_one_up() -> None:
    for slope in (0.4, 2.5):
        past, future = votes_of(2000, slope, (0.0, 0.0), 1), votes_of(2000, slope, (0.0, 0.0), 2)
        assert log_loss(future, learned(past, CONFIG)) < log_loss(future, None) - 0.005


def test_a_sound_expert_is_left_as_it_is() -> None:
    votes = votes_of(3000, 1.0, (0.0, 0.0))
    assert log_loss(votes_of(3000, 1.0, (0.0, 0.0), 8), learned(votes, CONFIG)) == pytest.approx(
        log_loss(votes_of(3000, 1.0, (0.0, 0.0), 8), None), abs=1.5e-3
    )


def test_nothing_is_changed_before_the_first_score() -> None:
    said = (0.2, 0.3, 0.5)
    assert calibrated(CONFIG, None, said) is said
    assert calibrated(CONFIG, Calibrator(), said) is said
    assert calibration_error(CONFIG, Calibrator()) is None


def test_an_expert_that_is_always_wrong_is_silenced_and_not_turned_round() -> None:
    contrary = [((0.1, 0.2, 0.7), -1), ((0.7, 0.2, 0.1), 1)] * 400
    calibrator = learned(contrary, CONFIG)
    assert calibrator.slope == 0.0
    down, _, up = calibrated(CONFIG, calibrator, (0.05, 0.05, 0.9))
    assert up == pytest.approx(down, abs=0.02)


def test_overlapping_outcomes_count_for_their_share() -> None:
    """Sixty copies of one outcome tell as much as one, when sixty ballots share a horizon."""
    votes = votes_of(300, 0.3, (0.4, 0.0))
    once = learned(votes)
    copied = learned([vote for vote in votes for _ in range(60)], overlap=60)
    assert copied.information == pytest.approx(once.information, rel=0.1)
    assert [copied.slope, copied.down, copied.up] == pytest.approx([once.slope, once.down, once.up], abs=0.05)


def test_a_change_of_the_experts_ways_is_followed() -> None:
    config = CalibrationConfig(memory=500)
    calibrator = learned(votes_of(3000, 2.5, (0.0, 0.0), 1) + votes_of(3000, 0.3, (0.0, 0.0), 2), config)
    assert calibrator.slope == pytest.approx(0.3, abs=0.25)


def test_the_calibration_error_is_that_of_the_textbook() -> None:
    votes = votes_of(500, 0.4, (0.3, 0.0))
    calibrator = Calibrator()
    gaps, masses = np.zeros(10), np.zeros(10)
    for said, outcome in votes:
        for k, value in enumerate(calibrated(FOREVER, calibrator, said)):
            place = min(9, int(value * 10))
            gaps[place] += value - (outcome + 1 == k)
            masses[place] += 1
        take_outcome(FOREVER, calibrator, said, outcome, 1)
    expected = float((np.abs(gaps) / np.maximum(masses, 1) * masses).sum() / masses.sum())
    assert calibration_error(FOREVER, calibrator) == pytest.approx(expected)


@st.composite
def said_and_outcomes(draw: st.DrawFn) -> Votes:
    votes: Votes = []
    for _ in range(draw(st.integers(1, 60))):
        parts = draw(st.tuples(*[st.sampled_from([0.0, 1e-300, 0.01, 0.3, 1.0])] * 3))
        total = sum(parts)
        said = tuple(part / total for part in parts) if total > 0.001 else (0.0, 0.0, 1.0)
        votes.append((said, draw(st.sampled_from([-1, 0, 1]))))  # type: ignore[arg-type]
    return votes


@settings(max_examples=50, deadline=None)
@given(said_and_outcomes(), st.sampled_from([1, 10, 60]))
def test_whatever_is_said_what_is_read_is_a_probability(votes: Votes, overlap: int) -> None:
    calibrator = learned(votes, CONFIG, overlap)
    assert 0 <= calibrator.slope <= CONFIG.slope_max
    for said, _ in votes:
        meant = calibrated(CONFIG, calibrator, said)
        assert all(0 < value <= 1 for value in meant)
        assert sum(meant) == pytest.approx(1)
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(calibrator), type=Calibrator)
    assert restored == calibrator


@pytest.mark.parametrize("wrong", [{"slope_prior": 0.0}, {"memory": 0.5}, {"slope_max": 1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        CalibrationConfig(**wrong)  # type: ignore[arg-type]
