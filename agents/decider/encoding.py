"""From an observation to the numbers that a network reads: a set of votes, and what they are seen beside.

A vote is a row that says what an expert said and how good it has been, never who it was, so that an expert more or
less is a row more or less. The order of the rows means nothing. Costs, the spread and the line's own returns are in
units of sigma, the move to be expected over the horizon (volatility x root of the horizon): 2 basis points are much
in a quiet market and nothing in a wild one, and no instrument is told by its price or its volatility's size alone.

The list of names is closed. What else an observation holds, a foreign expert's context above all, is not read. A
missing input is 0 beside a flag that is 0 then; what is not finite counts as missing; everything is held within
``VOTE_LOW`` .. ``CONTEXT_HIGH``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.decider.observation import VOTE_PREFIX, vote_keys

SCHEMA: Final = "set.v1"
"""Names what follows: another feature, order, unit or bound is another schema."""

MAX_VOTES: Final = 12
"""The padding of the training environment. ``encode`` knows no limit."""

LOGIT_MAX: Final = 7.0
PROBABILITY_MIN: Final = 1e-3
LARGEST: Final = 1e15
"""A number beyond it is no measurement, and counts as missing where it would make a feature infinite."""

_VOTE_BOUNDS: Final = {
    "direction": (-1.0, 1.0),
    "active": (0.0, 1.0),
    "odds": (-LOGIT_MAX, LOGIT_MAX),
    "said_direction": (-1.0, 1.0),
    "said_active": (0.0, 1.0),
    "weight": (0.0, 1.0),
    "skill": (-1.0, 1.0),
    "calibration_error": (0.0, 1.0),
    "is_calibrated": (0.0, 1.0),
    "has_skill": (0.0, 1.0),
    "has_calibration_error": (0.0, 1.0),
}
_CONTEXT_BOUNDS: Final = {
    "p_down": (0.0, 1.0),
    "p_flat": (0.0, 1.0),
    "p_up": (0.0, 1.0),
    "disagreement": (0.0, 2.0),
    "has_pool": (0.0, 1.0),
    "log_volatility": (-7.0, 7.0),
    "has_volatility": (0.0, 1.0),
    "log_horizon": (-3.0, 12.0),
    "cost_in_sigma": (0.0, 8.0),
    "log_cost_in_sigma": (-6.0, 6.0),
    "spread_in_sigma": (0.0, 8.0),
    "has_cost": (0.0, 1.0),
    "moment_mean": (-4.0, 4.0),
    "moment_deviation": (0.0, 8.0),
    "has_moments": (0.0, 1.0),
    "target": (-1.0, 1.0),
    "exposure": (-2.0, 2.0),
    "has_exposure": (0.0, 1.0),
    "allowed_low": (-1.0, 1.0),
    "allowed_high": (-1.0, 1.0),
    "has_allowed": (0.0, 1.0),
    "alert_normal": (0.0, 1.0),
    "alert_elevated": (0.0, 1.0),
    "alert_high": (0.0, 1.0),
    "mark_age_s": (0.0, 10.0),
    "anomaly": (0.0, 4.0),
    "has_anomaly": (0.0, 1.0),
    "regime_low": (0.0, 1.0),
    "regime_normal": (0.0, 1.0),
    "regime_high": (0.0, 1.0),
    "has_regime": (0.0, 1.0),
    "regime_change": (0.0, 1.0),
    "has_regime_change": (0.0, 1.0),
}
VOTE_FEATURES: Final = tuple(_VOTE_BOUNDS)
"""Of one vote. ``direction`` = up - down and ``active`` = down + up as pooled: calibrated, or as said if it is not;
``odds`` = ln(up / down) of the same, which adds up over experts as the pool does; ``said_*`` as said; its ``weight`` in
the pool, its ``skill`` over the base rate (a share of its loss), its ``calibration_error`` as a probability."""

CONTEXT_FEATURES: Final = tuple(_CONTEXT_BOUNDS)
"""Beside the votes. The pooled probabilities; ``log_volatility`` = ln(volatility per root second / 1e-4),
``log_horizon`` = ln(seconds); one-way cost and spread in sigmas; the line's moments in sigmas; target, exposure and
allowed targets as shares of the budget; the alert level, one of three; ``anomaly`` = ln(1 + score); the regime's
posterior, and the probability that it has just changed."""

VOTE_LOW: Final[NDArray[np.float32]] = np.array([low for low, _ in _VOTE_BOUNDS.values()], dtype=np.float32)
VOTE_HIGH: Final[NDArray[np.float32]] = np.array([high for _, high in _VOTE_BOUNDS.values()], dtype=np.float32)
CONTEXT_LOW: Final[NDArray[np.float32]] = np.array([low for low, _ in _CONTEXT_BOUNDS.values()], dtype=np.float32)
CONTEXT_HIGH: Final[NDArray[np.float32]] = np.array([high for _, high in _CONTEXT_BOUNDS.values()], dtype=np.float32)

_POOL: Final = ("p_down", "p_flat", "p_up", "disagreement")
_SCALE: Final = ("volatility", "horizon_s", "spread_relative", "cost.excess", "cost.fee")
_MOMENTS: Final = ("moment.mean", "moment.square")
_LINE: Final = ("target", "exposure", "allowed.low", "allowed.high")
_MARKET: Final = ("alert", "mark_age_s", "context.anomaly.score")
_REGIME: Final = tuple(f"context.volatility_regime.{name}" for name in ("low", "normal", "high", "change"))
_CONTEXT: Final = len(CONTEXT_FEATURES)
_VOTE: Final = len(VOTE_FEATURES)
_USUAL_VOLATILITY: Final = 1e-4
_COST_MIN: Final = 1e-9
_SIGMA_MIN: Final = 1e-12

_Get = Callable[[str], float | None]


class Encoded(NamedTuple):
    """``votes`` [n, V] and ``context`` [C], float32 within their bounds; n = 0 when nobody gives a direction."""

    votes: NDArray[np.float32]
    context: NDArray[np.float32]


def encode(observation: Mapping[str, float | None]) -> Encoded:
    """Return what a network reads of an observation, whatever of it is there."""
    flat = _features(observation)
    if not math.isfinite(sum(flat)):
        flat = _features({name: _measured(value) for name, value in observation.items()})
    votes = (len(flat) - _CONTEXT) // _VOTE
    low, high = _bounds(votes)
    numbers = np.array(flat, dtype=np.float64)
    np.maximum(numbers, low, out=numbers)
    np.minimum(numbers, high, out=numbers)
    kept = numbers.astype(np.float32)
    return Encoded(kept[_CONTEXT:].reshape(votes, _VOTE), kept[:_CONTEXT])


def _features(observation: Mapping[str, float | None]) -> list[float]:
    """Return the context's features and after them those of each vote, not yet held to their bounds."""
    get = observation.get
    flat = [*_pool(get), *_scale(get), *_line(get), *_market(get), *_regime(get)]
    for keys in _voters(tuple(observation)):
        down, up, calibrated_down, calibrated_up, weight, skill, error = map(get, keys)
        if down is None or up is None:
            continue
        learned = 1.0
        if calibrated_down is None or calibrated_up is None:
            calibrated_down, calibrated_up, learned = down, up, 0.0
        odds = max(PROBABILITY_MIN, calibrated_up) / max(PROBABILITY_MIN, calibrated_down)
        flat += (
            calibrated_up - calibrated_down,
            calibrated_up + calibrated_down,
            math.log(odds),
            up - down,
            up + down,
            weight or 0.0,
            skill or 0.0,
            error or 0.0,
            learned,
            0.0 if skill is None else 1.0,
            0.0 if error is None else 1.0,
        )
    return flat


