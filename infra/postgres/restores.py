"""The database's part of a restore: where shards stand, the new standing in one transaction, and the audit's row.

From its beginning until it is done an unfinished row stands in ``restores``: it keeps workers from claiming a shard,
and says where a command that was killed goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import Connection
from psycopg.types.json import Jsonb

from infra.postgres.rescales import ShardRow
from infra.postgres.rescales import why_no_worker_may_start as why_a_rescale_forbids_it
from infra.postgres.snapshots import KEEP

_PAST = ("shard_journal", "shard_snapshot", "shard_version", "shard_pruned")


class Standing(NamedTuple):
    """Where a shard stands: ``progress`` is empty when it has never written a checkpoint."""

    generation: int
    progress: bytes


NO_STANDING: Final = Standing(0, b"")


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore that was begun. ``report``: what was done, for people; see the table."""

    author: str
    why: str
    era: int
    cluster_id: str
    report: Mapping[str, Any] = field(default_factory=dict)
    step: str = "CLAIMED"
    ordinal: int = 0


def read_standings(connection: Connection[Any], stages: Sequence[str]) -> dict[tuple[str, str], Standing]:
    """Return (stage, shard) -> where it stands, of every shard of these stages."""
    rows = connection.execute(
        "SELECT stage, shard, generation, progress FROM shard WHERE stage = ANY(%s)", (list(stages),)
    ).fetchall()
    return {(stage, shard): Standing(int(generation), bytes(progress)) for stage, shard, generation, progress in rows}


def unfinished_restore(connection: Connection[Any]) -> Restore | None:
    """Return the restore that was begun and is not done; None also for a database without our schema."""
    there = connection.execute("SELECT to_regclass('restores') IS NOT NULL").fetchone()
    if there is None or not there[0]:
        return None
    row = connection.execute(
        "SELECT author, why, era, cluster_id, report, step, ordinal FROM restores WHERE step <> 'DONE'"
    ).fetchone()
    return None if row is None else Restore(*row)


def claim_restore(connection: Connection[Any], restore: Restore) -> None:
    """Note that a restore begins: from now on no worker claims a shard."""
    connection.execute(
        "INSERT INTO restores (step, era, cluster_id, author, why) VALUES ('CLAIMED', %s, %s, %s, %s)",
        (restore.era, restore.cluster_id, restore.author, restore.why),
    )


def drop_claim(connection: Connection[Any]) -> None:
    """Take back a restore that has done nothing yet."""
    connection.execute("DELETE FROM restores WHERE step = 'CLAIMED'")


def newest_known(connection: Connection[Any]) -> int:
    """Return the highest generation or epoch that this database knows of."""
    row = connection.execute(
        "SELECT greatest((SELECT max(greatest(generation, epoch)) FROM shard), (SELECT max(era) FROM restores),"
        " (SELECT max(generation) FROM topic_rescales), 0)"
    ).fetchone()
    assert row is not None
    return int(row[0])


def write_standing(connection: Connection[Any], restore: Restore, rows: Iterable[ShardRow]) -> None:
    """Put every shard where ``rows`` say. To be called inside the transaction that has read them.

    Journal and snapshots go: a recomputation begins here, with the snapshot that is kept of each.
    """
    for table in _PAST:
        connection.execute(f"DELETE FROM {table}".encode())  # noqa: S608
    for row in rows:
        connection.execute(
            "INSERT INTO shard (stage, shard, epoch, holder, holder_pid, cluster_id, generation, code_version,"
            " settings_hash, batch, reached_ns, progress) VALUES (%s, %s, %s, 'restore', 0, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (stage, shard) DO UPDATE SET epoch = excluded.epoch, holder = excluded.holder,"
            " holder_pid = 0, cluster_id = excluded.cluster_id, generation = excluded.generation,"
            " batch = excluded.batch, progress = excluded.progress",
            (
                *(row.stage, row.shard, row.epoch, row.cluster_id, row.generation, row.code_version),
                *(row.settings_hash, row.batch, row.reached_ns, row.progress),
            ),
        )
        connection.execute("DELETE FROM shard_state WHERE stage = %s AND shard = %s", (row.stage, row.shard))
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO shard_state (stage, shard, key, value) VALUES (%s, %s, %s, %s)",
                [(row.stage, row.shard, key, value) for key, value in row.state.items()],
            )
        connection.execute(KEEP.encode(), (row.stage, row.shard, row.epoch))
    connection.execute(
        "UPDATE restores SET step = 'WRITTEN', report = %s WHERE step = 'CLAIMED'", (Jsonb(restore.report),)
    )


def finish_restore(connection: Connection[Any]) -> None:
    """Note that the unfinished restore is done: workers may start."""
    connection.execute("UPDATE restores SET step = 'DONE', finished_at = clock_timestamp() WHERE step <> 'DONE'")


def newest_recorded(connection: Connection[Any], tables: Iterable[str]) -> tuple[int, int]:
    """Return the newest (generation, seq) that any of these tables of the record holds; (0, 0) for none."""
    newest = (0, 0)
    for table in tables:
        row = connection.execute(
            f"SELECT generation, seq FROM {table} ORDER BY generation DESC, seq DESC LIMIT 1".encode()  # noqa: S608
        ).fetchone()
        newest = newest if row is None else max(newest, (int(row[0]), int(row[1])))
    return newest


def why_no_worker_may_start(dsn: str) -> str | None:
    """Return why no worker may start now, in one sentence, or None. Raises psycopg.OperationalError."""
    with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
        restore = unfinished_restore(connection)
    if restore is not None:
        return "A restore was begun and not finished: run `tradermind restore` again."
    return why_a_rescale_forbids_it(dsn)
