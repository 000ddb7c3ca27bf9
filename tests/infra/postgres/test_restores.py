"""The database's part of a restore: no worker takes a shard meanwhile, shards stand anew at once, the audit stays."""

import asyncio
from dataclasses import replace

import psycopg
import pytest

from infra.postgres.checkpoints import Checkpoint, ClaimRefused, Commit, RunFacts, ShardLost, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.rescales import ShardRow, lock_rescale, read_shards
from infra.postgres.restores import (
    Restore,
    claim_restore,
    drop_claim,
    finish_restore,
    newest_known,
    read_standings,
    unfinished_restore,
    why_no_worker_may_start,
    write_standing,
)

FACTS = RunFacts("cluster", "1", "toy")
NAME = ShardName("decider", "0", "test")
ERA = 1_700_000_000
BEGUN = Restore("somebody", "the disk broke", ERA, "cluster")


async def _claimed(dsn: str, commit: Commit | None = None) -> Checkpoint:
    store = ShardStore(dsn, NAME, durable=True)
    try:
        checkpoint = await store.claim(FACTS)
        if commit is not None:
            await store.commit(commit, FACTS)
        return checkpoint
    finally:
        await store.close()


def test_no_worker_claims_a_shard_between_the_beginning_and_the_end_of_a_restore(database: str) -> None:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        assert lock_rescale(connection)
        claim_restore(connection, BEGUN)
        assert "tradermind restore" in (why_no_worker_may_start(database) or "")
        with pytest.raises(ClaimRefused, match="a restore is under way"):
            asyncio.run(_claimed(database))
        with pytest.raises(psycopg.errors.UniqueViolation):
            claim_restore(connection, BEGUN)
        drop_claim(connection)
        assert unfinished_restore(connection) is None
        assert why_no_worker_may_start(database) is None
    assert asyncio.run(_claimed(database)).epoch == 1


def test_every_shard_stands_anew_and_nobody_of_before_writes_it(database: str) -> None:
    migrate(database)
    commit = Commit(1, b"old", {"kept": b"1", "gone": b"2"}, journal=b"j", outbox=b"unsent")
    asyncio.run(_claimed(database, commit))
    with psycopg.connect(database, autocommit=True) as connection:
        lock_rescale(connection)
        assert newest_known(connection) == 1
        claim_restore(connection, BEGUN)
        (row,) = read_shards(connection)
        new = ShardRow("risk", "0", ERA, ERA, 1, 0, b"end", "cluster", "1", "toy", {})
        stands = replace(row, epoch=ERA, generation=ERA, batch=2, progress=b"new", state={"kept": b"3"})
        with connection.transaction():
            write_standing(connection, replace(BEGUN, report={"shards": 2}), [stands, new])
        written = unfinished_restore(connection)
        assert written is not None
        assert (written.step, written.report, written.era) == ("WRITTEN", {"shards": 2}, ERA)
        drop_claim(connection)
        assert unfinished_restore(connection) == written, "what is written is not taken back"
        finish_restore(connection)
        assert {
            place: standing.progress for place, standing in read_standings(connection, ["decider", "risk"]).items()
        } == {
            ("decider", "0"): b"new",
            ("risk", "0"): b"end",
        }
        assert connection.execute("SELECT count(*) FROM shard_journal").fetchone() == (0,)
        kept = connection.execute("SELECT stage, batch, progress FROM shard_snapshot ORDER BY 1").fetchall()
        assert kept == [("decider", 2, b"new"), ("risk", 1, b"end")]
        assert newest_known(connection) == ERA
        for change in ("UPDATE restores SET why = 'other'", "DELETE FROM restores"):
            with pytest.raises(psycopg.errors.RaiseException, match="never changed"):
                connection.execute(change)
    after = asyncio.run(_claimed(database))
    assert (after.epoch, after.generation, after.batch, after.progress) == (ERA + 1, ERA, 2, b"new")
    assert (after.state, after.unsent) == ({"kept": b"3"}, ((1, b"unsent"),)), "what was to be sent still is"


def test_whoever_holds_a_shard_whose_database_is_set_back_under_it_writes_nothing_more(database: str) -> None:
    """A standby that was behind is promoted: what was touched in the lost batches would never be written again."""
    migrate(database)

    async def hold() -> None:
        store = ShardStore(database, NAME, durable=True)
        try:
            await store.claim(FACTS)
            for batch in (1, 2):
                await store.commit(Commit(batch, b"p", {"key": b"%d" % batch}), FACTS)
            with psycopg.connect(database) as connection:
                connection.execute("UPDATE shard SET batch = 1")
            with pytest.raises(ShardLost, match="its database was set back"):
                await store.commit(Commit(3, b"p", {}), FACTS)
        finally:
            await store.close()

    asyncio.run(hold())


def test_what_a_power_cut_took_of_a_living_shard_is_written_again(database: str) -> None:
    """A checkpoint that does not wait for the disk may be lost with its keys, which nobody may touch again for long."""
    migrate(database)

    async def hold() -> None:
        store = ShardStore(database, NAME, durable=False)
        try:
            await store.claim(FACTS)
            for batch in (1, 2, 3):
                await store.commit(Commit(batch, b"p%d" % batch, {f"key{batch}": b"1", "all": b"%d" % batch}), FACTS)
            with psycopg.connect(database) as connection:
                connection.execute("UPDATE shard SET batch = 1, progress = 'p1'")
                connection.execute("DELETE FROM shard_state WHERE key IN ('key2', 'key3')")
                connection.execute("UPDATE shard_state SET value = '1' WHERE key = 'all'")
            await store.commit(Commit(4, b"p4", {"key1": None}), FACTS)
        finally:
            await store.close()

    asyncio.run(hold())
    found = asyncio.run(_claimed(database))
    assert (found.batch, found.progress) == (4, b"p4")
    assert found.state == {"key2": b"1", "key3": b"1", "all": b"3"}


def test_a_database_without_our_schema_has_no_restore_under_way(database: str) -> None:
    assert why_no_worker_may_start(database) is None
