"""What a vote was found to mean: one small calibrator per expert, instrument and horizon, learned from its scores.

An expert that says 0.9 and is right six times in ten is worth listening to, once its 0.9 is read as 0.6. Votes are
read through ``q_k`` proportional to ``p_k ** slope x exp(bias_k)`` (flat has bias 0): for three outcomes what Platt
scaling is for two, with the temperature as its inverse slope. Isotonic regression would bend more freely, but needs
all past votes and thousands of them; this needs nine numbers and says something sensible after fifty.

The three numbers are the running maximum of a posterior: a normal prior around *leave it as it was said*, one Newton
step for each score, older scores fading (a Laplace approximation, Spiegelhalter and Lauritzen 1990). Without fading it
is the batch fit to within the curvature; a test holds it to that. Outcomes of overlapping horizons are nearly the same
outcome, so that each counts for its share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from agents.voting.pool import Probabilities

BINS: Final = 10
"""Bins of the calibration error, of equal width."""


@dataclass(frozen=True)
class CalibrationConfig:
    """How fast calibrators learn.

    ``slope_prior`` and ``bias_prior`` are the prior's precisions. Biases are held tighter: a trend of some minutes
    looks like a bias, and reading all votes by it made them worse at long horizons. ``memory`` is after how many
    independent scores one has faded to 1/e. ``slope_max`` and ``bias_max`` bound what is learned: a slope below 0
    would turn an expert into its opposite, which nobody has asked for. ``error_min``: from how many scores the
    calibration error is told.
    """

    slope_prior: float = 20.0
    bias_prior: float = 80.0
    memory: float = 5000.0
    slope_max: float = 4.0
    bias_max: float = 3.0
    probability_floor: float = 0.001
    error_min: int = 20

    def __post_init__(self) -> None:
        """Refuse settings under which a step could have no size or no end."""
        assert min(self.slope_prior, self.bias_prior) > 0
        assert self.memory >= 1
        assert self.slope_max > 1
        assert 0 < self.probability_floor < 1 / 3


class Calibrator(msgspec.Struct, array_like=True, gc=False):
    """Slope and biases, what is known of them beyond the prior, and how well votes were calibrated lately.

    ``information`` is the upper triangle (slope, down, up). ``gaps`` is by bin what was said less what happened,
    ``masses`` how much was said, for the calibrated votes; both fade.
    """

    slope: float = 1.0
    down: float = 0.0
    up: float = 0.0
    information: tuple[float, ...] = (0.0,) * 6
    scored: int = 0
    gaps: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)
    masses: list[float] = msgspec.field(default_factory=lambda: [0.0] * BINS)


def calibrated(config: CalibrationConfig, calibrator: Calibrator | None, said: Probabilities) -> Probabilities:
    """Return what a vote is taken to mean; what was said, as long as nothing is known."""
    if calibrator is None or calibrator.scored == 0:
        return said
    return _read(calibrator, _logs(config, said))


def take_outcome(
    config: CalibrationConfig, calibrator: Calibrator, said: Probabilities, outcome: int, overlap: int
) -> None:
    """Learn from one scored vote. ``outcome`` is -1, 0 or +1; ``overlap`` is how many ballots share a horizon."""
    logs = _logs(config, said)
    before = _read(calibrator, logs)
    share = 1 / max(1, overlap)
    kept = 1 - share / config.memory
    for k in (0, 1, 2):
        value = before[k]
        happened = 1.0 if k == outcome + 1 else 0.0
        place = min(BINS - 1, int(value * BINS))
        calibrator.gaps[place] += value - happened
        calibrator.masses[place] += 1.0
    calibrator.gaps = [gap * kept for gap in calibrator.gaps]
    calibrator.masses = [mass * kept for mass in calibrator.masses]
    curvature = _curvature(before, logs)
    calibrator.information = tuple(
        kept * known + share * new for known, new in zip(calibrator.information, curvature, strict=True)
    )
    slope, down, up = _newton(config, calibrator.information, _gradient(before, logs, outcome))
    calibrator.slope = min(config.slope_max, max(0.0, calibrator.slope - share * slope))
    calibrator.down = min(config.bias_max, max(-config.bias_max, calibrator.down - share * down))
    calibrator.up = min(config.bias_max, max(-config.bias_max, calibrator.up - share * up))
    calibrator.scored = min(calibrator.scored + 1, 1_000_000)


def calibration_error(config: CalibrationConfig, calibrator: Calibrator | None) -> float | None:
    """Return the expected calibration error of the votes as they were pooled: the mean gap over all three outcomes."""
    if calibrator is None or calibrator.scored < config.error_min:
        return None
    return sum(map(abs, calibrator.gaps)) / sum(calibrator.masses)


def _logs(config: CalibrationConfig, said: Probabilities) -> Probabilities:
    floor = config.probability_floor
    down, flat, up = (math.log(value if value > floor else floor) for value in said)
    return (down, flat, up)


def _read(calibrator: Calibrator, logs: Probabilities) -> Probabilities:
    slope = calibrator.slope
    raised = (slope * logs[0] + calibrator.down, slope * logs[1], slope * logs[2] + calibrator.up)
    top = max(raised)
    down, flat, up = (math.exp(value - top) for value in raised)
    total = down + flat + up
    return (down / total, flat / total, up / total)


def _gradient(q: Probabilities, logs: Probabilities, outcome: int) -> Probabilities:
    """Of the log-loss by slope and biases."""
    expected = q[0] * logs[0] + q[1] * logs[1] + q[2] * logs[2]
    return (expected - logs[outcome + 1], q[0] - (outcome == -1), q[2] - (outcome == 1))


def _curvature(q: Probabilities, logs: Probabilities) -> tuple[float, ...]:
    """Of the log-loss: covariances under ``q`` of (log p, is down, is up), which do not depend on the outcome."""
    mean = q[0] * logs[0] + q[1] * logs[1] + q[2] * logs[2]
    spread = sum(q[k] * (logs[k] - mean) ** 2 for k in (0, 1, 2))
    with_down, with_up = q[0] * (logs[0] - mean), q[2] * (logs[2] - mean)
    return (spread, with_down, with_up, q[0] * (1 - q[0]), -q[0] * q[2], q[2] * (1 - q[2]))


def _newton(config: CalibrationConfig, information: Sequence[float], gradient: Probabilities) -> Probabilities:
    """Return what solves (prior + information) x step = gradient, by Cholesky, which the prior keeps well posed."""
    ss, sd, su, dd, du, uu = information
    l11 = math.sqrt(ss + config.slope_prior)
    l21, l31 = sd / l11, su / l11
    l22 = math.sqrt(dd + config.bias_prior - l21 * l21)
    l32 = (du - l31 * l21) / l22
    l33 = math.sqrt(uu + config.bias_prior - l31 * l31 - l32 * l32)
    y1 = gradient[0] / l11
    y2 = (gradient[1] - l21 * y1) / l22
    y3 = (gradient[2] - l31 * y1 - l32 * y2) / l33
    up = y3 / l33
    down = (y2 - l32 * up) / l22
    return ((y1 - l21 * down - l31 * up) / l11, down, up)