def _pool(get: _Get) -> Sequence[float]:
    down, flat, up, disagreement = map(get, _POOL)
    if down is None or flat is None or up is None:
        return (0.0,) * 5
    return down, flat, up, disagreement or 0.0, 1.0


def _scale(get: _Get) -> Sequence[float]:
    """Return volatility, horizon, cost, spread and moments; the last three only where sigma is known."""
    volatility, horizon_s, spread, excess, fee = map(get, _SCALE)
    if horizon_s is None or not horizon_s > 0.0:
        return (0.0,) * 10
    log_horizon = math.log(horizon_s)
    sigma = 0.0 if volatility is None else volatility * math.sqrt(horizon_s)
    if volatility is None or not sigma > _SIGMA_MIN:
        return (0.0, 0.0, log_horizon, *(0.0,) * 7)
    per_sigma, log_sigma = 1.0 / sigma, math.log(sigma)
    return (
        math.log(volatility / _USUAL_VOLATILITY),
        1.0,
        log_horizon,
        *_costs((per_sigma, log_sigma), spread, excess, fee),
        *_moments(per_sigma, *map(get, _MOMENTS)),
    )


def _costs(
    sigma: tuple[float, float], spread: float | None, excess: float | None, fee: float | None
) -> Sequence[float]:
    """Return cost and spread in sigmas; ``sigma`` is its inverse and its logarithm, which bear any size."""
    if spread is None or excess is None or fee is None:
        return (0.0,) * 4
    cost = max(spread / 2.0 + excess, 0.0) + fee
    per_sigma, log_sigma = sigma
    return cost * per_sigma, math.log(max(_COST_MIN, cost)) - log_sigma, spread * per_sigma, 1.0


