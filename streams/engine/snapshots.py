"""When a shard is kept whole: every few minutes, at a moment when nobody waits for it.

A recomputation of a stretch begins at the newest snapshot before it. Keeping one copies rows inside the database; the
state does not travel. It belongs to the checkpoint that was written just before it: nothing else writes the shard.
"""

import asyncio
from typing import Final

from infra.postgres.patient_store import Checkpoint, PatientStore
from schemas.topics import TOPICS
from streams.engine.ports import StageHosting

_PATIENCE: Final = 1.2
"""So many intervals after the last one, a snapshot is taken even after a batch that had something to say."""


class SnapshotPlan:
    """One shard's snapshots: one every ``interval_s`` (0 is never), each kept for ``hours``."""

    def __init__(self, interval_s: float, hours: int) -> None:
        self._interval_s = interval_s
        self._hours = hours
        self._taken_at = 0.0

    def begin(self, checkpoint: Checkpoint) -> None:
        """Go on from a claimed checkpoint: a shard without any is its own snapshot as long as its log is kept."""
        if not self._interval_s:
            return
        age_s = checkpoint.snapshot_age_s
        if age_s is None:
            age_s = 0.0 if checkpoint.fresh else self._interval_s
        self._taken_at = asyncio.get_running_loop().time() - age_s

    async def after_commit(self, store: PatientStore, *, quiet: bool) -> None:
        """Keep what was committed just now, when it is time; ``quiet`` when nothing outside waits for the shard."""
        if not self._interval_s:
            return
        waited_s = asyncio.get_running_loop().time() - self._taken_at
        if waited_s >= self._interval_s * (1.0 if quiet else _PATIENCE):
            await store.keep_snapshot(self._hours)
            # One that failed is not tried at every batch: the database has other things to do then.
            self._taken_at = asyncio.get_running_loop().time()


NO_SNAPSHOTS: Final = SnapshotPlan(0, 0)
"""For a shard that is never kept whole."""


def retention_hours(stage: str) -> int | None:
    """Return how long a stage's snapshots and journal are of use, by its name; None for a stage that we do not know."""
    ingress = f"tradermind.{stage.replace('ingress.', 'ingest.', 1)}.v1" if stage.startswith("ingress.") else ""
    read = [
        topic for topic in TOPICS.values() if topic.name == ingress or (stage in topic.consumers and not topic.public)
    ]
    written = [topic for topic in TOPICS.values() if stage in topic.producers]
    return min((topic.retention_hours for topic in read or written), default=None)


def snapshot_hours(hosting: StageHosting) -> int:
    """Return how long a snapshot is of use: as long as every topic is kept that the stage steps on from."""
    name = "ingestion" if hosting.wrap is not None else hosting.name
    topics = hosting.topics or tuple(topic for topic in TOPICS.values() if name in topic.producers)
    return min(topic.retention_hours for topic in topics)
