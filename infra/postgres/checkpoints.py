"""Where a shard keeps its progress: claimed by epoch, written in one transaction, never by whoever lost it."""

from collections import deque
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from infra.postgres.patient_store import (
    Checkpoint,
    ClaimRefused,
    Commit,
    DatabaseGone,
    PatientStore,
    RunFacts,
    ShardLost,
    ShardName,
)
from infra.postgres.session import ANSWER_S, KEEPALIVES, KeptSession, answer_due
from infra.postgres.snapshots import AGE_S, KEEP, NOTE_VERSION, PRUNE

__all__ = [
    "Checkpoint",
    "ClaimRefused",
    "Commit",
    "DatabaseGone",
    "PatientStore",
    "RunFacts",
    "ShardLost",
    "ShardName",
    "ShardStore",
]

KEEP_MOST_S: Final = 2
_RECENT: Final = 8
"""So many commits that did not wait for the disk are kept: one a second is made, and after 0.6 s each is on it."""
_SESSION: Final = "-c idle_in_transaction_session_timeout=5s -c lock_timeout=10s -c statement_timeout=30s"
_CLAIM_ANSWER_S: Final = 8.0
"""Long enough for a whole state, and short enough for a second try within what an assignment may take."""

# One statement, hence one transaction and one round trip: a batch's commit lies on the way of every order. Where the
# shard has a newer epoch, or not the batch before (it was set back under its holder, or lost it in a power cut),
# ``held`` is empty and nothing at all is written.
_COMMIT: Final = """
    WITH held AS (
        UPDATE shard SET batch = %s, progress = %s, cluster_id = %s, code_version = %s, settings_hash = %s,
            generation = coalesce(%s, generation), reached_ns = %s, updated_at = now()
        WHERE stage = %s AND shard = %s AND epoch = %s AND batch = %s
        RETURNING stage, shard, batch
    ), kept AS (
        INSERT INTO shard_state (stage, shard, key, value)
        SELECT held.stage, held.shard, item.key, item.value
        FROM held, unnest(%b::text[], %b::bytea[]) AS item (key, value)
        ON CONFLICT (stage, shard, key) DO UPDATE SET value = excluded.value
    ), forgotten AS (
        DELETE FROM shard_state AS state USING held
        WHERE (state.stage, state.shard) = (held.stage, held.shard) AND state.key = ANY (%s::text[])
    ), sent AS (
        DELETE FROM shard_outbox AS sent USING held
        WHERE (sent.stage, sent.shard) = (held.stage, held.shard) AND sent.batch <= %s::bigint
    ), journaled AS (
        INSERT INTO shard_journal (stage, shard, batch, inputs)
        SELECT stage, shard, batch, given.inputs
        FROM held, (SELECT %s::bytea AS inputs) AS given WHERE given.inputs IS NOT NULL
    ), queued AS (
        INSERT INTO shard_outbox (stage, shard, batch, messages)
        SELECT stage, shard, batch, given.messages
        FROM held, (SELECT %s::bytea AS messages) AS given WHERE given.messages IS NOT NULL
    )
    SELECT batch FROM held
"""
# As text every byte of the state is written twice and looked through for quotes: a fifth of what an order costs. Of an
# empty list nobody can tell what it is a list of, so it goes as text.
_COMMIT_NO_STATE: Final = _COMMIT.replace("%b", "%s")


