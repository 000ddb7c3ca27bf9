"""Quant: what features foretold together in markets it was trained on, they foretell again.

Hypothesis: flow, queues, recent moves and volatility say more together than one by one: a lean of the queues means
more after a move it caused than against one. Gradient-boosted trees, grown on the simulator, find such conditions;
what holds for up holds for down with all signs turned, so that it has no opinion of its own on the direction of
markets. The trees learned which of two barriers, one volatility over the horizon away, is touched first; an isotonic
curve turns their score into how often the ballot then ended up, or down.
Inputs: the mid, volatility, volatility_fast, microprice_offset, spread_relative, imbalance_1, ofi_1s, ofi_10s,
return_1s, return_5s, return_10s (needed); imbalance_5, imbalance_10, ofi_multi_1s, trade_flow_1s, trade_flow_10s,
vpin, return_30s, return_60s (used if there). All as multiples of the volatility, or shares.
Fails when: a market is not made like the simulated one it learned from; it was shown no other, and it does not learn
while it runs: only the calibration of votes and its weight can silence it. It knows three horizons and abstains on
all others.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from agents.experts._contract import Assessment, Forest, Model, Opinion, abstention, read_model
from agents.features.scale_free import COLUMNS, columns_of, mirrored
from schemas.opinions import AbstainReason, FeatureSnapshot

MODEL_FILE: Final = "_quant.json"


@dataclass(frozen=True)
class Config:
    """``floor`` is the least probability that is said; so many ``reasons`` are given as evidence."""

    floor: float = 0.01
    reasons: int = 4


class State(msgspec.Struct, frozen=True, gc=False):
    """Nothing: the features carry what there is to remember, and the model does not learn while it runs."""


class Quant:
    """Votes on direction by boosted trees that were grown on the simulator."""

    name = "quant"
    state_type = State

    def __init__(self, config: Config, model: Model, digest: str) -> None:
        """Raise ValueError for a model that was trained on other columns than there are."""
        if model.columns != COLUMNS:
            raise ValueError("The model of the expert quant was trained on other columns: make train-quant.")
        self._config = config
        self._boosters = {horizon.horizon_ns: at for at, horizon in enumerate(model.horizons)}
        self._chances = [horizon.chance for horizon in model.horizons]
        self._forest = Forest([horizon.booster for horizon in model.horizons], len(COLUMNS))
        # Evidence holds numbers: 48 bits of the digest are exact in one.
        self._version = float(int(digest[:12], 16))

    def initial(self) -> State:
        """Return a state that has seen nothing."""
        return State()

    def assess(self, state: State, snapshot: FeatureSnapshot) -> tuple[State, Assessment]:
        """Score the market as it is and upside down: what the second gives for *up* is the score for *down*."""
        columns = None if snapshot.mid is None else columns_of(snapshot.features)
        if columns is None:
            return state, abstention(snapshot, AbstainReason.MISSING_INPUT)
        if not any(question.horizon_ns in self._boosters for question in snapshot.questions):
            return state, abstention(snapshot, AbstainReason.UNSUPPORTED_HORIZON)
        row = np.array(columns)
        scores, reasons = self._forest.explained(np.array((row, mirrored(row))))
        said, why = scores.tolist(), (reasons[0] - reasons[1]).tolist()
        opinions = []
        for question in snapshot.questions:
            at = self._boosters.get(question.horizon_ns)
            if at is None:
                opinions.append(Opinion(abstained=AbstainReason.UNSUPPORTED_HORIZON))
            else:
                opinions.append(self._opinion(at, (said[0][at], said[1][at]), why[at]))
        return state, Assessment(opinions=tuple(opinions))

    def _opinion(self, at: int, scores: tuple[float, float], why: list[float]) -> Opinion:
        floor, chance = self._config.floor, self._chances[at]
        up, down = max(floor, chance.at(scores[0])), max(floor, chance.at(scores[1]))
        flat = max(floor, 1 - up - down)
        total = up + down + flat
        evidence: dict[str, float | None] = {
            "model": self._version,
            "score_up": scores[0],
            "score_down": scores[1],
        }
        loudest = sorted(range(len(COLUMNS)), key=lambda column: -abs(why[column]))[: self._config.reasons]
        evidence |= {f"because.{COLUMNS[column]}": why[column] for column in loudest if why[column]}
        return Opinion(p_down=down / total, p_flat=flat / total, p_up=up / total, evidence=evidence)


EXPERT = Quant(Config(), *read_model("agents.experts", MODEL_FILE))
