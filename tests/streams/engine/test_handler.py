"""A sink makes a dead letter of what no stage makes one of, counts the rest, and is told past what it cannot write."""

import asyncio
import logging
from collections.abc import Sequence
from types import SimpleNamespace

import psycopg
import pytest
from engine_toys import sinks
from memory_log import MemoryLog

from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.topics import DECISION_SHADOW, EXPERT_VOTE, MARKET_MARK, Topic
from streams.engine.dead_letter import ERRORS
from streams.engine.handler import HandlerShard
from streams.engine.lane import lane_of
from streams.engine.ports import RawRecord
from streams.engine.sending import Sender
from streams.sinks import dead_letter_row

GARBAGE = b"\xde\xad"
UNKNOWN_ID = b"\0\0\x98\x96\x7f" + b"body"


def _records(topic: Topic, *values: bytes) -> list[RawRecord]:
    return [RawRecord(topic.name, 0, offset, b"k", value, (), 5) for offset, value in enumerate(values)]


def _handled(database: str, records: Sequence[RawRecord], log: MemoryLog) -> HandlerShard:
    """Let the real sink have the records; return its shard when it has passed all of them."""
    lane = lane_of(records[0].topic, 0)

    async def scenario() -> HandlerShard:
        hosting = sinks(database)
        assert hosting.handle is not None and hosting.close is not None
        shard = HandlerShard(hosting, lane, 0, hosting.handle, Sender(SimpleNamespace(producer=log)))
        running = asyncio.ensure_future(shard.run())
        await shard.offer(list(records))
        async with asyncio.timeout(20):
            while shard.committed_offsets.get(lane) != len(records) and not running.done():
                await asyncio.sleep(0.005)
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await hosting.close()
        return shard

    return asyncio.run(scenario())


def _reasons(log: MemoryLog, topic: Topic) -> list[tuple[str, str]]:
    letters = log.lanes.get((topic.dead_letters, 0), [])
    facts = [dict(letter.headers) for letter in letters]
    return [(one[f"{ERRORS}stage"].decode(), one[f"{ERRORS}reason"].decode()) for one in facts]


def test_of_a_record_that_a_stage_reads_too_the_stage_makes_the_letter(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(database)
    log = MemoryLog()
    with caplog.at_level(logging.WARNING):
        shard = _handled(database, _records(MARKET_MARK, GARBAGE, GARBAGE), log)
    assert _reasons(log, MARKET_MARK) == []
    assert (shard.core.counters.left_to_stage, shard.core.counters.dead_letters) == (2, 0)
    assert (
        f"sinks cannot read offset 1 of {MARKET_MARK.name}/0 (MALFORMED): the dead letter is that of decider or risk or"
        " execution or feedback" in caplog.text
    )


def test_of_a_record_that_only_sinks_read_the_letter_is_theirs(database: str) -> None:
    migrate(database)
    log = MemoryLog()
    shard = _handled(database, _records(DECISION_SHADOW, GARBAGE), log)
    assert _reasons(log, DECISION_SHADOW) == [("sinks", "MALFORMED")]
    assert shard.core.counters.by_reason == {"MALFORMED": 1}


def test_a_schema_that_a_stage_may_have_known_by_then_is_told_and_listed_once(database: str) -> None:
    """Between the stage's reading and the sinks' an id may be registered: both tell, and people see one letter."""
    migrate(database)
    log = MemoryLog()
    (record,) = _records(EXPERT_VOTE, UNKNOWN_ID)
    _handled(database, [record], log)
    assert _reasons(log, EXPERT_VOTE) == [("sinks", "SCHEMA_UNKNOWN")]
    _write(database, log.lanes[EXPERT_VOTE.dead_letters, 0])
    assert _listed(database) == ["sinks"]
    place = dict(log.lanes[EXPERT_VOTE.dead_letters, 0][0].headers) | {f"{ERRORS}stage": b"voting"}
    log.append((EXPERT_VOTE.dead_letters, 0), record.key, record.value, tuple(place.items()))
    _write(database, log.lanes[EXPERT_VOTE.dead_letters, 0])
    assert _listed(database) == ["voting"]


def _write(dsn: str, letters: Sequence[RawRecord]) -> None:

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write([], [dead_letter_row(letter) for letter in letters])

    asyncio.run(run())


def _listed(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [str(stage) for (stage,) in connection.execute("SELECT stage FROM dead_letter_states").fetchall()]
