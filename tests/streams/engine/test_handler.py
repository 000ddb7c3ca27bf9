"""A sink makes a dead letter of what no stage makes one of, counts the rest, and is told past what it cannot write."""

import asyncio
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from engine_runs import CODEC
from engine_toys import PARTITIONS, sinks
from every_event import example
from memory_log import MemoryLog
from typer.testing import CliRunner

from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.dead_letters import BadRecord
from schemas.decisions import Decision
from schemas.opinions import Vote
from schemas.orders import Fill
from schemas.topics import ACCOUNT_EVENT, DECISION_SHADOW, EXPERT_VOTE, INGEST_TRADE, MARKET_MARK, Topic
from streams.cli_dlq_changes import app
from streams.engine.dead_letter import ERRORS
from streams.engine.handler import HandlerShard
from streams.engine.lane import lane_of
from streams.engine.letter_desk import LetterDesk
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind, WorkerFailed
from streams.engine.sending import Sender
from streams.sinks import dead_letter_row

RUNNER = CliRunner()
GARBAGE = b"\xde\xad"
UNKNOWN_ID = b"\0\0\x98\x96\x7f" + b"body"


def _engine(dsn: str) -> EngineSettings:
    facts: dict[str, Any] = {"instrument_partitions": PARTITIONS, "settings_hash": "toy", "code_version": "1"}
    return EngineSettings(bootstrap="none", dsn=dsn, codec=CODEC, **facts)


def _records(topic: Topic, *values: bytes) -> list[RawRecord]:
    return [RawRecord(topic.name, 0, offset, b"k", value, (), 5) for offset, value in enumerate(values)]


def _handled(database: str, records: Sequence[RawRecord], log: MemoryLog) -> HandlerShard:
    """Let the real sink have the records; return its shard when it has passed all of them."""
    lane = lane_of(records[0].topic, 0)

    async def scenario() -> HandlerShard:
        hosting = sinks(database)
        assert hosting.close is not None
        desk = LetterDesk(_engine(database))
        shard = HandlerShard(hosting, lane, 0, Sender(SimpleNamespace(producer=log)), desk)
        running = asyncio.ensure_future(shard.run())
        await shard.offer(list(records))
        async with asyncio.timeout(20):
            while shard.committed_offsets.get(lane) != len(records) and not running.done():
                await asyncio.sleep(0.005)
        running.cancel()
        (ended,) = await asyncio.gather(running, return_exceptions=True)
        await hosting.close()
        await desk.close()
        if isinstance(ended, WorkerFailed):
            raise ended
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


def _of_tomorrow() -> bytes:
    """A fill of a type that this version does not know: a money topic skips nothing, so it breaks whoever reads it."""
    fill = CODEC.encode(ACCOUNT_EVENT.name, example(Fill))
    return CODEC.encode(DECISION_SHADOW.name, example(Decision))[:5] + fill[5:]


def test_a_record_that_breaks_the_sinks_is_named_and_an_order_of_a_person_leads_past_it(database: str) -> None:
    migrate(database)
    log = MemoryLog()
    good = CODEC.encode(ACCOUNT_EVENT.name, example(Fill))
    records = _records(ACCOUNT_EVENT, *[good] * 5, _of_tomorrow(), *[good] * 4)
    with pytest.raises(WorkerFailed) as broken:
        _handled(database, records, log)
    command = f"tradermind dlq take {ACCOUNT_EVENT.name} 0 5 --stage sinks --reason WHY"
    assert f"sinks/{ACCOUNT_EVENT.name}/0 broke on offset 5 (UnknownRecordType" in str(broken.value)
    assert command in str(broken.value)
    assert log.lanes == {}

    arguments = command.removeprefix("tradermind dlq ").replace("WHY", "tomorrow").split()
    ordered = RUNNER.invoke(app, [*arguments, "--wait", "0", "--dsn", database])
    assert ordered.exit_code == 0, ordered.output
    assert "it is done when the sinks come to it" in ordered.output
    for _ in range(2):  # Killed before Kafka had the offset, they pass it over again, and tell it once.
        _handled(database, records, log)
    assert _reasons(log, ACCOUNT_EVENT) == [("sinks", "TAKEN")] * 2
    assert {letter.value for letter in log.lanes[ACCOUNT_EVENT.dead_letters, 0]} == {records[5].value}
    with psycopg.connect(database) as connection:
        audit = connection.execute(
            "SELECT action, stage, topic, first_offset FROM dead_letter_actions ORDER BY ordinal"
        ).fetchall()
        fills = connection.execute("SELECT count(*) FROM fills").fetchone()
    assert audit == [("TAKE", "sinks", ACCOUNT_EVENT.name, 5), ("PASSED", "sinks", ACCOUNT_EVENT.name, 5)]
    assert fills == (1,), "whatever lies around it is written"


