"""What people order reaches a shard: before its first record, in order, once, and only what was not stepped before."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from engine_runs import CODEC, Feed, trade
from engine_toys import HOSTINGS, PARTITIONS, topic_partitions
from every_event import example
from memory_log import MemoryLog

from infra.postgres.checkpoints import DatabaseGone, RunFacts, ShardName, ShardStore
from infra.postgres.dead_letters import Action, read_held, record_action
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from infra.servers import EmbeddedBroker
from schemas.dead_letters import LetterAction, LetterOrder, LettersOrdered
from schemas.decisions import Decision
from schemas.event import ORDINALS_PER_OFFSET, derive_id, stamp_position
from schemas.partition import partition_of
from schemas.topics import DECISION, MARKET_EVENT, MARKET_MARK
from streams.engine.journal import External, decode_external, decode_inputs
from streams.engine.letter_desk import LetterDesk
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings, Outgoing, RawRecord
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.sinks import dead_letter_row

FACTS = RunFacts("cluster", "1", "toy")
LANE = f"{MARKET_EVENT.name}/0"


class Producer:
    """Takes every record, keeps the dead letters, and acknowledges at once."""

    def __init__(self, letters: list[Outgoing]) -> None:
        self._letters = letters

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records."""
        if topic.endswith(".dlq"):
            self._letters += records
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=0))
        return [Acknowledgement(topic, partition, done, len(records) - 1)]


def _engine(dsn: str, bootstrap: str = "") -> EngineSettings:
    return EngineSettings(
        bootstrap=bootstrap,
        dsn=dsn,
        instrument_partitions=PARTITIONS,
        settings_hash="toy",
        code_version="1",
        codec=CODEC,
    )


def _ordered(dsn: str, action: LetterAction, **more: Any) -> int:
    with psycopg.connect(dsn) as connection:
        return record_action(connection, Action(action=action, author="kim", why="test", **more))


def _decision(offset: int) -> RawRecord:
    event = example(Decision, key="toy", instrument="TOY:I1", mid=offset, event_id=derive_id("toy", "d", offset))
    stamp_position(event, "decider/0", 1, offset + 1)
    return RawRecord(DECISION.name, 0, offset, b"toy", CODEC.encode(DECISION.name, event), (), 5)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _attended(dsn: str, letters: list[Outgoing]) -> AsyncIterator[OutboxShard]:
    """A running feedback shard; what it refuses is added to ``letters``."""
    core = ShardCore(HOSTINGS["feedback"], "0", 0, CODEC, PARTITIONS)
    store = ShardStore(dsn, ShardName("feedback", "0", "test"), durable=True)
    shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=Producer(letters))), 100)
    await shard.take_up(await store.claim(FACTS))
    desk = LetterDesk(_engine(dsn))
    await desk.brief(shard, 0)
    running = asyncio.ensure_future(desk.serve(shard))
    try:
        yield shard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await desk.close()


async def _sunk(dsn: str, letters: list[Outgoing]) -> None:
    """Write dead letters as a sink does."""
    rows = [
        dead_letter_row(RawRecord(one.topic, one.partition, offset, one.key, one.value, one.headers, 5))
        for offset, one in enumerate(letters)
    ]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await Projections(connection).write([], rows)


def _repeated(dsn: str) -> ShardCore:
    """Return the shard as its journal makes it anew."""
    core = ShardCore(HOSTINGS["feedback"], "0", 0, CODEC, PARTITIONS)
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT inputs FROM shard_journal ORDER BY batch").fetchall()
    for (inputs,) in rows:
        for item in decode_inputs(bytes(inputs)):
            if isinstance(item, External):
                core.take_event(decode_external(item, ()))
                continue
            for offset in range(item.first, item.last + 1):
                core.take(_decision(offset) if offset else _bad())
    return core


def _bad() -> RawRecord:
    return RawRecord(DECISION.name, 0, 0, b"toy", b"garbage", (), 5)


