"""A database that takes a question and never answers, and whose connection nobody closes."""

import asyncio
import time

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from wire import Wire

from infra.postgres.checkpoints import Commit, RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.session import KeptSession, answer_due

FACTS = RunFacts("cluster", "1", "settings")


def through(dsn: str, wire: Wire) -> str:
    """Return the DSN of the same database, reached over the wire."""
    return make_conninfo(dsn, port=wire.port)


@pytest.fixture
def wire(database: str) -> Wire:
    """A wire to the database."""
    return Wire(target_port=int(conninfo_to_dict(database)["port"] or 0)).start()


def test_whoever_waits_is_told_when_the_answer_is_overdue(database: str, wire: Wire) -> None:
    async def ask() -> float:
        connection = await AsyncConnection.connect(through(database, wire), autocommit=True)
        wire.silence()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError), answer_due(connection, 0.5):
            await connection.execute("SELECT 1")
        await connection.close()
        return time.monotonic() - began

    assert 0.4 < asyncio.run(asyncio.wait_for(ask(), 20)) < 5
    wire.stop()


def test_an_answer_in_time_leaves_the_connection_alone(database: str, wire: Wire) -> None:
    async def ask() -> object:
        connection = await AsyncConnection.connect(through(database, wire), autocommit=True)
        with answer_due(connection, 0.2):
            await connection.execute("SELECT 1")
        await asyncio.sleep(0.5)
        row = await (await connection.execute("SELECT 2")).fetchone()
        await connection.close()
        return row

    assert asyncio.run(ask()) == (2,)
    wire.stop()


def test_a_commit_to_a_silent_server_is_written_once_over_a_new_session(database: str, wire: Wire) -> None:
    migrate(database)

    async def write() -> int:
        store = ShardStore(through(database, wire), ShardName("toy", "0", "test"), durable=True, answer_s=0.5)
        await store.claim(FACTS)
        wire.silence()
        await store.commit(Commit(batch=1, progress=b"p", state={"key": b"value"}), FACTS)
        checkpoint = await store.claim(FACTS)
        await store.close()
        return checkpoint.batch

    assert asyncio.run(asyncio.wait_for(write(), 30)) == 1
    wire.stop()


@pytest.mark.slow
def test_a_kept_session_that_falls_silent_is_replaced_and_an_idle_one_is_not(database: str, wire: Wire) -> None:
    async def ask() -> tuple[object, bool]:
        session = KeptSession(through(database, wire), answer_s=0.5)
        first = await session.connection()
        await first.execute("SELECT 1")
        await asyncio.sleep(1.0)
        kept = await session.connection() is first
        wire.silence()
        with pytest.raises(psycopg.OperationalError):
            await first.execute("SELECT 2")
        row = await (await (await session.connection()).execute("SELECT 3")).fetchone()
        await session.close()
        return row, kept

    assert asyncio.run(asyncio.wait_for(ask(), 20)) == ((3,), True)
    wire.stop()
