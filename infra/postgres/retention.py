"""Removes of a shard's past what nothing begins with any more: journal rows and snapshots older than their topics.

A recomputation begins with a snapshot and reads the journal after it. So the newest snapshot of a shard stays, however
old; those younger than the cut stay; and the journal stays from the oldest of these on. A shard without a snapshot
keeps all of it. Checkpoints, outboxes, audits and dead letters are not touched: a quarantine lives in these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

# The rows of one batch are written together, so that "older than the cut" is asked of the row, and "before the
# oldest kept snapshot" of its batch.
_CUT: Final = """
    WITH kept AS (
        SELECT min(batch) AS batch FROM shard_snapshot
        WHERE stage = %(stage)s AND shard = %(shard)s AND (
            created_at >= now() - make_interval(hours => %(hours)s)
            OR batch = (SELECT max(batch) FROM shard_snapshot WHERE stage = %(stage)s AND shard = %(shard)s))
    )
    SELECT max(journal.batch), count(journal.batch), coalesce(sum(pg_column_size(journal.*)), 0),
        (SELECT count(*) FROM shard_snapshot AS old, kept
            WHERE old.stage = %(stage)s AND old.shard = %(shard)s AND old.batch < kept.batch),
        (SELECT coalesce(sum(pg_column_size(old.*)), 0) FROM shard_snapshot AS old, kept
            WHERE old.stage = %(stage)s AND old.shard = %(shard)s AND old.batch < kept.batch),
        (SELECT batch FROM kept)
    FROM kept JOIN shard_journal AS journal
        ON journal.stage = %(stage)s AND journal.shard = %(shard)s AND journal.batch <= kept.batch
            AND journal.written_at < now() - make_interval(hours => %(hours)s)
"""
_NOTE: Final = """
    INSERT INTO shard_pruned AS known (stage, shard, through_batch) VALUES (%(stage)s, %(shard)s, %(through)s)
    ON CONFLICT (stage, shard) DO UPDATE
        SET through_batch = greatest(known.through_batch, excluded.through_batch), pruned_at = clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed of one shard, or would be. Bytes are those of the rows as stored, before any index.

    ``through_batch`` is the last batch whose journal is gone; None when all of it is kept.
    """

    stage: str
    shard: str
    hours: int
    journal_rows: int
    journal_bytes: int
    snapshots: int
    snapshot_bytes: int
    through_batch: int | None


def prune(connection: Connection[Any], hours_of: Mapping[str, int], *, dry_run: bool) -> list[Pruned]:
    """Remove what is older than a stage's hours, shard by shard, each in a transaction of its own.

    A stage that is not named keeps everything. The connection is in autocommit. Raises psycopg.Error.
    """
    shards = connection.execute("SELECT stage, shard FROM shard ORDER BY stage, shard").fetchall()
    return [
        _prune_shard(connection, str(stage), str(shard), hours_of[stage], dry_run=dry_run)
        for stage, shard in shards
        if stage in hours_of
    ]


def known_stages(connection: Connection[Any]) -> list[str]:
    """Return the names of the stages that have a shard."""
    return [str(stage) for (stage,) in connection.execute("SELECT DISTINCT stage FROM shard ORDER BY stage").fetchall()]


def oldest_kept_ns(connection: Connection[Any], stage: str, shard: str) -> int | None:
    """Return the time, on the run's clock, that the oldest kept snapshot had reached; None without one."""
    row = connection.execute(
        "SELECT reached_ns FROM shard_snapshot WHERE stage = %s AND shard = %s ORDER BY batch LIMIT 1", (stage, shard)
    ).fetchone()
    return None if row is None else int(row[0])


def pruned_through(connection: Connection[Any], stage: str, shard: str) -> int:
    """Return the last batch whose journal was pruned, 0 when all of it is kept."""
    row = connection.execute(
        "SELECT through_batch FROM shard_pruned WHERE stage = %s AND shard = %s", (stage, shard)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _prune_shard(connection: Connection[Any], stage: str, shard: str, hours: int, *, dry_run: bool) -> Pruned:
    place: dict[str, Any] = {"stage": stage, "shard": shard, "hours": hours}
    with connection.transaction():
        row = connection.execute(_CUT.encode(), place).fetchone()
        assert row is not None
        through, rows, journal_bytes, snapshots, snapshot_bytes, kept = row
        if not dry_run:
            if through is not None:
                connection.execute(_NOTE.encode(), place | {"through": through})
                connection.execute(
                    "DELETE FROM shard_journal WHERE stage = %(stage)s AND shard = %(shard)s AND batch <= %(through)s",
                    place | {"through": through},
                )
            if snapshots:
                connection.execute(
                    "DELETE FROM shard_snapshot WHERE stage = %(stage)s AND shard = %(shard)s AND batch < %(kept)s",
                    place | {"kept": kept},
                )
    return Pruned(stage, shard, hours, int(rows), int(journal_bytes), int(snapshots), int(snapshot_bytes), through)
