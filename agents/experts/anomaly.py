"""Anomaly: is this market far from its normal, so that what was learned from normal times should not act?

Hypothesis: flash crashes, bursts of trading, drained books, blown-out spreads and dead feeds show at once as a value
that is many times its own usual one, which is robust: a median, or a mean square that no single move can shift by
much. Returns count as z-scores. Each is measured against its own history, the worst counts, and the level falls only
after a calm stretch. It abstains on direction and publishes the level; HIGH puts the instrument in REDUCING.
Inputs: return_1s, spread, spread_relative, depth_10, trade_rate_10s, age_s (each used if there); whether there is a
mid and a synchronised book.
Fails when: a crisis creeps (its usual values follow), and right after the start, when nothing is usual yet.
"""

import math
from dataclasses import dataclass

import msgspec

from agents.experts._contract import Alert, Assessment, abstention
from schemas.opinions import AbstainReason, AlertLevel, FeatureSnapshot

_LEVELS = (AlertLevel.NORMAL, AlertLevel.ELEVATED, AlertLevel.HIGH)


@dataclass(frozen=True)
class Config:
    """A score of 1 is ELEVATED, of 2 HIGH; the level falls by one after ``calm_steps`` below ``exit_share`` of it."""

    return_sigmas: float = 6.0
    spread_medians: float = 10.0
    spread_sigmas: float = 3.0
    depth_medians: float = 5.0
    rate_medians: float = 10.0
    rate_min: float = 5.0
    age_medians: float = 20.0
    age_s_min: float = 5.0
    exit_share: float = 0.7
    calm_steps: int = 5
    memory_steps: int = 300
    warm_up_steps: int = 20
    median_step: float = 0.02


class State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Robust usual values so far (0 = never seen), the level in force, and how long it has been calm below it."""

    steps: int = 0
    square: float = 0.0
    returns: int = 0
    spread: float = 0.0
    depth: float = 0.0
    rate: float = 0.0
    age_s: float = 0.0
    had_mid: bool = False
    had_book: bool = False
    level: int = 0
    calm: int = 0


class Anomaly:
    """Publishes how far the market is from its normal; abstains on direction."""

    name = "anomaly"
    state_type = State

    def __init__(self, config: Config) -> None:
        self._config = config

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Score the snapshot against what was usual before it, then let it move what is usual."""
        scores = self._scores(state, snapshot)
        kind = max(scores, key=lambda name: scores[name])
        score = scores[kind]
        level, calm = self._level(state, score)
        alert = None
        if level != state.level:
            why = kind if level > state.level else "calm"
            alert = Alert(level=_LEVELS[level], kind=why, score=min(score, 1e6), detail=f"{kind} score {score:.2f}")
        state = self._learned(state, snapshot, level, calm)
        if state.steps < self._config.warm_up_steps:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        opinions = abstention(
            snapshot,
            AbstainReason.CONTEXT_ONLY,
            evidence={name: min(value, 1e6) for name, value in scores.items()},
            context={"level": float(level), "score": min(score, 1e6)},
        ).opinions
        return state, Assessment(opinions=opinions, alert=alert)

    def _scores(self, state: State, snapshot: FeatureSnapshot) -> dict[str, float]:
        config, features = self._config, snapshot.features
        scores = {"none": 0.0}
        if state.steps < config.warm_up_steps - 1:
            return scores
        if state.had_mid and snapshot.mid is None:
            scores["no_market"] = 1.0
        if state.had_book and not snapshot.synchronised:
            scores["unsynchronised"] = 1.0
        sigma = math.sqrt(state.square)
        change, spread, spread_relative = (
            features.get("return_1s"),
            features.get("spread"),
            features.get("spread_relative"),
        )
        if spread_relative is not None:
            # A mid that stands still for long has no volatility; half a spread is no anomaly.
            sigma = max(sigma, abs(spread_relative) / 2)
        if change is not None and sigma > 0:
            scores["return"] = abs(change) / sigma / config.return_sigmas
        if spread is not None and state.spread > 0 and snapshot.mid is not None:
            usual = max(
                config.spread_medians * state.spread, config.spread_sigmas * math.sqrt(state.square) * snapshot.mid
            )
            scores["spread"] = spread / usual
        depth = features.get("depth_10")
        if depth is not None and state.depth > 0:
            scores["depth"] = state.depth / max(depth, state.depth * 1e-6) / config.depth_medians
        rate = features.get("trade_rate_10s")
        if rate is not None and state.rate > 0:
            scores["burst"] = rate / max(config.rate_min, config.rate_medians * state.rate)
        age_s = features.get("age_s")
        if age_s is not None:
            scores["stale"] = age_s / max(config.age_s_min, config.age_medians * state.age_s)
        return scores

    def _level(self, state: State, score: float) -> tuple[int, int]:
        reached = 2 if score >= 2 else 1 if score >= 1 else 0
        if reached >= state.level:
            return reached, 0
        if score >= self._config.exit_share * state.level:
            return state.level, 0
        if state.calm + 1 < self._config.calm_steps:
            return state.level, state.calm + 1
        return state.level - 1, 0

    def _learned(self, state: State, snapshot: FeatureSnapshot, level: int, calm: int) -> State:
        features = snapshot.features
        square, returns = state.square, state.returns
        change = features.get("return_1s")
        if change is not None:
            returns = min(returns + 1, self._config.memory_steps)
            # Winsorised at three sigma once there is a sigma, so that a crash does not become usual at once.
            seen = change * change if square == 0 else min(change * change, 9 * square)
            square += (seen - square) / returns
        return State(
            steps=min(state.steps + 1, self._config.warm_up_steps),
            square=square,
            returns=returns,
            spread=self._median(state.spread, features.get("spread"), state.steps),
            depth=self._median(state.depth, features.get("depth_10"), state.steps),
            rate=self._median(state.rate, features.get("trade_rate_10s"), state.steps),
            age_s=self._median(state.age_s, features.get("age_s"), state.steps),
            had_mid=state.had_mid or snapshot.mid is not None,
            had_book=state.had_book or snapshot.synchronised,
            level=level,
            calm=calm,
        )

    def _median(self, median: float, value: float | None, steps: int) -> float:
        """Move a running median of positive values by a small factor towards the side the value lies on."""
        if value is None or value <= 0:
            return median
        if median <= 0:
            return value
        factor = 1 + max(self._config.median_step, 1 / (steps + 2))
        if value > median:
            return min(value, median * factor)
        return max(value, median / factor)


EXPERT = Anomaly(Config())