@pytest.mark.slow
def test_a_take_is_there_before_the_first_record_and_what_was_held_is_stepped_from_the_record(database: str) -> None:
    migrate(database)
    _ordered(database, LetterAction.TAKE, stage="feedback", topic=DECISION.name, partition=0, first=3, last=3)
    _ordered(database, LetterAction.TAKE, stage="risk", topic=DECISION.name, partition=0, first=4, last=4)
    letters: list[Outgoing] = []

    async def scenario() -> ShardCore:
        async with _attended(database, letters) as shard:
            core = shard.core
            await shard.offer([_bad(), *(_decision(offset) for offset in range(1, 8))])
            await _until(lambda: len(letters) == 8)
            assert core.counters.by_reason == {"MALFORMED": 1, "TAKEN": 1, "QUARANTINED": 6}
            step = _ordered(database, LetterAction.STEP_HELD, stage="feedback", key="toy")
            await _sunk(database, letters[:5])
            await _until(lambda: core.progress.letters.held["toy"].stepped == 3)
            await _sunk(database, letters)
            await _until(lambda: core.progress.letters.stepped_orders == step)
            assert not core.progress.letters.held
            await _until(lambda: "OPEN" not in _statuses(database)[1:])
            await shard.offer([_decision(8)])
            await _until(lambda: shard.committed_offsets.get(f"{DECISION.name}/0") == 9)
            return core

    core = asyncio.run(scenario())
    assert _statuses(database) == ["OPEN", "RELEASED", "RELEASED", "TAKEN", *["RELEASED"] * 4]
    assert sorted(key for key in core.state if key != "order") == [f"Decision:{n}" for n in (1, 2, 4, 5, 6, 7, 8)]
    again = _repeated(database)
    again.progress.output_ends = core.progress.output_ends
    assert (again.progress, dict(again.state)) == (core.progress, dict(core.state))


