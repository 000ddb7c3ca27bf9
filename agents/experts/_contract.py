"""What an expert is, and everything an expert's file may import from this package: experts never see each other."""

from typing import Any, Protocol

import msgspec

from agents.experts._calibration import Calibration, Probabilities, Track
from agents.experts._change_points import ChangePoints, Runs
from agents.experts._hidden_markov import HiddenMarkov
from agents.experts._trees import Forest, Model, read_model
from schemas.opinions import AbstainReason, AlertLevel, FeatureSnapshot

__all__ = [
    "Alert",
    "Assessment",
    "Calibration",
    "ChangePoints",
    "Expert",
    "Forest",
    "HiddenMarkov",
    "Model",
    "Opinion",
    "Probabilities",
    "Runs",
    "Track",
    "abstention",
    "directions",
    "read_model",
]


class Opinion(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One expert's answer to one question: three probabilities that sum to 1, or a reason for none."""

    p_down: float | None = None
    p_flat: float | None = None
    p_up: float | None = None
    abstained: AbstainReason | None = None
    evidence: dict[str, float | None] = {}
    context: dict[str, float] = {}


class Alert(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A change of the alert level that an expert saw; ``score`` is 1 at ELEVATED and 2 at HIGH."""

    level: AlertLevel
    kind: str
    score: float
    detail: str = ""


class Assessment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that an expert makes of one snapshot: one opinion per question, in their order, and an alert if any."""

    opinions: tuple[Opinion, ...]
    alert: Alert | None = None


class Expert(Protocol):
    """One member of the committee. The instance holds settings only; what it remembers is its state."""

    @property
    def name(self) -> str:
        """The name it votes under: that of its module, and never changed, since weights are kept by it."""

    @property
    def state_type(self) -> type[msgspec.Struct]:
        """The frozen Struct it remembers per instrument; it must survive a round trip through MessagePack."""

    def initial(self) -> Any:
        """Return the state before the first snapshot of an instrument."""

    def assess(self, state: Any, snapshot: FeatureSnapshot) -> tuple[Any, Assessment]:
        """Take the snapshots of one instrument in order; return the state after this one and what it makes of it."""


def abstention(
    snapshot: FeatureSnapshot,
    reason: AbstainReason,
    *,
    evidence: dict[str, float | None] | None = None,
    context: dict[str, float] | None = None,
) -> Assessment:
    """Return the same abstention for every question of the snapshot."""
    opinion = Opinion(abstained=reason, evidence=evidence or {}, context=context or {})
    return Assessment(opinions=(opinion,) * len(snapshot.questions))


def directions(answers: tuple[Probabilities, ...], evidence: tuple[dict[str, float | None], ...]) -> Assessment:
    """Return one directional opinion per answer, each with what was looked at for it."""
    return Assessment(
        opinions=tuple(
            Opinion(p_down=down, p_flat=flat, p_up=up, evidence=seen)
            for (down, flat, up), seen in zip(answers, evidence, strict=True)
        )
    )
