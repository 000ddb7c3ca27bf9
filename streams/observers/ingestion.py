"""Metrics of the data that comes in: what was found of its quality, and how the exchange's clock stands to ours."""

from collections.abc import Mapping, Sequence
from typing import Final

from agents.market.feed_state import FeedState
from agents.stage import ShardState
from infra.metrics import of_engine, of_stages
from infra.metrics.registry import Metrics
from schemas.event import Event
from schemas.market import Quality


class IngestionObserver:
    """Watches the ingestion stage and the stages of public ingress, by whatever shard they run."""

    kept: Final[frozenset[type[Event]]] = frozenset({Quality})
    timed: Final[frozenset[type[Event]]] = frozenset()

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Count what was found."""
        del took_s
        for event in outputs:
            assert isinstance(event, Quality)
            self._metrics.add(of_stages.QUALITY_EVENTS, event.count, event.key, event.kind.value)

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell how far each venue's clock is ahead of ours; of its instruments the one that is farthest off."""
        leads: dict[str, int] = {}
        for state in states:
            for key, kept in state.items():
                if isinstance(kept, FeedState) and kept.clock.settled():
                    venue = key.rpartition("/")[2].partition(":")[0]
                    leads[venue] = max(leads.get(venue, 0), kept.clock.lead_ns, key=abs)
        for venue, lead_ns in leads.items():
            self._metrics.put(of_engine.CLOCK_OFFSET, lead_ns / 1e9, self._metrics.worker, venue)
        return {}
