"""Mean reversion: what has strayed from its recent mean comes back.

Hypothesis: with no news, trades that need liquidity push the mid away from a level others still believe in, and
those who provide it are paid by the way back. The distance from an exponential mean, in units of what a random
walk of the same volatility would stray, calls the return; the mean that matters is about as old as the horizon.
Inputs: the mid and volatility (both needed).
Fails when: there was news: a trend walks away from every mean, and so does a crash.
"""

import math
from dataclasses import dataclass, field

import msgspec

from agents.experts._contract import Assessment, Calibration, Track, abstention, directions
from schemas.opinions import AbstainReason, FeatureSnapshot
from schemas.values import NS_PER_S


@dataclass(frozen=True)
class Config:
    """``means_s`` are the time constants of the means; after ``restart_s`` of silence they start afresh."""

    means_s: tuple[float, ...] = (5.0, 20.0, 90.0)
    score_max: float = 4.0
    warm_up_s: float = 15.0
    restart_s: float = 120.0
    calibration: Calibration = field(default_factory=lambda: Calibration(slope=0.2, decay_s=60.0))


class State(msgspec.Struct, frozen=True, gc=False):
    """The means of the mid (units of 1e-8), when they began and were last moved (ns), and what was learned."""

    means: tuple[float, ...] = ()
    began_ns: int = 0
    moved_ns: int = 0
    tracks: tuple[Track, ...] = ()


class MeanReversion:
    """Votes that a mid which strayed from its recent mean returns."""

    name = "mean_reversion"
    state_type = State

    def __init__(self, config: Config) -> None:
        self._config = config

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Move the means, then measure how far the mid is from each of them."""
        volatility = snapshot.features.get("volatility")
        missing = snapshot.mid is None or volatility is None
        if snapshot.mid is not None:
            state = self._moved(state, snapshot.mid, snapshot.grid_time_ns)
        scores = () if missing else self._scores(state, snapshot.mid or 0, volatility or 0.0)
        signals = tuple(None if missing else self._signal(scores, item.horizon_ns) for item in snapshot.questions)
        tracks, answers = self._config.calibration.answer(state.tracks, snapshot, signals)
        state = State(state.means, state.began_ns, state.moved_ns, tracks)
        if missing:
            return state, abstention(snapshot, AbstainReason.MISSING_INPUT)
        if state.moved_ns - state.began_ns < self._config.warm_up_s * NS_PER_S:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        seen: dict[str, float | None] = {"volatility": volatility}
        for mean_s, score in zip(self._config.means_s, scores, strict=True):
            seen[f"distance_{mean_s:g}s"] = -score
        return state, directions(answers, tuple(seen | {"signal": signal} for signal in signals))

    def _moved(self, state: State, mid: int, now_ns: int) -> State:
        elapsed_s = (now_ns - state.moved_ns) / NS_PER_S
        if not state.means or elapsed_s > self._config.restart_s:
            means = (float(mid),) * len(self._config.means_s)
            return State(means, now_ns, now_ns, state.tracks)
        means = tuple(
            mean + (mid - mean) * (1 - math.exp(-elapsed_s / mean_s))
            for mean, mean_s in zip(state.means, self._config.means_s, strict=True)
        )
        return State(means, state.began_ns, now_ns, state.tracks)

    def _scores(self, state: State, mid: int, volatility: float) -> tuple[float, ...]:
        limit, scores = self._config.score_max, []
        for mean, mean_s in zip(state.means, self._config.means_s, strict=True):
            # A random walk strays from its exponential mean by sigma x sqrt(time constant / 2).
            scale = mid * volatility * math.sqrt(mean_s / 2)
            scores.append(max(-limit, min(limit, (mean - mid) / scale)) if scale > 0 else 0.0)
        return tuple(scores)

    def _signal(self, scores: tuple[float, ...], horizon_ns: int) -> float:
        horizon_s = horizon_ns / NS_PER_S
        total = weights = 0.0
        for score, mean_s in zip(scores, self._config.means_s, strict=True):
            weight = min(mean_s / horizon_s, horizon_s / mean_s)
            total += weight * score
            weights += weight
        return total / weights


EXPERT = MeanReversion(Config())
