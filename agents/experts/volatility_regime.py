"""Volatility regime: is this market quiet, normal or wild, compared with its own recent past?

Hypothesis: volatility comes in regimes that last; a hidden Markov chain over the logarithm of fast against slow
volatility tells them apart within seconds. It knows nothing of direction, so it abstains there and publishes its
posterior, which the tally and the decider carry. The filter runs forward only: smoothing would look ahead.
Inputs: volatility_fast (needed); the mid only as a sign that there is a market.
Fails when: the whole stretch it has seen was wild, which then passes for normal; and at the start.
"""

import math
from dataclasses import dataclass

import msgspec

from agents.experts._contract import Assessment, abstention
from schemas.opinions import AbstainReason, FeatureSnapshot
from schemas.values import NS_PER_S

_REGIMES = ("low", "normal", "high")


@dataclass(frozen=True)
class Config:
    """``centres`` are ln(fast / usual volatility) in each regime, ``widths`` their spread, ``stay_s`` their life."""

    centres: tuple[float, ...] = (-0.8, 0.0, 1.0)
    widths: tuple[float, ...] = (0.5, 0.4, 0.6)
    stay_s: float = 30.0
    usual_s: float = 600.0
    warm_up_steps: int = 15
    posterior_min: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse a model that does not speak of every regime."""
        assert len(self.centres) == len(self.widths) == len(_REGIMES)
        assert all(width > 0 for width in self.widths)


class State(msgspec.Struct, frozen=True, gc=False):
    """The posterior over (low, normal, high), the usual log volatility, and how much of it was seen."""

    posterior: tuple[float, ...] = (0.2, 0.6, 0.2)
    usual: float = 0.0
    steps: int = 0
    seen_s: float = 0.0
    moved_ns: int = 0


class VolatilityRegime:
    """Publishes the probability of each volatility regime; abstains on direction."""

    name = "volatility_regime"
    state_type = State

    def __init__(self, config: Config) -> None:
        self._config = config

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Filter one step forward and publish the posterior."""
        fast = snapshot.features.get("volatility_fast")
        if fast is None or fast <= 0 or snapshot.mid is None:
            return state, abstention(snapshot, AbstainReason.MISSING_INPUT)
        state = self._filtered(state, math.log(fast), snapshot.grid_time_ns)
        if state.steps < self._config.warm_up_steps:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        low, normal, high = state.posterior
        context = {"low": low, "normal": normal, "high": high}
        evidence: dict[str, float | None] = {"volatility_fast": fast, "usual": math.exp(state.usual)}
        return state, abstention(snapshot, AbstainReason.CONTEXT_ONLY, evidence=evidence, context=context)

    def _filtered(self, state: State, level: float, now_ns: int) -> State:
        config = self._config
        if state.steps == 0:
            return State(state.posterior, level, 1, 0.0, now_ns)
        elapsed_s = max(0.0, (now_ns - state.moved_ns) / NS_PER_S)
        seen_s = min(state.seen_s + elapsed_s, config.usual_s)
        usual = state.usual + (level - state.usual) * (elapsed_s / (seen_s + elapsed_s) if elapsed_s > 0 else 0.0)
        stay = math.exp(-elapsed_s / config.stay_s)
        others = (1 - stay) / (len(_REGIMES) - 1)
        weighed = []
        for prior, centre, width in zip(state.posterior, config.centres, config.widths, strict=True):
            predicted = stay * prior + others * (1 - prior)
            distance = (level - usual - centre) / width
            weighed.append(predicted * math.exp(-0.5 * min(distance * distance, 200.0)) / width)
        total = sum(weighed)
        floored = [max(config.posterior_min, weight / total) for weight in weighed]
        mass = sum(floored)
        posterior = tuple(value / mass for value in floored)
        return State(posterior, usual, min(state.steps + 1, config.warm_up_steps), seen_s, now_ns)


EXPERT = VolatilityRegime(Config())
