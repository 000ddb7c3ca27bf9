"""Shards as they stood now and then, and who held them: what a recomputation begins with, and what it may claim."""

from dataclasses import dataclass
from typing import Any, Final, Self

from psycopg import Connection

# One statement sees one state of the tables, and state and progress are only ever written together.
KEEP: Final = """
    INSERT INTO shard_snapshot (stage, shard, batch, epoch, generation, code_version, settings_hash, reached_ns,
        progress, state_keys, state_values)
    SELECT held.stage, held.shard, held.batch, held.epoch, held.generation, held.code_version, held.settings_hash,
        held.reached_ns, held.progress, coalesce(whole.keys, '{}'), coalesce(whole.contents, '{}')
    FROM shard AS held, LATERAL (
        SELECT array_agg(key ORDER BY key) AS keys, array_agg(value ORDER BY key) AS contents
        FROM shard_state AS state WHERE (state.stage, state.shard) = (held.stage, held.shard)) AS whole
    WHERE held.stage = %s AND held.shard = %s AND held.epoch = %s AND held.progress <> ''
    ON CONFLICT (stage, shard, batch) DO NOTHING
"""
PRUNE: Final = """
    DELETE FROM shard_snapshot WHERE stage = %s AND shard = %s AND created_at < now() - make_interval(hours => %s)
"""
AGE_S: Final = """
    SELECT extract(epoch FROM clock_timestamp() - max(created_at))::float8
    FROM shard_snapshot WHERE stage = %s AND shard = %s
"""
NOTE_VERSION: Final = """
    INSERT INTO shard_version AS known (stage, shard, after_batch, reached_ns, code_version, settings_hash)
    SELECT stage, shard, batch, reached_ns, %(code)s, %(settings)s FROM shard
    WHERE stage = %(stage)s AND shard = %(shard)s AND NOT EXISTS (
        SELECT FROM (
            SELECT code_version, settings_hash FROM shard_version AS newest
            WHERE newest.stage = %(stage)s AND newest.shard = %(shard)s ORDER BY after_batch DESC LIMIT 1) AS newest
        WHERE (code_version, settings_hash) = (%(code)s, %(settings)s))
    ON CONFLICT (stage, shard, after_batch) DO UPDATE SET code_version = excluded.code_version,
        settings_hash = excluded.settings_hash, since = excluded.since
"""


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A shard after ``batch``. ``reached_ns`` is the newest time that it had stepped, on the run's clock."""

    batch: int
    generation: int
    reached_ns: int
    progress: bytes
    state: dict[str, bytes]
    code_version: str
    settings_hash: str

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> Self:
        """Return the snapshot in a row of ``_SNAPSHOT``."""
        batch, generation, reached_ns, progress, keys, values, code, settings = row
        state = {str(key): bytes(value) for key, value in zip(keys, values, strict=True)}
        return cls(int(batch), int(generation), int(reached_ns), bytes(progress), state, str(code), str(settings))


@dataclass(frozen=True, slots=True)
class HeldBy:
    """What held a shard from the batch after ``after_batch`` on: code and settings, since the run's time was this."""

    after_batch: int
    reached_ns: int
    code_version: str
    settings_hash: str


_SNAPSHOT: Final = """
    SELECT batch, generation, reached_ns, progress, state_keys, state_values, code_version, settings_hash
    FROM shard_snapshot WHERE stage = %s AND shard = %s
"""


def snapshot_before(connection: Connection[Any], stage: str, shard: str, time_ns: int) -> KeptSnapshot | None:
    """Return the newest kept snapshot that had not stepped ``time_ns`` yet, on the run's clock, or None."""
    # Of those that reached the same time, the last: nothing was stepped in between that counts for the time asked.
    query = _SNAPSHOT + " AND reached_ns < %s ORDER BY batch DESC LIMIT 1"
    row = connection.execute(query.encode(), (stage, shard, time_ns)).fetchone()
    return None if row is None else KeptSnapshot.of_row(row)


def snapshot_at(connection: Connection[Any], stage: str, shard: str, batch: int) -> KeptSnapshot | None:
    """Return the snapshot that was kept after this very batch, or None."""
    query = _SNAPSHOT + " AND batch = %s"
    row = connection.execute(query.encode(), (stage, shard, batch)).fetchone()
    return None if row is None else KeptSnapshot.of_row(row)


def progress_after(connection: Connection[Any], stage: str, shard: str, batch: int) -> bytes | None:
    """Return the progress in the first kept snapshot after a batch, or None."""
    row = connection.execute(
        "SELECT progress FROM shard_snapshot WHERE stage = %s AND shard = %s AND batch > %s ORDER BY batch LIMIT 1",
        (stage, shard, batch),
    ).fetchone()
    return None if row is None else bytes(row[0])


def holders_of(connection: Connection[Any], stage: str, shard: str) -> list[HeldBy]:
    """Return which code and settings held a shard, in order; neighbours differ."""
    rows = connection.execute(
        "SELECT after_batch, reached_ns, code_version, settings_hash FROM shard_version"
        " WHERE stage = %s AND shard = %s ORDER BY after_batch",
        (stage, shard),
    ).fetchall()
    holders = [HeldBy(int(batch), int(reached), str(code), str(settings)) for batch, reached, code, settings in rows]
    return [
        one for before, one in zip([None, *holders], holders, strict=False) if before is None or _other(before, one)
    ]


def _other(before: HeldBy, one: HeldBy) -> bool:
    return (before.code_version, before.settings_hash) != (one.code_version, one.settings_hash)
