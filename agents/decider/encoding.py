"""From an observation to the numbers that a network reads: a set of votes, and what they are seen beside.

A vote is a row that says what an expert said and how good it has been, never who it was, so that an expert more or
less is a row more or less. The order of the rows means nothing. Costs, the spread and the line's own returns are in
units of sigma, the move to be expected over the horizon (volatility x root of the horizon): 2 basis points are much
in a quiet market and nothing in a wild one, and no instrument is told by its price or its volatility's size alone.

The list of names is closed. What else an observation holds, a foreign expert's context above all, is not read. A
missing input is 0 beside a flag that is 0 then; what is not finite counts as missing; everything is held within
``VOTE_LOW`` .. ``CONTEXT_HIGH``.
"""

import itertools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.decider.observation import VOTE_FIELDS, VOTE_PREFIX, vote_keys

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

_GROUPS: Final = (
    ("p_down", "p_flat", "p_up", "disagreement"),
    ("volatility", "horizon_s", "spread_relative", "cost.excess", "cost.fee", "moment.mean", "moment.square"),
    ("target", "exposure", "allowed.low", "allowed.high"),
    ("alert", "mark_age_s", "context.anomaly.score"),
    tuple(f"context.volatility_regime.{name}" for name in ("low", "normal", "high", "change")),
)
_KEYS: Final = tuple(itertools.chain.from_iterable(_GROUPS))
_ENDS: Final = tuple(itertools.accumulate(len(group) for group in _GROUPS))
_POOL, _SCALE, _LINE, _MARKET, _REGIME = (
    slice(end - len(group), end) for group, end in zip(_GROUPS, _ENDS, strict=True)
)
_CONTEXT: Final = len(CONTEXT_FEATURES)
_VOTE: Final = len(VOTE_FEATURES)
_USUAL_VOLATILITY: Final = 1e-4
_COST_MIN: Final = 1e-9
_SIGMA_MIN: Final = 1e-12

_Observation = Mapping[str, float | None]
_Values = Sequence[float | None]


class Encoded(NamedTuple):
    """``votes`` [n, V] and ``context`` [C], float32 within their bounds; n = 0 when nobody gives a direction."""

    votes: NDArray[np.float32]
    context: NDArray[np.float32]


def encode(observation: _Observation) -> Encoded:
    """Return what a network reads of an observation, whatever of it is there."""
    flat = _features(observation)
    if not math.isfinite(sum(flat)):
        flat = _features({name: _measured(value) for name, value in observation.items()})
    votes = (len(flat) - _CONTEXT) // _VOTE
    pack, low, high = _layout(votes)
    # Packing is three times as fast as making an array of a list, and this is called at every decision.
    kept = np.minimum(np.maximum(np.frombuffer(pack(*flat)), low), high).astype(np.float32)
    return Encoded(kept[_CONTEXT:].reshape(votes, _VOTE), kept[:_CONTEXT])