def test_a_record_that_breaks_one_topic_is_laid_to_no_other(database: str) -> None:
    """Records of all topics share a transaction; what one of them breaks is told by its own shard alone."""
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE fills RENAME TO fills_of_yesterday")

    async def scenario() -> list[Any]:
        hosting = sinks(database)
        assert hosting.handle is not None and hosting.close is not None
        broken = _records(ACCOUNT_EVENT, CODEC.encode(ACCOUNT_EVENT.name, example(Fill)))
        sound = _records(EXPERT_VOTE, CODEC.encode(EXPERT_VOTE.name, example(Vote)))
        outcomes = await asyncio.gather(hosting.handle(broken), hosting.handle(sound), return_exceptions=True)
        await hosting.close()
        return list(outcomes)

    first, second = asyncio.run(scenario())
    assert isinstance(first, psycopg.errors.UndefinedTable)
    assert second == []


def test_what_is_no_records_fault_is_laid_to_none() -> None:
    batches: list[int] = []

    async def tampered(records: Sequence[RawRecord]) -> Sequence[tuple[RawRecord, BadRecord]]:
        batches.append(len(records))
        raise WorkerFailed("The audit was changed.")

    async def scenario() -> None:
        hosting = StageHosting(name="sinks", topics=(), kind=StageKind.HANDLER, handle=tampered)
        shard = HandlerShard(hosting, lane_of(ACCOUNT_EVENT.name, 0), 0, Sender(SimpleNamespace(producer=MemoryLog())))
        await shard.offer(_records(ACCOUNT_EVENT, b"a", b"b", b"c", b"d"))
        await shard.run()

    with pytest.raises(WorkerFailed, match=r"^The audit was changed\.$"):
        asyncio.run(scenario())
    assert batches == [4], "it is not halved in search of a record"


def test_what_cannot_be_taken_of_the_sinks_is_one_sentence(database: str) -> None:
    migrate(database)
    why = ("--reason", "test", "--stage", "sinks", "--dsn", database)
    for topic in (INGEST_TRADE.name, "nothing", "nothing.dlq"):
        refused = RUNNER.invoke(app, ["take", topic, "0", "0", *why])
        assert (refused.exit_code, refused.stderr) == (1, f"The sinks do not read '{topic}'.\n")
    letter = RUNNER.invoke(app, ["take", DECISION_SHADOW.dead_letters, "0", "3", "--wait", "0", *why])
    assert letter.exit_code == 0, letter.output
    log = MemoryLog()
    garbage = [RawRecord(DECISION_SHADOW.dead_letters, 0, offset, b"k", b"v", (), 5) for offset in range(5)]
    _handled(database, garbage, log)
    assert log.lanes == {}, "a letter that is passed over stays where it lies"
    with psycopg.connect(database) as connection:
        written = connection.execute("SELECT dlq_offset FROM dead_letters ORDER BY 1").fetchall()
    assert written == [(0,), (1,), (2,), (4,)]


def _write(dsn: str, letters: Sequence[RawRecord]) -> None:

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write([], [dead_letter_row(letter) for letter in letters])

    asyncio.run(run())


def _listed(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        return [str(stage) for (stage,) in connection.execute("SELECT stage FROM dead_letter_states").fetchall()]
