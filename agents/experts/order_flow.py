"""Order flow: who is pushing at the top of the book right now.

Hypothesis: queues and trades lean before the mid moves. The larger queue at the best prices, the micro-price beyond
the mid, orders added at the best and at the five best levels (OFI) and aggressive trades on one side call the next
move (Cont, Kukanov, Stoikov 2014; Stoikov 2018), for about as long as it takes others to see the same thing: the lean
fades within seconds. Where trading is more one-sided for its volume than usual (VPIN; Easley, Lopez de Prado, O'Hara
2012), those who trade know more, and the same lean means more.
Inputs: imbalance_1 and ofi_1s (needed); imbalance_5, ofi_multi_1s, trade_flow_1s, trade_flow_10s, microprice_offset,
vpin (used if there).
Fails when: the displayed size is not meant to trade (spoofing, a queue about to be cancelled), the tick is so wide
that queues never empty, or sizes are not published at all; at long horizons it knows only the base rates.
"""

import math
from dataclasses import dataclass, field

import msgspec

from agents.experts._contract import Assessment, Calibration, Track, abstention, directions
from schemas.opinions import AbstainReason, FeatureSnapshot
from schemas.values import NS_PER_S

_INPUTS = (
    *("imbalance_1", "ofi_1s", "imbalance_5", "ofi_multi_1s", "trade_flow_1s", "trade_flow_10s"),
    "microprice_offset",
)
_NEEDED = 2


@dataclass(frozen=True)
class Config:
    """``weights`` and ``decays_s`` belong to the inputs in their order; a signal halves after its decay.

    VPIN against its usual makes a signal at most ``toxicity_max`` times as loud, or as faint.
    """

    weights: tuple[float, ...] = (0.5, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2)
    decays_s: tuple[float, ...] = (2.0, 2.0, 5.0, 2.0, 5.0, 15.0, 2.0)
    toxicity_max: float = 1.5
    memory_steps: int = 300
    warm_up_steps: int = 10
    calibration: Calibration = field(default_factory=lambda: Calibration(slope=0.35, decay_s=20.0))

    def __post_init__(self) -> None:
        """Refuse settings that do not speak of every input."""
        assert len(self.weights) == len(self.decays_s) == len(_INPUTS)


class State(msgspec.Struct, frozen=True, gc=False):
    """Mean square of each input so far, how many times each was seen, and what was learned per horizon.

    ``vpin`` is its mean so far, ``vpins`` how many were seen.
    """

    squares: tuple[float, ...] = (0.0,) * len(_INPUTS)
    counts: tuple[int, ...] = (0,) * len(_INPUTS)
    tracks: tuple[Track, ...] = ()
    vpin: float = 0.0
    vpins: int = 0


class OrderFlow:
    """Votes on direction from the imbalance of queues and trades."""

    name = "order_flow"
    state_type = State

    def __init__(self, config: Config) -> None:
        self._config = config

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Standardise each input by its own history, weigh it by its decay to each horizon, and calibrate."""
        features = snapshot.features
        values = tuple(features.get(name) for name in _INPUTS)
        squares, counts, scores = self._standardise(state, values)
        vpin = features.get("vpin")
        usual, vpins, loudness = self._toxicity(state, vpin)
        missing = snapshot.mid is None or None in values[:_NEEDED]
        signals = tuple(
            None if missing else loudness * self._signal(scores, item.horizon_ns) for item in snapshot.questions
        )
        tracks, answers = self._config.calibration.answer(state.tracks, snapshot, signals)
        state = State(squares, counts, tracks, usual, vpins)
        if missing:
            reason = AbstainReason.MISSING_INPUT if snapshot.synchronised else AbstainReason.UNSYNCHRONISED
            return state, abstention(snapshot, reason)
        if min(counts[:_NEEDED]) < self._config.warm_up_steps:
            return state, abstention(snapshot, AbstainReason.WARMING_UP)
        seen = dict(zip(_INPUTS, values, strict=True)) | {"vpin": vpin}
        return state, directions(answers, tuple(seen | {"signal": signal} for signal in signals))

    def _standardise(
        self, state: State, values: tuple[float | None, ...]
    ) -> tuple[tuple[float, ...], tuple[int, ...], list[float]]:
        squares, counts, scores = list(state.squares), list(state.counts), []
        for index, value in enumerate(values):
            if value is None:
                scores.append(0.0)
                continue
            counts[index] = min(counts[index] + 1, self._config.memory_steps)
            squares[index] += (value * value - squares[index]) / counts[index]
            scores.append(value / math.sqrt(squares[index]) if squares[index] > 0 else 0.0)
        return tuple(squares), tuple(counts), scores

    def _toxicity(self, state: State, vpin: float | None) -> tuple[float, int, float]:
        """Return VPIN's usual value, from how many it is, and how loud a lean is made by its present one."""
        if vpin is None:
            return state.vpin, state.vpins, 1.0
        vpins = min(state.vpins + 1, self._config.memory_steps)
        usual = state.vpin + (vpin - state.vpin) / vpins
        limit = self._config.toxicity_max
        return usual, vpins, max(1 / limit, min(limit, vpin / usual)) if usual > 0 else 1.0

    def _signal(self, scores: list[float], horizon_ns: int) -> float:
        horizon_s = horizon_ns / NS_PER_S
        config = self._config
        return sum(
            weight * score / (1 + horizon_s / decay_s)
            for weight, score, decay_s in zip(config.weights, scores, config.decays_s, strict=True)
        )


EXPERT = OrderFlow(Config())
