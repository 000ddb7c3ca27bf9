"""The database's part of a rescale: is anybody working, what do the shards hold, and the move in one transaction.

From its beginning until it is verified an unfinished row stands in ``topic_rescales``: it keeps workers from claiming
a shard, and says where a command that was killed goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import Connection
from psycopg.types.json import Jsonb

from infra.postgres.snapshots import KEEP

_LOCK: Final = 7_305_471_203_114_503
_PER_STAGE: Final = (
    *("shard", "shard_state", "shard_journal", "shard_outbox"),
    *("shard_snapshot", "shard_version", "shard_pruned"),
)


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One shard as the database has it, with its state. ``progress`` is empty for one that has written none."""

    stage: str
    shard: str
    epoch: int
    generation: int
    batch: int
    reached_ns: int
    progress: bytes
    cluster_id: str
    code_version: str
    settings_hash: str
    state: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Rescale:
    """A rescale that was begun. ``stages``: stage -> [keys moved, digest over them]."""

    before: int
    after: int
    author: str
    why: str
    cluster_id: str
    generation: int = 0
    stages: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    step: str = "CLAIMED"
    ordinal: int = 0


def lock_rescale(connection: Connection[Any]) -> bool:
    """Return whether this session may rescale; another one's may be under way. Held until the session ends."""
    connection.execute("SET tradermind.rescaling = 'on'")
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and bool(row[0])