class ShardStore(PatientStore):
    """One claimed shard and its database session. Not to be shared between tasks."""

    def __init__(self, dsn: str, name: ShardName, *, durable: bool, answer_s: float = ANSWER_S) -> None:
        commit = "on" if durable else "off"
        options = f"{_SESSION} -c synchronous_commit={commit}"
        application = f"tradermind {name.stage}/{name.shard}"
        self._dsn = make_conninfo(
            dsn, options=options, application_name=application, connect_timeout=5, tcp_user_timeout=5000, **KEEPALIVES
        )
        self._name = name
        self._epoch = 0
        self._answer_s = answer_s
        self._recent: deque[Commit] = deque(maxlen=0 if durable else _RECENT)
        self._connection: AsyncConnection[Any] | None = None

    @property
    def epoch(self) -> int:
        """The epoch under which this holder writes."""
        return self._epoch

    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        """Take the shard over in one transaction. Raises ClaimRefused while a rescale is under way."""
        try:
            return await self._claim_once(facts)
        except psycopg.errors.RaiseException as refused:
            sentence = refused.diag.message_primary or "the database refuses it"
            raise ClaimRefused(f"{self._name.stage}/{self._name.shard} cannot be claimed: {sentence}.") from refused

    async def _claim_once(self, facts: RunFacts) -> Checkpoint:
        connection = await self._connected()
        with answer_due(connection, _CLAIM_ANSWER_S):
            return await self._claim_by(connection, facts)

    async def _claim_by(self, connection: AsyncConnection[Any], facts: RunFacts) -> Checkpoint:
        name = self._name
        async with connection.transaction():
            row = await (
                await connection.execute(
                    "SELECT holder_pid, epoch FROM shard WHERE stage = %s AND shard = %s", (name.stage, name.shard)
                )
            ).fetchone()
            if row is not None:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid = %s AND pid <> pg_backend_pid() AND application_name = %s",
                    (row[0], f"tradermind {name.stage}/{name.shard}"),
                )
            claimed = await (
                await connection.execute(
                    "INSERT INTO shard AS s (stage, shard, epoch, holder, holder_pid, cluster_id, generation,"
                    " code_version, settings_hash, progress)"
                    " VALUES (%s, %s, 1, %s, pg_backend_pid(), %s, 1, %s, %s, '')"
                    " ON CONFLICT (stage, shard) DO UPDATE SET epoch = s.epoch + 1, holder = excluded.holder,"
                    " holder_pid = excluded.holder_pid, updated_at = now()"
                    " RETURNING epoch, generation, batch, progress, cluster_id, code_version, settings_hash",
                    (name.stage, name.shard, name.holder, facts.cluster_id, facts.code_version, facts.settings_hash),
                )
            ).fetchone()
            assert claimed is not None
            self._epoch = int(claimed[0])
            snapshot_age_s = await self._note_versions(connection, claimed, facts)
            state = await self._rows(connection, "SELECT key, value FROM shard_state WHERE stage = %s AND shard = %s")
            unsent = await self._rows(
                connection, "SELECT batch, messages FROM shard_outbox WHERE stage = %s AND shard = %s ORDER BY batch"
            )
        return Checkpoint(
            epoch=self._epoch,
            generation=int(claimed[1]),
            batch=int(claimed[2]),
            progress=bytes(claimed[3]),
            state={str(key): bytes(value) for key, value in state},
            unsent=tuple((int(batch), bytes(messages)) for batch, messages in unsent),
            cluster_id=str(claimed[4]),
            code_version=str(claimed[5]),
            settings_hash=str(claimed[6]),
            fresh=not claimed[3],
            snapshot_age_s=snapshot_age_s,
        )

    async def _note_versions(
        self, connection: AsyncConnection[Any], claimed: tuple[Any, ...], facts: RunFacts
    ) -> float | None:
        """Write down from which batch on who holds the shard, with the shard as another version left it."""
        place = (self._name.stage, self._name.shard)
        if claimed[3] and (claimed[5], claimed[6]) != (facts.code_version, facts.settings_hash):
            # A stretch between two snapshots is of one version, so that each can be recomputed by what has made it.
            await connection.execute(KEEP, (*place, self._epoch))
        versions = {"code": facts.code_version, "settings": facts.settings_hash}
        await connection.execute(NOTE_VERSION, {"stage": place[0], "shard": place[1], **versions})
        row = await (await connection.execute(AGE_S, place)).fetchone()
        return None if row is None or row[0] is None else float(row[0])

    async def _rows(self, connection: AsyncConnection[Any], query: str) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(query.encode(), (self._name.stage, self._name.shard))
        return await cursor.fetchall()

    async def is_written(self, batch: int) -> bool | None:
        """Return whether a commit whose answer was lost had arrived, None while nobody answers. Raises ShardLost."""
        try:
            connection = await self._connected()
            # An update waits for a lost commit that the server is still carrying out, and then sees what it wrote;
            # a mere look would say that it had not arrived, and it would be written twice.
            with answer_due(connection, self._answer_s):
                cursor = await connection.execute(
                    "UPDATE shard SET holder_pid = pg_backend_pid() WHERE stage = %s AND shard = %s AND epoch = %s"
                    " RETURNING batch",
                    (self._name.stage, self._name.shard, self._epoch),
                )
                row = await cursor.fetchone()
        except psycopg.OperationalError:
            await self.close()
            return None
        if row is None:
            raise ShardLost(f"{self._name.stage}/{self._name.shard} belongs to another worker now.")
        return int(row[0]) == batch

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        """Write a batch in one statement. What a power cut took of batches that did not wait for it goes first."""
        written = await self._write(commit, facts)
        if not written:
            for earlier in self._recent:
                # Each finds its place only after the one before it: what is there already changes nothing.
                await self._write(earlier, facts)
            written = await self._write(commit, facts)
        if not written:
            name = f"{self._name.stage}/{self._name.shard}"
            raise ShardLost(f"{name} belongs to another worker now, or its database was set back.")
        self._recent.append(commit)

    async def _write(self, commit: Commit, facts: RunFacts) -> bool:
        """Return whether the batch was written: the shard is ours still, and has the batch before it."""
        connection = await self._connected()
        kept = {key: value for key, value in commit.state.items() if value is not None}
        forgotten = [key for key, value in commit.state.items() if value is None]
        with answer_due(connection, self._answer_s):
            cursor = await connection.execute(
                _COMMIT if kept else _COMMIT_NO_STATE,
                (
                    *(commit.batch, commit.progress, facts.cluster_id, facts.code_version, facts.settings_hash),
                    *(commit.generation, commit.reached_ns),
                    *(self._name.stage, self._name.shard, self._epoch, commit.batch - 1),
                    *(list(kept), list(kept.values()), forgotten, commit.sent_through, commit.journal, commit.outbox),
                ),
                prepare=True,
                binary=True,
            )
        return await cursor.fetchone() is not None

    async def keep_once(self, hours: int) -> None:
        """Keep what is written by now, whole. It never waits long: whoever asks has orders to go on with."""
        connection = await self._connected()
        place = (self._name.stage, self._name.shard)
        with answer_due(connection, self._answer_s):
            await self._keep_by(connection, place, hours)

    async def _keep_by(self, connection: AsyncConnection[Any], place: tuple[str, str], hours: int) -> None:
        async with connection.transaction():
            # The next commit that must be durable takes this one with it.
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(f"SET LOCAL statement_timeout = '{KEEP_MOST_S}s'")
            await connection.execute(KEEP, (*place, self._epoch))
            await connection.execute(PRUNE, (*place, hours))

    async def _connected(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(self._dsn, autocommit=True)
        return self._connection

    async def close(self) -> None:
        """Give the session back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()


async def reached_times_ns(session: KeptSession, stages: tuple[str, ...]) -> dict[str, int]:
    """Return stage -> the newest time (ns) that it has stepped and committed; the least of its shards."""
    cursor = await (await session.connection()).execute(
        "SELECT stage, min(reached_ns) FROM shard WHERE stage = ANY(%s) GROUP BY stage", (list(stages),)
    )
    return {str(stage): int(reached) for stage, reached in await cursor.fetchall()}


async def read_progress(connection: AsyncConnection[Any], stage: str, shard: str) -> bytes:
    """Return the progress in a shard's newest checkpoint; empty when it has none."""
    cursor = await connection.execute("SELECT progress FROM shard WHERE stage = %s AND shard = %s", (stage, shard))
    row = await cursor.fetchone()
    return b"" if row is None else bytes(row[0])


async def read_epoch(connection: AsyncConnection[Any], stage: str, shard: str) -> int:
    """Return the epoch of a shard's newest claim; 0 when it has never been claimed."""
    cursor = await connection.execute("SELECT epoch FROM shard WHERE stage = %s AND shard = %s", (stage, shard))
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def write_status(session: KeptSession, rows: list[tuple[str, str, str, str]]) -> None:
    """Keep the newest counters of shards: (stage, shard, worker, JSON). Raises psycopg.Error."""
    async with (await session.connection()).cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO worker_status (stage, shard, worker, counters) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (stage, shard) DO UPDATE SET worker = excluded.worker, counters = excluded.counters,"
            " updated_at = now()",
            rows,
        )