def _moments(per_sigma: float, mean: float | None, square: float | None) -> Sequence[float]:
    if mean is None or square is None:
        return (0.0,) * 3
    return mean * per_sigma, math.sqrt(max(square - mean * mean, 0.0)) * per_sigma, 1.0


def _line(get: _Get) -> Sequence[float]:
    target, exposure, low, high = map(get, _LINE)
    held = (0.0, 0.0) if exposure is None else (exposure, 1.0)
    allowed = (0.0, 0.0, 0.0) if low is None or high is None else (low, high, 1.0)
    return (target or 0.0, *held, *allowed)


def _market(get: _Get) -> Sequence[float]:
    alert, age_s, score = map(get, _MARKET)
    level = (float(alert == 0.0), float(alert == 1.0), float(alert == 2.0))
    anomaly = (0.0, 0.0) if score is None or not score >= 0.0 else (math.log1p(score), 1.0)
    return (*level, age_s or 0.0, *anomaly)


def _regime(get: _Get) -> Sequence[float]:
    low, normal, high, change = map(get, _REGIME)
    posterior = (0.0,) * 4 if low is None or normal is None or high is None else (low, normal, high, 1.0)
    return (*posterior, *((0.0, 0.0) if change is None else (change, 1.0)))


def _measured(value: float | None) -> float | None:
    """Return a number that may have been measured, else None."""
    return value if value is not None and -LARGEST < value < LARGEST else None


@lru_cache(maxsize=256)
def _voters(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the keys of each expert's numbers among these names. Committees change seldom: it is looked up mostly."""
    ending = ".p_up"
    return tuple(
        vote_keys(name[len(VOTE_PREFIX) : -len(ending)])
        for name in names
        if name.startswith(VOTE_PREFIX) and name.endswith(ending)
    )


@lru_cache(maxsize=64)
def _bounds(votes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest values of all features of so many votes, in one row."""
    low = np.concatenate((CONTEXT_LOW, np.tile(VOTE_LOW, votes))).astype(np.float64)
    high = np.concatenate((CONTEXT_HIGH, np.tile(VOTE_HIGH, votes))).astype(np.float64)
    return low, high
