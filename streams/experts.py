"""The experts' worker: trusted market data in; features, bars, votes, alerts and marks out."""

from schemas.topics import MARKET_EVENT
from streams.composition import Run, build_stage
from streams.engine.ports import StageHosting, StageKind


def hosting(run: Run) -> StageHosting:
    """Return how a worker hosts the experts stage."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "experts"),
        name="experts",
        topics=(MARKET_EVENT,),
        kind=StageKind.ONE_TOPIC,
    )
