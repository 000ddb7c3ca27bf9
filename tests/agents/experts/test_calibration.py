"""The calibration learns slope and base rates from what has happened, and from nothing else."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshot_stories import make_snapshot

from agents.experts._calibration import Calibration, Track

MID = 10_000 * 10**8
STEP = 10**8


def run(moves: list[int], signals: list[float], calibration: Calibration) -> tuple[Track, ...]:
    """Feed signals, each followed by its move of the mid (in steps, the flat band being 0)."""
    mid, tracks = MID, ()
    for step, (move, signal) in enumerate(zip(moves, signals, strict=True)):
        tracks, _ = calibration.answer(tracks, make_snapshot(step, mid, {}), (signal,) * 3)
        mid += move * STEP
    return tracks


def test_a_signal_that_leads_is_trusted_more_and_one_that_misleads_not_at_all() -> None:
    generator = random.Random(1)
    signals = [generator.choice((-1.0, 1.0)) for _ in range(600)]
    right = run([int(signal) for signal in signals], signals, Calibration(slope=0.3, decay_s=10.0))
    wrong = run([-int(signal) for signal in signals], signals, Calibration(slope=0.3, decay_s=10.0))
    assert right[0].slope > 1.5
    assert wrong[0].slope == 0.0


def test_base_rates_are_learned() -> None:
    generator = random.Random(2)
    moves = [generator.choice((1, 1, 1, 0, 0, -1)) for _ in range(2000)]
    calibration = Calibration(slope=0.0, decay_s=10.0)
    tracks = run(moves, [0.0] * 2000, calibration)
    _, answers = calibration.answer(tracks, make_snapshot(3000, MID, {}), (0.0,) * 3)
    down, flat, up = answers[0]
    assert down == pytest.approx(1 / 6, abs=0.1)
    assert flat == pytest.approx(1 / 3, abs=0.1)
    assert up == pytest.approx(1 / 2, abs=0.1)


def test_an_outcome_is_not_known_before_its_horizon() -> None:
    calibration = Calibration(slope=0.3, decay_s=10.0)
    tracks = run([1] * 9, [1.0] * 9, calibration)
    assert [track.matured for track in tracks] == [8, 0, 0]
    tracks = run([1] * 12, [1.0] * 12, calibration)
    assert tracks[1].matured > 0
    assert tracks[2].matured == 0


def test_a_mid_from_after_a_long_silence_is_no_outcome() -> None:
    calibration = Calibration(slope=0.3, decay_s=10.0)
    tracks = run([1] * 5, [1.0] * 5, calibration)
    before = tracks[0].matured
    tracks, _ = calibration.answer(tracks, make_snapshot(500, MID, {}), (1.0,) * 3)
    assert tracks[0].matured == before
    assert len(tracks[0].pending) == 1


def test_without_a_mid_nothing_is_asked_and_what_fell_due_is_dropped() -> None:
    calibration = Calibration(slope=0.3, decay_s=10.0)
    tracks = run([1] * 5, [1.0] * 5, calibration)
    tracks, answers = calibration.answer(tracks, make_snapshot(5, None, {}), (None,) * 3)
    assert tracks[0].pending == ()
    assert answers[0] == (1 / 3, 1 / 3, 1 / 3)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.floats(-1e6, 1e6)), min_size=1, max_size=60),
    st.floats(0, 2),
    st.floats(0.5, 100),
)
def test_whatever_happens_the_answer_is_a_probability(
    steps: list[tuple[int, float]], slope: float, decay_s: float
) -> None:
    calibration = Calibration(slope=slope, decay_s=decay_s)
    mid, tracks = MID, ()
    for step, (move, signal) in enumerate(steps):
        tracks, answers = calibration.answer(tracks, make_snapshot(step, mid, {}), (signal,) * 3)
        for answer in answers:
            assert all(0.009 < value < 1 for value in answer)
            assert sum(answer) == pytest.approx(1)
        for track in tracks:
            assert 0 <= track.slope <= calibration.slope_max
            assert len(track.pending) <= calibration.overlap + 1
        mid += move * STEP
