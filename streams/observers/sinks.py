"""Metrics of the sinks: points that InfluxDB has taken or lost, what waits for it, and the chain of the audit."""

from collections.abc import Mapping, Sequence
from typing import Final

from agents.stage import ShardState
from infra.influx import InfluxWriter
from infra.metrics import of_engine, of_stages
from infra.metrics.registry import Metrics
from infra.postgres.audit_chain import AuditChain
from schemas.event import Event

_CLOSED, _OPEN = 0.0, 2.0


class SinksObserver:
    """Watches what the sinks write to."""

    kept: Final[frozenset[type[Event]]] = frozenset()
    timed: Final[frozenset[type[Event]]] = frozenset()

    def __init__(self, metrics: Metrics, writer: InfluxWriter, audit: AuditChain) -> None:
        self._metrics = metrics
        self._writer = writer
        self._audit = audit

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """See nothing: sinks emit nothing."""

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell of InfluxDB and the audit. Neither is anything that the sinks must have before they are ready."""
        del states
        metrics, counts = self._metrics, self._writer.counts
        metrics.total(of_stages.INFLUX_WRITTEN, counts.written)
        for reason, count in (
            ("queue_full", counts.dropped),
            ("refused", counts.refused),
            ("at_end", counts.unwritten_at_end),
        ):
            metrics.total(of_stages.INFLUX_DROPPED, count, reason)
        metrics.put(of_stages.INFLUX_QUEUE, counts.queued)
        metrics.put(of_engine.BREAKER_STATE, _OPEN if counts.away else _CLOSED, metrics.worker, "influx")
        metrics.total(of_stages.AUDIT_ROWS, self._audit.rows_added)
        metrics.put(of_stages.AUDIT_BROKEN, float(self._audit.broken))
        return {}
