"""What the engine may rely on of whatever keeps its checkpoints: Postgres, and the simulation's database, alike."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import psycopg
import pytest

from infra.postgres.checkpoints import ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.patient_store import Commit, DatabaseGone, PatientStore, RunFacts, ShardLost, ShardName
from infra.postgres.snapshots import HeldBy, holders_of, progress_after, snapshot_before
from streams.simulation.database import SimulatedDatabase, SimulatedStore
from streams.simulation.faults import CALM, Dice
from streams.simulation.process import SimulatedProcess

FACTS = RunFacts("cluster", "code", "settings")
COMMIT = Commit(
    batch=1,
    progress=b"p1",
    state={"a": b"1", "b": b"2"},
    journal=b"inputs 1",
    outbox=b"messages 1",
    generation=3,
    reached_ns=7,
)


class Kit(Protocol):
    """One kind of store: how it is opened, and what its world can be made to do."""

    def open(self, holder: str = "one") -> PatientStore:
        """Return a new holder's store of the one shard."""

    def forgetful(self, holder: str = "one") -> PatientStore:
        """Return a store whose first commit is written, and its answer lost."""

    async def journal(self) -> list[tuple[int, bytes]]:
        """Return the shard's journal."""

    async def snapshots(self) -> list[tuple[int, bytes, dict[str, bytes], str]]:
        """Return the kept snapshots: batch, progress, state, code version."""

    def commit_under_way(self, epoch: int, commit: Commit, lasts_s: float) -> Any:
        """A context in which a commit without a client is being carried out, and is done after a while."""


class PostgresKit:
    """The real one."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def open(self, holder: str = "one") -> PatientStore:
        return ShardStore(self.dsn, ShardName("stage", "0", holder), durable=True)

    def forgetful(self, holder: str = "one") -> PatientStore:
        return _Forgetful(self.dsn, ShardName("stage", "0", holder), durable=True)

    async def journal(self) -> list[tuple[int, bytes]]:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            cursor = await connection.execute("SELECT batch, inputs FROM shard_journal ORDER BY batch")
            return [(int(batch), bytes(inputs)) for batch, inputs in await cursor.fetchall()]

    async def snapshots(self) -> list[tuple[int, bytes, dict[str, bytes], str]]:
        query = "SELECT batch, progress, state_keys, state_values, code_version FROM shard_snapshot ORDER BY batch"
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            rows = await (await connection.execute(query)).fetchall()
        return [
            (int(batch), bytes(progress), dict(zip(keys, map(bytes, values), strict=True)), str(code))
            for batch, progress, keys, values, code in rows
        ]

    @asynccontextmanager
    async def commit_under_way(self, epoch: int, commit: Commit, lasts_s: float) -> AsyncIterator[None]:
        connection = await psycopg.AsyncConnection.connect(self.dsn)
        await connection.execute(
            "UPDATE shard SET batch = %s, progress = %s WHERE stage = 'stage' AND epoch = %s",
            (commit.batch, commit.progress, epoch),
        )
        await connection.execute(
            "INSERT INTO shard_journal (stage, shard, batch, inputs) VALUES ('stage', '0', %s, %s)",
            (commit.batch, commit.journal),
        )

        async def finish() -> None:
            await asyncio.sleep(lasts_s)
            await connection.commit()
            await connection.close()

        finishing = asyncio.ensure_future(finish())
        yield
        await finishing


class _Forgetful(ShardStore):
    forgets = True

    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        await super().write_once(commit, facts)
        if self.forgets:
            self.forgets = False
            raise psycopg.OperationalError("the answer is lost")


class SimulatedKit:
    """The simulation's."""

    def __init__(self) -> None:
        self.database = SimulatedDatabase()
        self.dice = Dice(random.Random(1), CALM)

    def open(self, holder: str = "one") -> PatientStore:
        return SimulatedStore(self.database, ShardName("stage", "0", holder), SimulatedProcess(holder), self.dice)

    def forgetful(self, holder: str = "one") -> PatientStore:
        dice = Dice(random.Random(1), replace(CALM, commit_answer_lost=1.0))
        store = SimulatedStore(self.database, ShardName("stage", "0", holder), SimulatedProcess(holder), dice)
        asyncio.get_running_loop().call_later(0.04, setattr, dice, "odds", CALM)
        return store

    async def journal(self) -> list[tuple[int, bytes]]:
        return self.database.shards["stage", "0"].journal

    async def snapshots(self) -> list[tuple[int, bytes, dict[str, bytes], str]]:
        kept = self.database.shards["stage", "0"].snapshots
        return [(batch, rows.progress, rows.state, rows.facts.code_version) for batch, rows in sorted(kept.items())]

    @asynccontextmanager
    async def commit_under_way(self, epoch: int, commit: Commit, lasts_s: float) -> AsyncIterator[None]:
        done = self.database.locked["stage", "0"] = asyncio.Event()

        def finish() -> None:
            assert self.database.write(ShardName("stage", "0", ""), epoch, commit, FACTS)
            del self.database.locked["stage", "0"]
            done.set()

        asyncio.get_running_loop().call_later(lasts_s, finish)
        yield
        await done.wait()


