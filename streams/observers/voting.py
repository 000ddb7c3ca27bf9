"""Metrics of the committee: who voted what, what each expert weighs, and how far they are apart.

Weights, skill and calibration come from the state, which has them from the first moment after a restart; the rest comes
from the tallies.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from agents.stage import ShardState
from agents.voting.calibration import calibration_error
from agents.voting.stage import VotingConfig
from agents.voting.weights import Standing, Weights, skill, weights_of
from infra.metrics import of_stages as rows
from infra.metrics.registry import Labels, Metrics
from schemas.event import Event
from schemas.opinions import TallyEntry, VoteTally
from schemas.values import NS_PER_S

_WEIGHTS: Final = "/weights"


class VotingObserver:
    """Watches the voting stage."""

    kept: Final[frozenset[type[Event]]] = frozenset({VoteTally})
    timed: Final[frozenset[type[Event]]] = frozenset()

    def __init__(self, metrics: Metrics, config: VotingConfig) -> None:
        self._metrics = metrics
        self._config = config

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Count votes and ballots, and take the newest disagreement."""
        del took_s
        for tally in outputs:
            assert isinstance(tally, VoteTally)
            if tally.advice_for is not None:
                self._metrics.add(rows.BALLOTS, 1, "advice")
                continue
            self._metrics.add(rows.BALLOTS, 1, "no_direction" if tally.p_up is None else "tallied")
            for entry in tally.entries:
                self._metrics.add(rows.VOTES, 1, entry.expert, _outcome(entry))
            for expert in tally.late:
                self._metrics.add(rows.VOTES, 1, expert, "late")
            if tally.disagreement is not None:
                self._metrics.put(rows.TALLY_DISAGREEMENT, tally.disagreement, tally.key, horizon_of(tally.horizon_ns))

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell what each expert weighs and is worth."""
        weights: dict[Labels, float] = {}
        skills: dict[Labels, float] = {}
        errors: dict[Labels, float] = {}
        for state in states:
            for key, kept in state.items():
                if not key.endswith(_WEIGHTS) or not isinstance(kept, Weights) or not kept.standings:
                    continue
                instrument, _, horizon = key.removesuffix(_WEIGHTS).rpartition("/")
                place = (instrument, horizon_of(int(horizon)))
                shares = weights_of(self._config.weights, kept, list(kept.standings))
                for (expert, standing), share in zip(kept.standings.items(), shares, strict=True):
                    weights[expert, *place] = share
                    self._worth(standing, (expert, *place), skills, errors)
        for row, values in (
            (rows.EXPERT_WEIGHT, weights),
            (rows.EXPERT_SKILL, skills),
            (rows.EXPERT_CALIBRATION, errors),
        ):
            self._metrics.put_all(row, values)
        return {}

    def _worth(
        self, standing: Standing, labels: Labels, skills: dict[Labels, float], errors: dict[Labels, float]
    ) -> None:
        saved = skill(self._config.weights, standing)
        if saved is not None:
            skills[labels] = saved
        error = calibration_error(self._config.calibration, standing.calibrator)
        if error is not None:
            errors[labels] = error


def horizon_of(horizon_ns: int) -> str:
    """Return a horizon as its label: ``10s``."""
    return f"{horizon_ns / NS_PER_S:g}s"


def _outcome(entry: TallyEntry) -> str:
    if entry.abstained is not None:
        return str(entry.abstained.value).lower()
    said = {"down": entry.p_down or 0.0, "flat": entry.p_flat or 0.0, "up": entry.p_up or 0.0}
    return max(said, key=lambda name: said[name])