def unfinished_rescale(connection: Connection[Any]) -> Rescale | None:
    """Return the rescale that was begun and is not verified; None also for a database without our schema."""
    there = connection.execute("SELECT to_regclass('topic_rescales') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return None
    row = connection.execute(
        "SELECT partitions_before, partitions_after, author, why, cluster_id, generation, stages, step, ordinal"
        " FROM topic_rescales WHERE step <> 'DONE'"
    ).fetchone()
    if row is None:
        return None
    stages = {stage: (int(keys), str(digest)) for stage, (keys, digest) in row[6].items()}
    return Rescale(row[0], row[1], row[2], row[3], row[4], row[5], stages, row[7], row[8])


def claim_rescale(connection: Connection[Any], rescale: Rescale) -> None:
    """Note that a rescale begins: from now on no worker claims a shard."""
    connection.execute(
        "INSERT INTO topic_rescales (partitions_before, partitions_after, step, cluster_id, author, why)"
        " VALUES (%s, %s, 'CLAIMED', %s, %s, %s)",
        (rescale.before, rescale.after, rescale.cluster_id, rescale.author, rescale.why),
    )


def drop_claim(connection: Connection[Any]) -> None:
    """Take back a rescale that has done nothing yet; workers may start again."""
    connection.execute("DELETE FROM topic_rescales WHERE step = 'CLAIMED'")


def newest_generation(connection: Connection[Any]) -> int:
    """Return the highest generation that any rescale gave, 0 before the first."""
    row = connection.execute("SELECT coalesce(max(generation), 0) FROM topic_rescales").fetchone()
    assert row is not None
    return int(row[0])


def at_work(connection: Connection[Any], quiet_s: float) -> list[str]:
    """Return a sentence for each sign that a worker lives: a session of its own, or something written lately."""
    signs = [
        f"A worker's session on {name.removeprefix('tradermind ')} is open."
        for (name,) in connection.execute(
            "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'tradermind %/%' AND pid <> pg_backend_pid() ORDER BY 1"
        )
    ]
    for table, more in (("shard", "AND holder NOT IN ('rescale', 'restore')"), ("worker_status", "")):
        rows = connection.execute(
            f"SELECT stage, shard FROM {table}"  # noqa: S608
            f" WHERE updated_at > now() - make_interval(secs => %s) {more} ORDER BY 1, 2",
            (quiet_s,),
        )
        signs += [f"{stage}/{shard} was written less than {quiet_s:g} s ago." for stage, shard in rows]
    return signs


def unsent_shards(connection: Connection[Any]) -> list[str]:
    """Return the names of shards whose outbox is not empty."""
    rows = connection.execute("SELECT DISTINCT stage, shard FROM shard_outbox ORDER BY 1, 2").fetchall()
    return [f"{stage}/{shard}" for stage, shard in rows]


def read_shards(connection: Connection[Any]) -> list[ShardRow]:
    """Return every shard with its state, locked as long as the transaction lasts."""
    rows = connection.execute(
        "SELECT stage, shard, epoch, generation, batch, reached_ns, progress, cluster_id, code_version, settings_hash"
        " FROM shard ORDER BY stage, shard FOR UPDATE"
    ).fetchall()
    states: dict[tuple[str, str], dict[str, bytes]] = {}
    for stage, shard, key, value in connection.execute("SELECT stage, shard, key, value FROM shard_state"):
        states.setdefault((stage, shard), {})[key] = bytes(value)
    return [
        ShardRow(
            *(str(row[0]), str(row[1])),
            *(int(row[2]), int(row[3]), int(row[4]), int(row[5])),
            bytes(row[6]),
            *(str(row[7]), str(row[8]), str(row[9])),
            states.get((row[0], row[1]), {}),
        )
        for row in rows
    ]


def write_move(
    connection: Connection[Any], rescale: Rescale, moved: Sequence[ShardRow], changed: Iterable[ShardRow]
) -> None:
    """Put ``moved`` in the place of all shards of their stages, and give ``changed`` their new progress.

    To be called inside the transaction that has read them. Every epoch rises, so that nobody who held a shard can
    write it. What was journaled and kept of moved stages goes with the topics that it speaks of.
    """
    connection.execute("UPDATE shard SET epoch = epoch + 1")
    for row in changed:
        connection.execute(
            "UPDATE shard SET progress = %s WHERE stage = %s AND shard = %s", (row.progress, row.stage, row.shard)
        )
        # What it had read by then lies in topics that are no more: a recomputation begins here.
        for table in ("shard_snapshot", "shard_version"):
            connection.execute(
                f"DELETE FROM {table} WHERE stage = %s AND shard = %s",  # noqa: S608
                (row.stage, row.shard),
            )
        connection.execute(KEEP.encode(), (row.stage, row.shard, row.epoch + 1))
    stages = sorted({row.stage for row in moved})
    for table in (*_PER_STAGE, "worker_status"):
        connection.execute(f"DELETE FROM {table} WHERE stage = ANY(%s)", (stages,))  # noqa: S608
    for row in moved:
        _insert(connection, row)
    connection.execute(
        "UPDATE topic_rescales SET step = 'MOVED', generation = %s, stages = %s WHERE step = 'CLAIMED'",
        (rescale.generation, Jsonb({stage: list(facts) for stage, facts in rescale.stages.items()})),
    )


def _insert(connection: Connection[Any], row: ShardRow) -> None:
    connection.execute(
        "INSERT INTO shard (stage, shard, epoch, holder, holder_pid, cluster_id, generation, code_version,"
        " settings_hash, batch, reached_ns, progress) VALUES (%s, %s, %s, 'rescale', 0, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(row.stage, row.shard, row.epoch, row.cluster_id, row.generation, row.code_version),
            *(row.settings_hash, row.batch, row.reached_ns, row.progress),
        ),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO shard_state (stage, shard, key, value) VALUES (%s, %s, %s, %s)",
            [(row.stage, row.shard, key, value) for key, value in row.state.items()],
        )
    # A recomputation of what comes after the rescale begins here: the log of what came before is gone.
    connection.execute(KEEP.encode(), (row.stage, row.shard, row.epoch))


def advance(connection: Connection[Any], step: str) -> None:
    """Note that the unfinished rescale has come to ``step``."""
    connection.execute(
        "UPDATE topic_rescales SET step = %s, finished_at = CASE WHEN %s = 'DONE' THEN clock_timestamp() END"
        " WHERE step <> 'DONE'",
        (step, step),
    )


def why_no_worker_may_start(dsn: str) -> str | None:
    """Return why no worker may start now, in one sentence, or None. Raises psycopg.OperationalError."""
    with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
        rescale = unfinished_rescale(connection)
    if rescale is None:
        return None
    return (
        f"A rescale from {rescale.before} to {rescale.after} partitions was begun and not finished: run `tradermind"
        f" topics rescale --partitions {rescale.after}` again."
    )
