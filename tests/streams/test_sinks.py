"""The sink: all topics end as rows and points, twice is once, and what one record breaks harms no other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import psycopg
import pytest
from every_event import RECORDS, example
from money_events import ONE, decision, fill

from infra.influx import InfluxWriter
from infra.influx.points import lines_of
from infra.postgres.dead_letters import raw_headers
from infra.postgres.migrate import migrate, row_counts
from infra.postgres.projection_list import NOT_KEPT, PROJECTIONS
from schemas.codec import Codec
from schemas.dead_letters import DeadLetterReason, UnknownRecordType
from schemas.event import Event, stamp_position
from schemas.feedback import ModelRelease
from schemas.opinions import Vote
from schemas.orders import Fill
from schemas.routing import topic_of
from schemas.schema_table import SchemaTable
from schemas.topics import ACCOUNT_EVENT, DECISION, DECISION_SHADOW, EXPERT_VOTE, MARKET_EVENT, TOPICS
from schemas.values import Side
from streams.engine.handler import LeftToStage
from streams.sinks import SINK_TOPICS, Sink, SinkOutcome, dead_letter_row

pytestmark = pytest.mark.embedded
CODEC = Codec(SchemaTable.committed())


@dataclass(frozen=True)
class Record:
    """A Kafka record as a client gives it."""

    topic: str
    value: bytes | None
    offset: int = 0
    partition: int = 0
    key: bytes | None = b"key"
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int = 1_723_161_253_937


def record_of(event: Event, offset: int = 0) -> Record:
    topic = topic_of(event)
    assert topic is not None
    return Record(topic.name, CODEC.encode(topic.name, event), offset)


def sink_to(dsn: str, work: Callable[[Sink], Awaitable[None]], **options: Any) -> None:
    """Run ``work`` with a sink and close it."""

    async def run() -> None:
        sink = Sink(dsn, CODEC, **options)
        try:
            await work(sink)
        finally:
            await sink.close()

    asyncio.run(run())


@pytest.fixture
def records(database: str) -> str:
    """The DSN of a database with our tables."""
    migrate(database)
    return database


def test_the_sink_reads_every_internal_topic_and_the_dead_letters_of_all() -> None:
    internal = {topic.name for topic in TOPICS.values() if not topic.public}
    assert set(SINK_TOPICS) == internal | {topic.dead_letters for topic in TOPICS.values()}
    assert len(set(SINK_TOPICS)) == len(SINK_TOPICS)


def test_a_record_of_every_type_becomes_rows_however_often_it_comes(records: str) -> None:
    batch = [record_of(example(record), offset) for offset, record in enumerate(RECORDS)]
    outcomes: list[SinkOutcome] = []

    async def work(sink: Sink) -> None:
        outcomes.append(await sink.handle(batch))
        outcomes.append(await sink.handle(batch))

    sink_to(records, work)
    tables = {projection.table for listed in PROJECTIONS.values() for projection in listed}
    counts = {table: count for table, count in row_counts(records).items() if table in tables}
    assert all(counts.values()), "every table has got a row"
    assert outcomes[0].rows == sum(counts.values())
    assert outcomes[1].rows < outcomes[0].rows / 2, "only the newest rows are renewed"
    assert [(outcome.skipped, outcome.refused) for outcome in outcomes] == [(0, []), (0, [])]
    assert set(RECORDS) - set(PROJECTIONS) == set(NOT_KEPT)


def test_a_record_that_cannot_be_read_is_refused_with_its_reason_and_the_rest_is_written(records: str) -> None:
    good = record_of(example(Vote))
    garbage = Record(EXPERT_VOTE.name, b"garbage", 1)
    outcomes: list[SinkOutcome] = []

    async def work(sink: Sink) -> None:
        outcomes.append(await sink.handle([garbage, good]))

    sink_to(records, work)
    ((record, refusal),) = outcomes[0].refused
    assert record is garbage
    assert refusal.reason is DeadLetterReason.MALFORMED
    assert isinstance(refusal, LeftToStage), "the stages that read the topic make the dead letter"
    unread: list[SinkOutcome] = []

    async def alone(sink: Sink) -> None:
        unread.append(await sink.handle([garbage]))

    sink_to(records, alone, stages=("risk",))
    assert not isinstance(unread[0].refused[0][1], LeftToStage), "nobody runs voting, so the sinks make it"
    assert row_counts(records)["votes"] == 1


def test_an_event_that_no_table_can_hold_is_refused_alone(records: str) -> None:
    fills = [fill(number, Side.BUY, ONE, 100 * ONE) for number in range(9)]
    fills[4] = fill(4, Side.BUY, ONE, 100 * ONE, fee=Decimal("99999999999999999999"))
    batch = [record_of(event, number) for number, event in enumerate(fills)]
    with psycopg.connect(records) as connection:
        connection.execute("ALTER TABLE fills ADD CHECK (fee < 1000)")
    outcomes: list[SinkOutcome] = []

    async def work(sink: Sink) -> None:
        outcomes.append(await sink.handle(batch))

    sink_to(records, work)
    ((record, refusal),) = outcomes[0].refused
    assert record is batch[4]
    assert refusal.reason is DeadLetterReason.INVALID_VALUE
    assert "fills" in refusal.detail
    assert row_counts(records)["fills"] == 8


def test_an_unknown_type_stops_a_money_topic_and_is_counted_on_any_other(records: str) -> None:
    stranger = CODEC.encode("tradermind.model.release.v1", example(ModelRelease))
    outcomes: list[SinkOutcome] = []

    async def work(sink: Sink) -> None:
        outcomes.append(await sink.handle([Record(MARKET_EVENT.name, stranger)]))
        with pytest.raises(UnknownRecordType):
            await sink.handle([Record(ACCOUNT_EVENT.name, stranger)])

    sink_to(records, work)
    assert outcomes[0].skipped == 1


def test_dead_letters_become_rows_with_what_their_headers_say(records: str) -> None:
    headers = [
        ("trace", b"\xff"),
        ("__tradermind.errors.reason", b"forged by the writer"),
        ("__tradermind.errors.reason", b"MALFORMED"),
        ("__tradermind.errors.exception.message", b"not framed"),
        ("__tradermind.errors.topic", b"tradermind.ingest.trade.v1"),
        ("__tradermind.errors.partition", b"3"),
        ("__tradermind.errors.offset", b"41"),
        ("__tradermind.errors.stage", b"ingress"),
        ("null", cast(bytes, None)),
    ]
    letter = Record("tradermind.ingest.trade.v1.dlq", b"\x00junk", 7, 2, None, headers)

    async def work(sink: Sink) -> None:
        await sink.handle([letter])
        await sink.handle([letter])

    sink_to(records, work)
    with psycopg.connect(records) as connection:
        rows = connection.execute(
            'SELECT dlq_offset, topic, "partition", "offset", reason, detail, value, stage, headers, raw_headers'
            " FROM dead_letters"
        ).fetchall()
    assert len(rows) == 1
    assert rows[0][:7] == (7, "tradermind.ingest.trade.v1", 3, 41, "MALFORMED", "not framed", b"\x00junk")
    assert (rows[0][7], rows[0][8]["trace"]) == ("ingress", "\\xff")
    assert raw_headers(bytes(rows[0][9])) == headers


@pytest.mark.parametrize("offset", [b"-1", b"", b"9" * 30, b"x", "٣".encode()])
def test_a_dead_letter_with_foreign_headers_still_becomes_a_row(offset: bytes) -> None:
    letter = Record("tradermind.ingest.trade.v1.dlq", None, headers=[("__tradermind.errors.offset", offset)])
    row = dead_letter_row(letter)
    assert (row.offset, row.topic, row.reason) == (None, "tradermind.ingest.trade.v1", "UNKNOWN")


def test_a_lost_session_is_replaced_and_nothing_is_lost(records: str) -> None:
    async def work(sink: Sink) -> None:
        await sink.handle([record_of(example(Vote, event_id="a"))])
        with psycopg.connect(records, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'tradermind sinks' AND datname = current_database()"
            )
        await sink.handle([record_of(example(Vote, event_id="b"))])

    sink_to(records, work)
    assert row_counts(records)["votes"] == 2


def test_a_database_that_stays_away_ends_in_an_error_before_the_batch_counts_as_handled() -> None:
    async def work(sink: Sink) -> None:
        with pytest.raises(psycopg.OperationalError):
            await sink.handle([record_of(example(Vote))])

    sink_to("host=127.0.0.1 port=1 connect_timeout=1", work, patience_s=0.2)


def test_many_topics_at_once_share_transactions_and_each_call_gets_its_own_outcome(records: str) -> None:
    async def work(sink: Sink) -> None:
        bad = Record(EXPERT_VOTE.name, b"garbage")
        calls = [sink.handle([record_of(example(Vote, event_id=f"v{number}"))]) for number in range(40)]
        with psycopg.connect(records) as connection:
            before = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        outcomes = await asyncio.gather(*calls, sink.handle([bad]))
        with psycopg.connect(records) as connection:
            after = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert [len(outcome.refused) for outcome in outcomes] == [0] * 40 + [1]
        assert sum(outcome.rows for outcome in outcomes) == 40
        assert before is not None and after is not None
        assert after[0] - before[0] <= 10

    sink_to(records, work)
    assert row_counts(records)["votes"] == 40


def test_a_caller_that_is_cancelled_takes_nobody_with_it(records: str) -> None:
    async def work(sink: Sink) -> None:
        first = asyncio.create_task(sink.handle([record_of(example(Vote, event_id="first"))]))
        others = [
            asyncio.create_task(sink.handle([record_of(example(Vote, event_id=f"o{number}"))])) for number in range(3)
        ]
        await asyncio.sleep(0)
        first.cancel()
        outcomes = await asyncio.gather(*others)
        assert all(not outcome.refused for outcome in outcomes)
        with pytest.raises(asyncio.CancelledError):
            await first

    sink_to(records, work)
    assert row_counts(records)["votes"] >= 3


@dataclass
class Lines:
    """A target of points that keeps them."""

    lines: list[str] = field(default_factory=list)

    def write(self, lines: Sequence[str]) -> None:
        self.lines.extend(lines)

    def close(self) -> None:
        pass


def test_what_is_written_also_becomes_points_and_what_is_refused_does_not(records: str) -> None:
    target = Lines()
    writer = InfluxWriter(target)
    good, too_much = (fill(number, Side.BUY, ONE, 100 * ONE, fee=Decimal(fee)) for number, fee in ((1, 1), (2, 2000)))
    with psycopg.connect(records) as connection:
        connection.execute("ALTER TABLE fills ADD CHECK (fee < 1000)")

    async def run() -> None:
        sink = Sink(records, CODEC, writer)
        await sink.handle([record_of(good), record_of(too_much, 1)])
        await sink.close()

    asyncio.run(run())
    writer.close()
    assert target.lines == lines_of(CODEC.decode(ACCOUNT_EVENT.name, record_of(good).value))


def test_positions_in_the_source_survive_the_way_into_the_table(records: str) -> None:
    event = example(Fill)
    stamp_position(event, "execution/0", 3, 77)

    async def work(sink: Sink) -> None:
        await sink.handle([record_of(event)])

    sink_to(records, work)
    with psycopg.connect(records) as connection:
        assert connection.execute("SELECT generation, seq FROM fills").fetchall() == [(3, 77)]


def test_what_a_shadow_decides_is_a_row_beside_what_was_decided(records: str) -> None:
    own = decision(0.5, 1)
    shadow = decision(-0.5, 2, tally_id=own.tally_id, policy="new", policy_stage="SHADOW")
    batch = [record_of(own), record_of(shadow)]
    assert [record.topic for record in batch] == [DECISION.name, DECISION_SHADOW.name]

    async def work(sink: Sink) -> None:
        await sink.handle(batch)

    sink_to(records, work)
    with psycopg.connect(records) as connection:
        rows = connection.execute("SELECT policy, policy_stage, target FROM decisions ORDER BY target").fetchall()
    assert rows == [("new", "SHADOW", -0.5), ("baseline", "CHAMPION", 0.5)]
