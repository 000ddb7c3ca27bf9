"""The decider's worker: tallies, marks, alerts and account events in; decisions out."""

from schemas.topics import ACCOUNT_EVENT, EXPERT_ALERT, MARKET_MARK, MODEL_RELEASE, VOTE_TALLY
from streams.composition import Run, build_stage
from streams.engine.ports import StageHosting, StageKind


def hosting(run: Run) -> StageHosting:
    """Return how a worker hosts the decider stage."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "decider"),
        name="decider",
        topics=(VOTE_TALLY, MARKET_MARK, EXPERT_ALERT, ACCOUNT_EVENT, MODEL_RELEASE),
        kind=StageKind.OUTBOX,
        wall_clock=not run.on_capture,
    )