def _features(observation: _Observation) -> list[float]:
    """Return the context's features and after them those of each vote, not yet held to their bounds."""
    values = _reader(tuple(observation))(observation)
    flat = [
        *_pool(values[_POOL]),
        *_scale(values[_SCALE]),
        *_line(values[_LINE]),
        *_market(values[_MARKET]),
        *_regime(values[_REGIME]),
    ]
    told = iter(values[len(_KEYS) :])
    for down, up, meant_down, meant_up, weight, skill, error in zip(*[told] * len(VOTE_FIELDS), strict=True):
        if down is None or up is None:
            continue
        learned = 1.0
        if meant_down is None or meant_up is None:
            meant_down, meant_up, learned = down, up, 0.0
        more = meant_up if meant_up > PROBABILITY_MIN else PROBABILITY_MIN
        less = meant_down if meant_down > PROBABILITY_MIN else PROBABILITY_MIN
        flat += (
            meant_up - meant_down,
            meant_up + meant_down,
            math.log(more) - math.log(less),
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


def _pool(values: _Values) -> Sequence[float]:
    down, flat, up, disagreement = values
    if down is None or flat is None or up is None:
        return (0.0,) * 5
    return down, flat, up, disagreement or 0.0, 1.0


def _scale(values: _Values) -> Sequence[float]:
    """Return volatility, horizon, cost, spread and moments; the last three only where sigma is known."""
    volatility, horizon_s, spread, excess, fee, mean, square = values
    if horizon_s is None or not horizon_s > 0.0:
        return (0.0,) * 10
    log_horizon = math.log(horizon_s)
    sigma = 0.0 if volatility is None else volatility * math.sqrt(horizon_s)
    if volatility is None or not sigma > _SIGMA_MIN:
        return (0.0, 0.0, log_horizon, *(0.0,) * 7)
    return (
        math.log(volatility / _USUAL_VOLATILITY),
        1.0,
        log_horizon,
        *_costs(sigma, spread, excess, fee),
        *_moments(sigma, mean, square),
    )


def _costs(sigma: float, spread: float | None, excess: float | None, fee: float | None) -> Sequence[float]:
    if spread is None or excess is None or fee is None:
        return (0.0,) * 4
    cost = max(spread / 2.0 + excess, 0.0) + fee
    # Two logarithms, since a ratio may be too small or too large for one.
    return cost / sigma, math.log(max(_COST_MIN, cost)) - math.log(sigma), spread / sigma, 1.0


def _moments(sigma: float, mean: float | None, square: float | None) -> Sequence[float]:
    if mean is None or square is None:
        return (0.0,) * 3
    return mean / sigma, math.sqrt(max(square - mean * mean, 0.0)) / sigma, 1.0


def _line(values: _Values) -> Sequence[float]:
    target, exposure, low, high = values
    held = (0.0, 0.0) if exposure is None else (exposure, 1.0)
    allowed = (0.0, 0.0, 0.0) if low is None or high is None else (low, high, 1.0)
    return (target or 0.0, *held, *allowed)


def _market(values: _Values) -> Sequence[float]:
    alert, age_s, score = values
    level = (float(alert == 0.0), float(alert == 1.0), float(alert == 2.0))
    anomaly = (0.0, 0.0) if score is None or not score >= 0.0 else (math.log1p(score), 1.0)
    return (*level, age_s or 0.0, *anomaly)


def _regime(values: _Values) -> Sequence[float]:
    low, normal, high, change = values
    posterior = (0.0,) * 4 if low is None or normal is None or high is None else (low, normal, high, 1.0)
    return (*posterior, *((0.0, 0.0) if change is None else (change, 1.0)))


def _measured(value: float | None) -> float | None:
    """Return a number that may have been measured, else None."""
    return value if value is not None and -LARGEST < value < LARGEST else None


@lru_cache(maxsize=256)
def _reader(names: tuple[str, ...]) -> Callable[[_Observation], _Values]:
    """Return what takes all that is read out of an observation with these names: the context's, then each expert's.

    Committees change seldom, so it is made seldom.
    """
    ending = ".p_up"
    experts = (
        name[len(VOTE_PREFIX) : -len(ending)]
        for name in names
        if name.startswith(VOTE_PREFIX) and name.endswith(ending)
    )
    keys = (*_KEYS, *itertools.chain.from_iterable(vote_keys(expert) for expert in experts))
    if set(keys) <= set(names):
        return itemgetter(*keys)
    return lambda observation: tuple(map(observation.get, keys))


@lru_cache(maxsize=64)
def _layout(votes: int) -> tuple[Callable[..., bytes], NDArray[np.float64], NDArray[np.float64]]:
    """Return how all features of so many votes are packed in one row, and their lowest and highest values."""
    low = np.concatenate((CONTEXT_LOW, np.tile(VOTE_LOW, votes))).astype(np.float64)
    high = np.concatenate((CONTEXT_HIGH, np.tile(VOTE_HIGH, votes))).astype(np.float64)
    return struct.Struct(f"{len(low)}d").pack, low, high
