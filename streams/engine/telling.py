"""Brings what a worker's shards have counted to its metrics, and what its probes need to its health: once a second.

Once a second and not per batch, since whoever asks does so every few seconds; what is only right at the moment of the
question (how old something is by now) is worked out when it is asked, in the thread that answers.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from infra.metrics import of_engine as rows
from infra.metrics.health import Health
from infra.metrics.registry import Labels, Metrics
from infra.models.alarm import REFUSED
from infra.models.refusals import Refusal
from streams.engine.flow import Flow
from streams.engine.observing import Observer
from streams.engine.shard import ShardCore
from streams.engine.watchdog import Look

if TYPE_CHECKING:
    from streams.engine.shards import Shard

LOG: Final = logging.getLogger("tradermind.worker")
INTERVAL_S: Final = 1.0
_BEAT_S: Final = 0.25
_CLOSED, _OPEN = 0.0, 2.0
ShardKey = tuple[str, str]


@dataclass(slots=True)
class Told:
    """Where a worker stands as it is told: its shards, how many it should have, and whether the group has dealt."""

    shards: "Mapping[ShardKey, Shard]"
    dealt: bool = False
    due: int = 0
    observers: Sequence[Observer] = ()


class Teller:
    """One per worker. ``flow`` is what its shards count in; ``before_scrape`` belongs to the thread of the port."""

    def __init__(self, metrics: Metrics, health: Health, flow: Flow) -> None:
        self.metrics = metrics
        self.health = health
        self.flow = flow
        self._name = metrics.worker
        self._said: type[Exception] | None = None
        metrics.add(rows.METRICS_ERRORS, 0, self._name)

    def build(self, version: str, code_version: str, settings_hash: str) -> None:
        """Say what runs."""
        self.metrics.put(rows.BUILD_INFO, 1, self._name, version, code_version, settings_hash)

    async def beat(self) -> None:
        """Show that the loop turns, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self.health.beat(max(0.0, loop.time() - due_s))

    async def run(self, told: Callable[[], Told]) -> None:
        """Tell until cancelled."""
        while True:
            try:
                self.tell(told())
            except Exception as error:
                # An error of ours in what is only looked at must not end what trades; it is said, and seen.
                self.metrics.add(rows.METRICS_ERRORS, 1, self._name)
                self.health.missing = {"metrics": "the metrics cannot be told"}
                if type(error) is not self._said:
                    LOG.error("the metrics cannot be told", exc_info=error)
                self._said = type(error)
            await asyncio.sleep(INTERVAL_S)

    def tell(self, told: Told) -> None:
        """Tell of everything as it stands now."""
        self._tell_flow()
        self._tell_shards(told)
        if self.metrics.tells(rows.MODELS_REFUSED):
            for reason in Refusal:
                self.metrics.total(rows.MODELS_REFUSED, REFUSED[reason.value], reason.value)
        missing = self._tell_stages(told)
        health = self.health
        health.missing = missing
        health.shards_held, health.shards_due, health.dealt = len(told.shards), told.due, told.dealt
        if told.dealt and len(told.shards) >= told.due:
            health.recovered = True

    def look(self, look: Look) -> None:
        """Take what the watch over the partitions has seen."""
        metrics, name, health = self.metrics, self._name, self.health
        health.broker_up, health.database_up, health.stuck = look.broker_up, look.database_up, look.stuck
        lanes = {(name, *_split(lane)): told for lane, told in look.lanes.items()}
        metrics.put_all(rows.CONSUMER_LAG, {labels: float(behind) for labels, (behind, _) in lanes.items()})
        metrics.put_all(rows.PARTITION_STILL, {labels: still_s for labels, (_, still_s) in lanes.items()})
        for row, dependency, up in (
            (rows.BROKER_UP, "kafka", look.broker_up),
            (rows.DATABASE_UP, "postgres", look.database_up),
        ):
            metrics.put(row, float(up), name)
            metrics.put(rows.BREAKER_STATE, _CLOSED if up else _OPEN, name, dependency)
        if look.clock_offset_s is not None:
            metrics.put(rows.CLOCK_OFFSET, look.clock_offset_s, name, "database")

    def before_scrape(self) -> None:
        """Work out what depends on when it is asked. Called by the thread that serves the port."""
        metrics, name = self.metrics, self._name
        now_ns = self.flow.now_ns()
        for stage, newest_ns in list(self.flow.newest_ns.items()):
            metrics.put(rows.FRESHNESS, max(0, now_ns - newest_ns) / 1e9, name, stage)
        metrics.put(rows.EVENT_LOOP_LAG, self.health.loop_late_s, name)
        metrics.put(rows.READY, float(self.health.ready().ok), name)

    def _tell_flow(self) -> None:
        flow, metrics, name = self.flow, self.metrics, self._name
        letters: dict[str, int] = {}
        for (topic, reason), count in flow.letters.items():
            metrics.total(rows.DLQ_RECORDS, count, name, topic, reason)
            letters[topic] = letters.get(topic, 0) + count
        for topic, taken in flow.records.items():
            others = {
                "duplicate": flow.duplicates.get(topic, 0),
                "skipped": flow.skipped.get(topic, 0),
                "dead_letter": letters.get(topic, 0),
            }
            outcomes = others | {"handled": max(0, taken - sum(others.values()))}
            for outcome, count in outcomes.items():
                metrics.total(rows.EVENTS_CONSUMED, count, name, topic, outcome)
            metrics.total(rows.OFFSET_GAP, flow.gaps.get(topic, 0), name, topic)
        for topic, count in flow.sent.items():
            metrics.total(rows.EVENTS_PRODUCED, count, name, topic)
        while flow.batches:
            batch = flow.batches.popleft()
            metrics.observe(rows.BATCH_HANDLING, batch.took_s, name, batch.stage)
            metrics.observe(rows.EVENT_AGE, batch.age_s, name, batch.stage)

    def _tell_shards(self, told: Told) -> None:
        held: dict[Labels, float] = {(self._name, stage): 0.0 for stage in self.metrics.stages}
        ages, pending, quarantined = dict(held), dict(held), dict(held)
        for (stage, _), shard in told.shards.items():
            labels = (self._name, stage)
            held[labels] = held.get(labels, 0) + 1
            ages[labels] = max(ages.get(labels, 0.0), shard.checkpoint_age_s)
            pending[labels] = pending.get(labels, 0) + shard.pending_records
            quarantined[labels] = quarantined.get(labels, 0) + shard.core.counters.quarantined_keys
        for row, values in (
            (rows.SHARDS_HELD, held),
            (rows.CHECKPOINT_AGE, ages),
            (rows.OUTBOX_PENDING, pending),
            (rows.QUARANTINED_KEYS, quarantined),
        ):
            self.metrics.put_all(row, values)

    def _tell_stages(self, told: Told) -> dict[str, str]:
        watched: dict[int, tuple[Observer, list[ShardCore]]] = {id(one): (one, []) for one in told.observers}
        for shard in told.shards.values():
            core = shard.core
            if isinstance(core, ShardCore) and (observer := core.hosting.observer) is not None:
                watched.setdefault(id(observer), (observer, []))[1].append(core)
        missing: dict[str, str] = {}
        for observer, cores in watched.values():
            for core in cores:
                observer.see(*core.gathered.give())
            missing |= observer.tell([core.state for core in cores])
        return missing


def _split(lane: str) -> Sequence[str]:
    topic, _, partition = lane.rpartition("/")
    return topic, partition
