"""Momentum: what has been moving goes on moving for a while.

Hypothesis: large orders are worked in pieces and news is taken in slowly, so a move that is large for the
instrument's volatility continues over a horizon of the same order as the window it was seen in.
Inputs: volatility and return_5s (needed); return_1s, return_10s, return_30s, return_60s (used if there).
Fails when: the move was one liquidity shock that comes back (a crash, a stop run), in a market that ranges, and
around the bounce between bid and ask at the shortest horizons.
"""

import math
from dataclasses import dataclass, field

import msgspec

from agents.experts._contract import Assessment, Calibration, Track, abstention, directions
from schemas.opinions import AbstainReason, FeatureSnapshot
from schemas.values import NS_PER_S

_WINDOWS_S = (1.0, 5.0, 10.0, 30.0, 60.0)
_INPUTS = ("return_1s", "return_5s", "return_10s", "return_30s", "return_60s")


@dataclass(frozen=True)
class Config:
    """``window_per_horizon`` is the window that speaks loudest, as a multiple of the horizon."""

    window_per_horizon: float = 2.0
    score_max: float = 4.0
    warm_up_steps: int = 10
    calibration: Calibration = field(default_factory=lambda: Calibration(slope=0.25, decay_s=60.0))


class State(msgspec.Struct, frozen=True, gc=False):
    """How many snapshots had what is needed (up to the warm-up), and what was learned per horizon."""

    steps: int = 0
    tracks: tuple[Track, ...] = ()


class Momentum:
    """Votes that a move which is large for its volatility continues."""

    name = "momentum"
    state_type = State

    def __init__(self, config: Config) -> None:
        self._config = config

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Put each window's return in units of the volatility over it and weigh the windows by the horizon."""
        features = snapshot.features
        volatility = features.get("volatility")
        missing = snapshot.mid is None or volatility is None or features.get("return_5s") is None
        scores = {} if missing else self._scores(features, volatility or 0.0)
        signals = tuple(None if missing else self._signal(scores, item.horizon_ns) for item in snapshot.questions)
        tracks, answers = self._config.calibration.answer(state.tracks, snapshot, signals)
        state = State(min(state.steps + (not missing), self._config.warm_up_steps), tracks)
        if missing:
            return state, abstention(snapshot, AbstainReason.MISSING_INPUT)
        if state.steps < self._config.warm_up_steps:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        seen = {"volatility": volatility} | {name: features.get(name) for name in _INPUTS}
        return state, directions(answers, tuple(seen | {"signal": signal} for signal in signals))

    def _scores(self, features: dict[str, float | None], volatility: float) -> dict[float, float]:
        limit = self._config.score_max
        scores: dict[float, float] = {}
        for name, window_s in zip(_INPUTS, _WINDOWS_S, strict=True):
            change = features.get(name)
            if change is not None:
                scale = volatility * math.sqrt(window_s)
                scores[window_s] = max(-limit, min(limit, change / scale)) if scale > 0 else 0.0
        return scores

    def _signal(self, scores: dict[float, float], horizon_ns: int) -> float:
        loudest_s = horizon_ns / NS_PER_S * self._config.window_per_horizon
        total = weights = 0.0
        for window_s, score in scores.items():
            weight = min(window_s / loudest_s, loudest_s / window_s)
            total += weight * score
            weights += weight
        return total / weights


EXPERT = Momentum(Config())