@pytest.fixture(params=["postgres", "simulated"])
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each test runs against both."""
    if request.param == "simulated":
        return SimulatedKit()
    dsn = request.getfixturevalue("database")
    migrate(dsn)
    return PostgresKit(dsn)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(bounded())


def test_a_claim_gives_back_what_was_committed_under_the_next_epoch(kit: Kit) -> None:
    async def scenario() -> None:
        first = kit.open()
        fresh = await first.claim(FACTS)
        assert (fresh.epoch, fresh.generation, fresh.batch, fresh.fresh) == (1, 1, 0, True)
        assert (fresh.state, fresh.unsent) == ({}, ())
        await first.commit(COMMIT, FACTS)
        await first.commit(Commit(batch=2, progress=b"p2", state={"a": None, "c": b"3"}, outbox=b"messages 2"), FACTS)
        await first.close()
        second = kit.open("two")
        found = await second.claim(RunFacts("elsewhere", "new", "new"))
        assert (found.epoch, found.generation, found.batch, found.progress) == (2, 3, 2, b"p2")
        assert found.state == {"b": b"2", "c": b"3"}
        assert found.unsent == ((1, b"messages 1"), (2, b"messages 2"))
        facts = (found.cluster_id, found.code_version, found.settings_hash, found.fresh)
        assert facts == ("cluster", "code", "settings", False), (
            "the row names the checkpoint's facts, not the claimer's"
        )
        assert second.epoch == 2
        await second.close()
        assert await kit.journal() == [(1, b"inputs 1")]

    _run(scenario)


def test_a_snapshot_is_the_shard_as_it_was_written_by_then(kit: Kit) -> None:
    async def scenario() -> None:
        store = kit.open()
        assert (await store.claim(FACTS)).snapshot_age_s is None
        assert await store.keep_snapshot(1), "before the first commit there is nothing to keep"
        assert await kit.snapshots() == []
        await store.commit(COMMIT, FACTS)
        assert await store.keep_snapshot(1)
        assert await store.keep_snapshot(1), "the same again is the same"
        await store.commit(Commit(batch=2, progress=b"p2", state={"a": None, "c": b"3"}), FACTS)
        assert await store.keep_snapshot(1)
        await store.close()
        assert await kit.snapshots() == [
            (1, b"p1", {"a": b"1", "b": b"2"}, "code"),
            (2, b"p2", {"b": b"2", "c": b"3"}, "code"),
        ]
        newest = (await kit.open("two").claim(FACTS)).snapshot_age_s
        assert newest is not None
        assert 0 <= newest < 20

    _run(scenario)


def test_whoever_lost_the_shard_keeps_no_snapshot(kit: Kit) -> None:
    async def scenario() -> None:
        first, second = kit.open("one"), kit.open("two")
        await first.claim(FACTS)
        await first.commit(COMMIT, FACTS)
        await second.claim(FACTS)
        with pytest.raises(ShardLost):
            # Postgres has cut its connection, so it looks whether it may go on; without that it just keeps nothing.
            await first.keep_snapshot(1)
            await first.commit(COMMIT, FACTS)
        await first.close()
        await second.close()
        assert await kit.snapshots() == []

    _run(scenario)


def test_another_version_finds_the_shard_kept_as_the_former_left_it(kit: Kit) -> None:
    async def scenario() -> None:
        newer = replace(FACTS, code_version="newer")
        first = kit.open()
        await first.claim(FACTS)
        await first.commit(COMMIT, FACTS)
        await first.close()
        same = kit.open()
        await same.claim(FACTS)
        assert await kit.snapshots() == []
        await same.close()
        second = kit.open()
        await second.claim(newer)
        await second.commit(Commit(batch=2, progress=b"p2", state={}), newer)
        await second.close()
        assert await kit.snapshots() == [(1, b"p1", {"a": b"1", "b": b"2"}, "code")]

    _run(scenario)


def test_postgres_knows_who_held_a_shard_from_which_batch_on_and_forgets_old_snapshots(database: str) -> None:
    migrate(database)
    newer = replace(FACTS, code_version="newer")

    async def hold(facts: RunFacts, batches: range) -> None:
        store = PostgresKit(database).open()
        await store.claim(facts)
        for batch in batches:
            await store.commit(replace(COMMIT, batch=batch, reached_ns=batch * 10, outbox=None), facts)
            await store.keep_snapshot(1)
        await store.close()

    async def scenario() -> None:
        await hold(FACTS, range(1, 3))
        await hold(newer, range(3, 3))
        await hold(FACTS, range(3, 4))
        await hold(newer, range(4, 6))

    _run(scenario)
    with psycopg.connect(database) as connection:
        assert holders_of(connection, "stage", "0") == [
            HeldBy(0, 0, "code", "settings"),
            HeldBy(3, 30, "newer", "settings"),
        ], "whoever wrote nothing held nothing"
        kept = snapshot_before(connection, "stage", "0", 40)
        assert kept is not None
        assert (kept.batch, kept.reached_ns, kept.state) == (3, 30, {"a": b"1", "b": b"2"})
        assert snapshot_before(connection, "stage", "0", 10) is None
        assert progress_after(connection, "stage", "0", 3) == b"p1"
        assert progress_after(connection, "stage", "0", 5) is None
        connection.execute("UPDATE shard_snapshot SET created_at = now() - interval '2 hours' WHERE batch < 4")
    _run(lambda: hold(newer, range(6, 7)))
    kept_batches = [row[0] for row in asyncio.run(PostgresKit(database).snapshots())]
    assert kept_batches == [4, 5, 6]


def test_what_is_sent_leaves_the_outbox_with_a_commit(kit: Kit) -> None:
    async def scenario() -> None:
        store = kit.open()
        await store.claim(FACTS)
        for batch in (1, 2, 3):
            outbox = f"messages {batch}".encode()
            await store.commit(
                Commit(batch=batch, progress=b"p", state={}, outbox=outbox, sent_through=batch - 2), FACTS
            )
        await store.close()
        found = await kit.open().claim(FACTS)
        assert found.unsent == ((2, b"messages 2"), (3, b"messages 3"))

    _run(scenario)


def test_whoever_lost_the_shard_writes_nothing(kit: Kit) -> None:
    async def scenario() -> None:
        first, second = kit.open("one"), kit.open("two")
        await first.claim(FACTS)
        await second.claim(FACTS)
        with pytest.raises(ShardLost):
            await first.commit(COMMIT, FACTS)
        await first.close()
        await second.close()
        found = await kit.open().claim(FACTS)
        assert (found.batch, found.state, found.unsent) == (0, {}, ())
        assert await kit.journal() == []

    _run(scenario)


def test_a_commit_whose_answer_was_lost_is_not_repeated(kit: Kit) -> None:
    async def scenario() -> None:
        store = kit.forgetful()
        await store.claim(FACTS)
        await store.commit(COMMIT, FACTS)
        await store.close()
        assert await kit.journal() == [(1, b"inputs 1")]

    _run(scenario)


def test_a_lost_shard_is_noticed_when_an_unknown_commit_is_asked_about(kit: Kit) -> None:
    async def scenario() -> None:
        first, second = kit.open("one"), kit.open("two")
        await first.claim(FACTS)
        await second.claim(FACTS)
        with pytest.raises(ShardLost):
            while await first.is_written(1) is None:  # The claim has cut its connection.
                pass
        await first.close()
        await second.close()

    _run(scenario)


def test_a_commit_that_is_still_being_carried_out_is_waited_for(kit: Kit) -> None:
    async def scenario() -> None:
        store = kit.open()
        claimed = await store.claim(FACTS)
        assert await store.is_written(1) is False
        async with kit.commit_under_way(claimed.epoch, COMMIT, 0.2):
            assert await store.is_written(1) is True
        await store.close()

    _run(scenario)


def test_nobody_takes_a_shard_over_in_the_middle_of_a_commit(kit: Kit) -> None:
    async def scenario() -> None:
        first, second = kit.open("one"), kit.open("two")
        claimed = await first.claim(FACTS)
        async with kit.commit_under_way(claimed.epoch, COMMIT, 0.2):
            found = await second.claim(FACTS)
        assert (found.epoch, found.batch, found.progress) == (2, 1, b"p1")
        await first.close()
        await second.close()

    _run(scenario)


def test_a_database_that_is_away_is_waited_for() -> None:
    async def scenario() -> None:
        kit = SimulatedKit()
        store = kit.open()
        await store.claim(FACTS)
        kit.database.away = True
        asyncio.get_running_loop().call_later(0.3, setattr, kit.database, "away", False)
        await store.commit(COMMIT, FACTS)
        assert await kit.journal() == [(1, b"inputs 1")]

    _run(scenario)


def test_a_database_that_stays_away_ends_the_claim_with_one_sentence() -> None:
    from streams.simulation.virtual_time import VirtualLoop, run_virtually

    async def scenario() -> float:
        kit = SimulatedKit()
        kit.database.away = True
        with pytest.raises(DatabaseGone, match="did not answer for 12 s"):
            await kit.open().claim(FACTS)
        return asyncio.get_running_loop().time()

    assert 12 < run_virtually(VirtualLoop(), scenario()) < 14
