"""The risk worker: decisions in; approved and denied orders out."""

from schemas.topics import ACCOUNT_EVENT, CONTROL, DECISION, EXPERT_ALERT, MARKET_MARK
from streams.composition import Run, build_stage
from streams.engine.ports import StageHosting, StageKind


def hosting(run: Run) -> StageHosting:
    """Return how a worker hosts the risk stage."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "risk"),
        name="risk",
        topics=(DECISION, MARKET_MARK, EXPERT_ALERT, ACCOUNT_EVENT, CONTROL),
        kind=StageKind.OUTBOX,
        wall_clock=not run.on_capture,
    )
