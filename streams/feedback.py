"""The feedback worker: what came of votes, decisions and trades."""

from schemas.topics import ACCOUNT_EVENT, DECISION, FEEDBACK_OUTCOME, MARKET_MARK, VOTE_TALLY
from streams.composition import Run, build_stage
from streams.engine.ports import StageHosting, StageKind


def hosting(run: Run) -> StageHosting:
    """Return how a worker hosts the feedback stage."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "feedback"),
        name="feedback",
        topics=(VOTE_TALLY, MARKET_MARK, DECISION, ACCOUNT_EVENT, FEEDBACK_OUTCOME),
        kind=StageKind.OUTBOX,
        wall_clock=not run.on_capture,
    )
