"""The voting worker: snapshots, votes, requests and scores in; tallies out. Its *now* is on its topics."""

from schemas.topics import BALLOT_REQUEST, EXPERT_VOTE, FEATURE_SNAPSHOT, FEEDBACK_SCORE
from streams.composition import Run, build_stage
from streams.engine.ports import StageHosting, StageKind


def hosting(run: Run) -> StageHosting:
    """Return how a worker hosts the voting stage."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "voting"),
        name="voting",
        topics=(FEATURE_SNAPSHOT, EXPERT_VOTE, BALLOT_REQUEST, FEEDBACK_SCORE),
        kind=StageKind.OUTBOX,
    )
