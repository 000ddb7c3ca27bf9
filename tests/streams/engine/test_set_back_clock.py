"""A wall clock that jumps back: the time that an outbox shard is told goes on, in this worker and in the next."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import psycopg
from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS

from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from streams.engine.journal import External, decode_external, decode_inputs
from streams.engine.outbox import OutboxShard
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore

FACTS = RunFacts("cluster", "1", "toy")
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def _beats(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT inputs FROM shard_journal ORDER BY batch").fetchall()
    inputs = [one for row in rows for one in decode_inputs(bytes(row[0])) if isinstance(one, External)]
    return [decode_external(one, ()).available_at_ns for one in inputs]


async def _send(*record: object) -> None:
    raise AssertionError(f"nothing is to be sent: {record}")


async def _live(dsn: str, clock: Callable[[], int], beats: int) -> None:
    """Run a shard by this clock until so many more Heartbeats are in its journal."""
    core = ShardCore(replace(HOSTINGS["decider"], now_ns=clock), "0", 0, CODEC, PARTITIONS)
    store = ShardStore(dsn, ShardName("decider", "0", "test"), durable=True)
    shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=SimpleNamespace(send=_send))), 10)
    await shard.take_up(await store.claim(FACTS))
    due = len(_beats(dsn)) + beats
    running = asyncio.ensure_future(shard.run())
    async with asyncio.timeout(20):
        while len(_beats(dsn)) < due:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_time_goes_on_however_the_clock_jumps(database: str) -> None:
    migrate(database)
    steps = iter(range(0, 10**9, 20_000_000))
    offsets = {"now": START}

    def clock() -> int:
        return offsets["now"] + next(steps)

    asyncio.run(_live(database, clock, 5))
    offsets["now"] = START - 3600 * SECOND
    asyncio.run(_live(database, clock, 5))
    offsets["now"] = START + 3 * SECOND
    asyncio.run(_live(database, clock, 5))
    beats = _beats(database)
    assert beats == sorted(set(beats)), "an identity of its own and a time of its own for each"
    assert beats[0] == START
    assert START + 3 * SECOND < beats[-1] < START + 4 * SECOND
