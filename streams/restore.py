"""``tradermind restore``: go on after Postgres was set back to a backup, or lost, while all workers stand still.

What was decided and sent after the backup has happened, though the database has forgotten it. So nobody reads it again:
every shard goes on at the end of its logs, under a generation and an epoch above whatever was given out meanwhile. A
command that was killed is run again, and goes on where it stopped.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgspec
import psycopg
from psycopg import Connection

from infra.kafka import Slot, cluster_id, log_ranges, topic_partitions
from infra.postgres.rescales import ShardRow, lock_rescale, read_shards, unfinished_rescale
from infra.postgres.restores import (
    Restore,
    claim_restore,
    drop_claim,
    finish_restore,
    newest_known,
    unfinished_restore,
    write_standing,
)
from schemas.topics import TOPICS
from streams.engine.lane import lane_of
from streams.engine.ports import EngineSettings, StageHosting, StageKind
from streams.engine.rewind import output_slots
from streams.engine.shard import Progress
from streams.standstill import DEPARTURE_S, QUIET_S, refuse_life

_SEQ_MAX: Final = 2**63 - 1
FEED: Final = "ingestion"
Shards = dict[tuple[str, str], ShardRow]
Ranges = Mapping[Slot, tuple[int, int]]


class RestoreRefused(Exception):
    """A restore that is not begun, or not gone on with, and why, in one clear sentence."""


class Mending(Protocol):
    """What a restore does to what it does not understand itself: states of money, and the record of the sinks."""

    def states(self, connection: Connection[Any], shards: Shards, ranges: Ranges) -> tuple[Shards, dict[str, Any]]:
        """Return shards with the states to go on with, and what to report. ``shards`` are as the backup has them.

        Raises RestoreRefused.
        """

    def record(self, connection: Connection[Any], restore: Restore) -> None:
        """Let the record go on; it may have been done before, in whole or in part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOrder:
    """What was ordered, by whom and why; ``quiet_s`` and ``departure_s`` as for a rescale."""

    author: str
    why: str
    quiet_s: float = QUIET_S
    departure_s: float = DEPARTURE_S
    dry_run: bool = False


class Restoring:
    """One run of the command over all stages that have shards, and ``feeds``, the shards of what comes by no topic.

    ``observe`` is told each step when it is done.
    """

    def __init__(
        self,
        engine: EngineSettings,
        hostings: Sequence[StageHosting],
        order: RestoreOrder,
        observe: Callable[[str], None],
        *,
        feeds: Sequence[str] = (),
        mending: Mending | None = None,
    ) -> None:
        feed = StageHosting(name=FEED, topics=(), kind=StageKind.ONE_TOPIC)
        self._engine = engine
        self._hostings = {hosting.name: hosting for hosting in (*hostings, feed)}
        self._order = order
        self._observe = observe
        self._feeds = tuple(feeds)
        self._mending = mending

    def run(self) -> Restore:
        """Restore, or go on with a restore; return what was done.

        Raises RestoreRefused, KafkaFailed, and psycopg.OperationalError.
        """
        with psycopg.connect(self._engine.dsn, autocommit=True, connect_timeout=5) as connection:
            if not lock_rescale(connection):
                raise RestoreRefused("Another restore, or a rescale, is being made at this moment.")
            if unfinished_rescale(connection) is not None:
                raise RestoreRefused("The backup was made in the middle of a rescale: take another one.")
            self._refuse_life(connection)
            restore = unfinished_restore(connection)
            if restore is None or restore.step == "CLAIMED":
                drop_claim(connection)
                restore = self._begin(connection)
            if self._order.dry_run:
                return restore
            if self._mending is not None:
                self._mending.record(connection, restore)
            finish_restore(connection)
            self._observe("DONE")
            return replace(restore, step="DONE")

    def _refuse_life(self, connection: Connection[Any]) -> None:
        order = self._order
        refuse_life(self._engine, connection, RestoreRefused, quiet_s=order.quiet_s, departure_s=order.departure_s)

    def _begin(self, connection: Connection[Any]) -> Restore:
        engine, order = self._engine, self._order
        # Whatever was given out after the backup rose by ones; the time is above all of it, whoever remembers it.
        era = max(int(time.time()), newest_known(connection) + 1)
        begun = Restore(order.author, order.why, era, cluster_id(engine.bootstrap, engine.security))
        claim_restore(connection, begun)
        try:
            self._observe("CLAIMED")
            with connection.transaction():
                written = self._write(connection, begun)
                if order.dry_run:
                    raise psycopg.Rollback
        except BaseException:
            drop_claim(connection)
            raise
        if order.dry_run:
            drop_claim(connection)
        else:
            self._observe("WRITTEN")
        return written

    def _write(self, connection: Connection[Any], begun: Restore) -> Restore:
        engine = self._engine
        there = topic_partitions(engine.bootstrap, engine.security)
        slots = [(name, number) for name in sorted(TOPICS) for number in range(there.get(name, 0))]
        ranges = log_ranges(engine.bootstrap, slots, engine.security)
        shards: Shards = {(row.stage, row.shard): row for row in read_shards(connection)}
        for (stage, shard), row in shards.items():
            if stage not in self._hostings:
                raise RestoreRefused(f"{stage}/{shard} is of no stage that this version knows.")
            if row.progress and row.cluster_id != begun.cluster_id:
                raise RestoreRefused(f"{stage}/{shard} belongs to Kafka cluster {row.cluster_id}, not to this one.")
        for place in self._expected(there):
            shards.setdefault(place, self._new_row(place, begun))
        report: dict[str, Any] = {}
        mended = shards
        if self._mending is not None:
            mended, report = self._mending.states(connection, shards, ranges)
        passed: dict[str, dict[str, list[int]]] = {}
        rows: list[ShardRow] = []
        outboxes = outboxes_of(self._hostings, mended, engine.instrument_partitions)
        for place, row in sorted(mended.items()):
            hosting = self._hostings[row.stage]
            stands, over = at_the_end(row, hosting, ranges, begun, engine.instrument_partitions, outboxes=outboxes)
            rows.append(stands)
            if over:
                passed["/".join(place)] = over
        written = replace(begun, report={"shards": len(rows), "passed_over": passed, **report}, step="WRITTEN")
        write_standing(connection, written, rows)
        return written

    def _expected(self, there: Mapping[str, int]) -> Iterable[tuple[str, str]]:
        """Yield every shard that workers of these stages would claim."""
        for name, hosting in self._hostings.items():
            counts = {topic: there.get(topic, 0) for topic in hosting.topic_names()}
            if name == FEED:
                yield from ((FEED, feed) for feed in self._feeds)
            elif hosting.kind is StageKind.OUTBOX:
                yield from ((name, str(number)) for number in range(max(counts.values(), default=1)))
            else:
                yield from ((name, lane_of(topic, p)) for topic, count in counts.items() for p in range(count))

    def _new_row(self, place: tuple[str, str], begun: Restore) -> ShardRow:
        versions = (self._engine.code_version, self._engine.settings_hash)
        return ShardRow(*place, 0, 0, 0, 0, b"", begun.cluster_id, *versions, {})


