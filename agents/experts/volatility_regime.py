"""Volatility regime: is this market quiet, normal or wild, compared with its own past, and did it change just now?

Hypothesis: volatility comes in regimes that last; a hidden Markov chain over fast volatility, spread and pace of
trading, each against its usual, tells them apart within seconds. Apart from that, returns change their law at once
when news comes; Bayesian change points see it without a word on what the new law is. Neither knows anything of
direction, so it abstains there and publishes the posterior of the regimes (low, normal, high) and the probability of
a change in the last seconds (change), which the tally and the decider carry. Both filters run forward only: smoothing
would look ahead.
Inputs: volatility_fast (needed); spread_relative, trade_rate_10s, return_1s (used if there); the mid only as a sign
that there is a market.
Fails when: the whole stretch it has seen was wild, which then passes for normal; at the start; and where prices stand
still between jumps of a tick, each of which may pass for a change.
"""

import math
from dataclasses import dataclass, field

import msgspec

from agents.experts._contract import Assessment, ChangePoints, HiddenMarkov, Runs, abstention
from schemas.opinions import AbstainReason, FeatureSnapshot
from schemas.values import NS_PER_S

REGIMES = ("low", "normal", "high")
_INPUTS = ("volatility_fast", "spread_relative", "trade_rate_10s")


@dataclass(frozen=True)
class Config:
    """``chain`` speaks of ln(input / its usual value) in each regime; ``changes`` of returns in usual volatilities.

    A change is recent for ``recent_steps`` returns.
    """

    chain: HiddenMarkov = field(
        default_factory=lambda: HiddenMarkov(
            means=((-0.8, 0.0, -0.4), (0.0, 0.0, 0.0), (1.0, 0.5, 0.6)),
            widths=((0.5, 0.6, 0.8), (0.4, 0.5, 0.7), (0.6, 0.9, 0.9)),
            stay_s=30.0,
        )
    )
    changes: ChangePoints = field(default_factory=lambda: ChangePoints(length_mean=200.0))
    usual_s: float = 600.0
    warm_up_steps: int = 15
    recent_steps: int = 10
    return_limit: float = 8.0

    def __post_init__(self) -> None:
        """Refuse a model that does not speak of every regime and input."""
        assert len(self.chain.means) == len(REGIMES)
        assert len(self.chain.means[0]) == len(_INPUTS)
        assert self.recent_steps < self.warm_up_steps


class State(msgspec.Struct, frozen=True, gc=False):
    """The posterior over the regimes, the usual log of each input, for how long each was seen, and the runs."""

    posterior: tuple[float, ...] = (0.2, 0.6, 0.2)
    usual: tuple[float, ...] = (0.0,) * len(_INPUTS)
    seen_s: tuple[float, ...] = (-1.0,) * len(_INPUTS)
    steps: int = 0
    moved_ns: int = 0
    runs: Runs = Runs()


class VolatilityRegime:
    """Publishes the probability of each volatility regime and of a recent change; abstains on direction."""

    name = "volatility_regime"
    state_type = State

    def __init__(self, config: Config) -> None:
        self._config = config

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Filter one step forward and publish what is believed now."""
        fast = snapshot.features.get("volatility_fast")
        if fast is None or fast <= 0 or snapshot.mid is None:
            return state, abstention(snapshot, AbstainReason.MISSING_INPUT)
        state = self._filtered(state, snapshot)
        if state.steps < self._config.warm_up_steps:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        context = dict(zip(REGIMES, state.posterior, strict=True))
        if state.runs.lengths:
            context["change"] = self._config.changes.recent(state.runs, self._config.recent_steps)
        evidence: dict[str, float | None] = {"volatility_fast": fast, "usual": math.exp(state.usual[0])}
        return state, abstention(snapshot, AbstainReason.CONTEXT_ONLY, evidence=evidence, context=context)

    def _filtered(self, state: State, snapshot: FeatureSnapshot) -> State:
        config, now_ns = self._config, snapshot.grid_time_ns
        elapsed_s = max(0.0, (now_ns - state.moved_ns) / NS_PER_S) if state.steps else 0.0
        usual, seen_s, ratios = list(state.usual), list(state.seen_s), list[float | None]()
        for index, name in enumerate(_INPUTS):
            value = snapshot.features.get(name)
            if value is None or value <= 0:
                ratios.append(None)
                continue
            level = math.log(value)
            ratios.append(None if seen_s[index] < 0 else self._strayed(level, index, (usual, seen_s), elapsed_s))
            if seen_s[index] < 0:
                usual[index], seen_s[index] = level, 0.0
        posterior = config.chain.filtered(config.chain.predicted(state.posterior, elapsed_s), ratios)
        steps = min(state.steps + 1, config.warm_up_steps)
        runs = self._changed(state.runs, snapshot.features.get("return_1s"), math.exp(usual[0]))
        return State(posterior, tuple(usual), tuple(seen_s), steps, now_ns, runs)

    def _strayed(self, level: float, index: int, known: tuple[list[float], list[float]], elapsed_s: float) -> float:
        """Move the usual level of an input, which is its mean over a time that grows; return how far it is from it."""
        usual, seen_s = known
        whole_s = min(seen_s[index] + elapsed_s, self._config.usual_s)
        if elapsed_s > 0:
            usual[index] += (level - usual[index]) * min(1.0, elapsed_s / (whole_s + elapsed_s))
        seen_s[index] = whole_s
        return level - usual[index]

    def _changed(self, runs: Runs, change: float | None, usual: float) -> Runs:
        limit = self._config.return_limit
        if change is None or usual <= 0:
            return runs
        return self._config.changes.after(runs, max(-limit, min(limit, change / usual)))


EXPERT = VolatilityRegime(Config())