def _statuses(dsn: str) -> list[str]:
    """Return how each letter stands, in the order of the refused records."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute('SELECT status FROM dead_letter_states ORDER BY "offset"').fetchall()
    return [str(status) for (status,) in rows]


@pytest.mark.slow
def test_what_is_left_behind_ends_too_and_so_does_what_was_stepped_before_a_worker_was_killed(database: str) -> None:
    """What the audit lacks, since its worker ended in between, the next one adds; and it adds nothing twice."""
    migrate(database)
    letters: list[Outgoing] = []

    def outcomes() -> list[tuple[Any, ...]]:
        with psycopg.connect(database) as connection:
            return connection.execute(
                "SELECT key, author, detail FROM dead_letter_actions WHERE action = 'RELEASED'"
            ).fetchall()

    async def killed_before_it_told() -> None:
        core = ShardCore(HOSTINGS["feedback"], "0", 0, CODEC, PARTITIONS)
        store = ShardStore(database, ShardName("feedback", "0", "test"), durable=True)
        shard = OutboxShard(core, store, FACTS, Sender(SimpleNamespace(producer=Producer(letters))), 100)
        await shard.take_up(await store.claim(FACTS))
        running = asyncio.ensure_future(shard.run())
        await shard.offer([_bad(), *(_decision(offset) for offset in range(1, 4))])
        await _until(lambda: len(letters) == 4)
        await _sunk(database, letters)
        release = LetterOrder(1, LetterAction.RELEASE, key="toy")
        await shard.inject(LettersOrdered(key="o", event_time_ns=1, available_at_ns=1, event_id="o", orders=(release,)))
        await shard.offer([_decision(4)])
        await _until(lambda: shard.committed_offsets.get(f"{DECISION.name}/0") == 5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def come_up_again() -> None:
        async with _attended(database, letters):
            await asyncio.to_thread(_wait_for, lambda: bool(outcomes()))
            await asyncio.sleep(0.7)

    asyncio.run(killed_before_it_told())
    assert _statuses(database) == ["OPEN"] * 4
    for _ in range(2):
        asyncio.run(come_up_again())
        detail = {"since": f"{DECISION.name}/0/0", "stepped": 0, "ended": True}
        assert outcomes() == [("toy", "tradermind.feedback", detail)]
    assert _statuses(database) == ["OPEN", "TAKEN", "TAKEN", "TAKEN"]


def _wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_sink_has_not_written_yet_is_waited_for(database: str) -> None:
    """A gap in what was held ends the portion: nothing may be stepped before what came before it."""
    migrate(database)
    core = ShardCore(HOSTINGS["feedback"], "0", 0, CODEC, PARTITIONS)
    for record in (_bad(), *(_decision(offset) for offset in range(1, 6))):
        core.take(record)
    letters = [one for one in core.drain()[0] if one.topic.endswith(".dlq")]

    async def held(after: int) -> list[int]:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            found = await read_held(connection, "feedback", f"{DECISION.name}/0/0", after, 3)
        return [record.offset for record in found]

    async def scenario() -> None:
        await _sunk(database, [letters[0], letters[1], letters[2], letters[4]])
        assert (await held(0), await held(2)) == ([1, 2], [])
        await _sunk(database, [*letters, letters[3]])
        assert (await held(0), await held(3)) == ([1, 2, 3], [4, 5])

    asyncio.run(scenario())


@pytest.mark.slow
def test_without_a_database_nothing_begins(database: str) -> None:
    migrate(database)

    async def scenario() -> None:
        desk = LetterDesk(_engine("host=127.0.0.1 port=1 dbname=none connect_timeout=1"))
        core = ShardCore(HOSTINGS["experts"], LANE, 0, CODEC, PARTITIONS)
        store = ShardStore(database, ShardName("experts", LANE, "test"), durable=False)
        with pytest.raises(DatabaseGone, match="does not say what was ordered"):
            await desk.brief(OneTopicShard(core, store, FACTS, Sender(SimpleNamespace()), 1.0), 0)

    asyncio.run(scenario())


@pytest.mark.embedded
def test_a_running_stage_of_one_topic_takes_only_what_no_life_of_it_has_stepped_and_keeps_that(
    database: str,
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Outputs of offset 6 lie in the log: 5 was stepped, whatever the checkpoint says, and 7 was not."""
    migrate(database)
    broker = embedded_broker(topic_partitions())
    own = next(trade(n) for n in range(50) if partition_of(trade(n).key, PARTITIONS) == 0)
    whole = ShardCore(HOSTINGS["experts"], LANE, 0, CODEC, PARTITIONS)
    whole.take(RawRecord(MARKET_EVENT.name, 0, 6, b"", CODEC.encode(MARKET_EVENT.name, own), (), 5))
    (mark,) = [one for one in whole.drain()[0] if one.topic == MARKET_MARK.name]
    assert CODEC.decode(mark.topic, mark.value).seq // ORDINALS_PER_OFFSET == 6
    feed = Feed(broker.bootstrap)
    feed.raw(mark.topic, mark.value, mark.partition)
    feed.flush()
    for offset in (5, 7):
        place = {"topic": MARKET_EVENT.name, "partition": 0, "first": offset, "last": offset}
        _ordered(database, LetterAction.TAKE, stage="experts", **place)

    own_trades = [one for n in range(100) if partition_of((one := trade(n)).key, PARTITIONS) == 0][:12]
    records = [
        RawRecord(MARKET_EVENT.name, 0, offset, b"", CODEC.encode(MARKET_EVENT.name, one), (), 5)
        for offset, one in enumerate(own_trades)
    ]
    log = MemoryLog()

    async def one_life(*orders: int) -> ShardCore:
        """Come up, step what there is while ``orders`` come, and be killed before any checkpoint."""
        core = ShardCore(HOSTINGS["experts"], LANE, 0, CODEC, PARTITIONS)
        store = ShardStore(database, ShardName("experts", LANE, "test"), durable=False)
        desk = LetterDesk(_engine(database, broker.bootstrap))
        shard = OneTopicShard(core, store, FACTS, Sender(SimpleNamespace(producer=log)), 3600.0)
        await shard.take_up(await store.claim(FACTS))
        await desk.brief(shard, 0)
        serving = asyncio.ensure_future(desk.serve(shard))
        await shard.offer(records[:9])
        for offset in orders:
            place = {"topic": MARKET_EVENT.name, "partition": 0, "first": offset, "last": offset}
            ordinal = _ordered(database, LetterAction.TAKE, stage="experts", **place)
            await _until(lambda: core.progress.letters.orders == ordinal)  # noqa: B023
        await shard.offer(records[9:])
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await store.close()
        await desk.close()
        return core

    with caplog.at_level(logging.WARNING):
        core = asyncio.run(one_life(10, 2))
    assert core.progress.letters.taken == {LANE: [(7, 7), (10, 10)]}
    assert core.progress.letters.orders == 4
    assert f"has stepped offset 5 of {LANE} before" in caplog.text
    assert f"has stepped offset 2 of {LANE} before" in caplog.text
    assert core.counters.by_reason == {"TAKEN": 2}
    first = list(log.lanes[MARKET_MARK.name, 0])
    assert len(first) == 10

    again = asyncio.run(one_life())
    assert again.counters.by_reason == {"TAKEN": 2}, "what it was told in its former life was kept before it went on"
    assert [one.value for one in log.lanes[MARKET_MARK.name, 0][len(first) :]] == [one.value for one in first]