def outboxes_of(
    hostings: Mapping[str, StageHosting], places: Iterable[tuple[str, str]], partitions: int
) -> dict[str, list[str]]:
    """Return lane -> the sources that may write to it out of an outbox, of all the shards at these places."""
    found: dict[str, list[str]] = {}
    for stage, shard in places:
        if hostings[stage].kind is StageKind.OUTBOX:
            for slot in output_slots(hostings[stage], partitions):
                found.setdefault(lane_of(*slot), []).append(f"{stage}/{shard}")
    return found


def at_the_end(
    row: ShardRow,
    hosting: StageHosting,
    ranges: Ranges,
    begun: Restore,
    partitions: int,
    *,
    outboxes: Mapping[str, Sequence[str]],
) -> tuple[ShardRow, dict[str, list[int]]]:
    """Return a shard that goes on at the ends of its logs, and lane -> [from, to] of what it passes over.

    What an outbox of the backup had not sent goes out again, behind the ends: it was sent by the life that nobody
    remembers, and whoever took it a second time would decide a second time. So ``outboxes`` are heard from this era on.
    """
    progress = msgspec.msgpack.decode(row.progress, type=Progress) if row.progress else Progress()
    passed: dict[str, list[int]] = {}
    for slot in input_slots(hosting, row.shard):
        if slot not in ranges:
            continue
        (start, end), lane = ranges[slot], lane_of(*slot)
        stood = progress.next_offsets.get(lane, start)
        if stood != end:
            passed[lane] = [stood, end]
        progress.next_offsets[lane] = end
        if again := outboxes.get(lane):
            progress.seen.positions.setdefault(lane, {}).update(dict.fromkeys(again, (begun.era - 1, _SEQ_MAX)))
    outputs = output_slots(hosting, partitions)
    progress.output_ends = {lane_of(*slot): ranges[slot][1] for slot in outputs if slot in ranges}
    progress.silent, progress.topic_ids = {}, {}
    stands = replace(
        row,
        epoch=begun.era,
        generation=begun.era,
        # What was kept under the backup's number stays another thing.
        batch=row.batch + 1,
        progress=msgspec.msgpack.encode(progress),
        cluster_id=begun.cluster_id,
    )
    return stands, passed


def input_slots(hosting: StageHosting, shard: str) -> list[Slot]:
    """Return the topic partitions that a shard reads."""
    if hosting.kind is StageKind.OUTBOX:
        return [(topic, int(shard)) for topic in hosting.topic_names()]
    topic, _, number = shard.rpartition("/")
    return [(topic, int(number))] if topic in hosting.topic_names() else []
