"""Metrics of what came of it: rewards by sign, transitions for the trainer, ballots that could not be scored."""

from collections.abc import Mapping, Sequence
from typing import Final

from agents.stage import ShardState
from infra.metrics import of_stages as rows
from infra.metrics.registry import Metrics
from schemas.event import Event
from schemas.feedback import BallotVoided, Experience


class FeedbackObserver:
    """Watches feedback."""

    kept: Final[frozenset[type[Event]]] = frozenset({Experience, BallotVoided})
    timed: Final[frozenset[type[Event]]] = frozenset()

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Count them."""
        del took_s
        for event in outputs:
            if isinstance(event, Experience):
                sign = "positive" if event.reward > 0 else "negative" if event.reward < 0 else "zero"
                self._metrics.add(rows.REWARDS, 1, event.strategy, sign)
                self._metrics.add(rows.EXPERIENCES, 1, event.strategy)
            elif isinstance(event, BallotVoided):
                self._metrics.add(rows.BALLOTS, 1, "voided")

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell nothing: all of it is counted."""
        del states
        return {}
