"""Dead letters on real Kafka, from the record that cannot be used to the last row of the audit."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_toys
import msgspec
import psycopg
import pytest
from engine_runs import (
    CODEC,
    Feed,
    ToyRun,
    effect_count,
    engine_of,
    eventually,
    exit_code,
    fresh_topics,
    text_of,
    trade,
)
from typer.testing import CliRunner

from infra.kafka import log_ends
from infra.postgres.migrate import migrate
from infra.servers import RealKafka
from schemas.ingress import IngestTrade
from schemas.topics import DECISION, INGEST_TRADE, MARKET_EVENT, MARKET_MARK
from streams.cli_dlq_changes import app
from streams.engine.ports import RawRecord
from streams.offline.log_reader import LogReader
from streams.offline.recompute import recompute_shard

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
WHY = ("--reason", "the drill", "--author", "kim")
CRASHES = {"decider": MARKET_MARK.name, "experts": MARKET_EVENT.name}
GARBAGE = b"\xde\xad\xbe\xef"


@pytest.fixture
def run(tmp_path: Path, database: str, real_kafka: RealKafka) -> Iterator[ToyRun]:
    """A run on real Kafka, its topics empty; whatever still lives at the end is killed."""
    migrate(database)
    with fresh_topics(real_kafka.bootstrap):
        made = ToyRun(real_kafka.bootstrap, database, tmp_path, {}, instances=True)
        yield made
        made.kill_all()


def dlq(run: ToyRun, *arguments: str) -> Any:
    """Run ``tradermind dlq`` and return what it says; it must succeed."""
    broker = ["--broker", run.bootstrap] if arguments[0] == "replay" else []
    result = CliRunner().invoke(app, [*arguments, *broker, "--dsn", run.dsn, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def end(run: ToyRun, topic: str) -> int:
    """Return how many records the first partition of a topic has had."""
    return log_ends(run.bootstrap, [(topic, 0)])[topic, 0]


def log(run: ToyRun, topic: str, partition: int = 0) -> list[RawRecord]:
    """Return all records of a topic partition."""
    reader = LogReader(run.bootstrap, (topic, partition))
    records = []
    while (record := reader.next()) is not None:
        records.append(record)
    reader.close()
    return records


def ingested(name: str, instrument: str) -> bytes:
    """Return a trade as another system writes it."""
    seen = IngestTrade(event_id=name, instrument=instrument, event_time_ns=1, trade_id=name, price=1)
    return CODEC.encode(INGEST_TRADE.name, seen)


def passed_on(run: ToyRun) -> list[str]:
    """Return the trades that the ingress stage has passed on, in order of partition and place."""
    both = [record for number in range(engine_toys.PARTITIONS) for record in log(run, MARKET_EVENT.name, number)]
    return [CODEC.decode(record.topic, record.value).trade_id for record in both]


def letters(run: ToyRun) -> int:
    """Return how many dead letters Postgres has."""
    with psycopg.connect(run.dsn) as connection:
        row = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    assert row is not None
    return int(row[0])


def test_garbage_on_a_public_topic_is_mended_sent_again_discarded_and_audited(run: ToyRun, tmp_path: Path) -> None:
    run.start("ingress.trade")
    run.start("sinks")
    feed = Feed(run.bootstrap)
    headers = [("trace", b"\x00\xff"), ("trace", b"2")]
    feed.raw(INGEST_TRADE.name, GARBAGE, 0, b"k", headers)
    feed.raw(INGEST_TRADE.name, ingested("early", "TOY:CLOSED"), 0, b"k", headers)
    feed.raw(INGEST_TRADE.name, GARBAGE * 2, 0, b"k")
    feed.flush()
    eventually("three letters", lambda: letters(run) == 3, run, 40)
    assert [(row["offset"], row["reason"], row["status"]) for row in dlq(run, "ls", "--topic", INGEST_TRADE.name)] == [
        (2, "MALFORMED", "OPEN"),
        (1, "INSTRUMENT_REFUSED", "OPEN"),
        (0, "MALFORMED", "OPEN"),
    ]
    shown = dlq(run, "show", INGEST_TRADE.name, "0", "0", "--out", str(tmp_path / "garbage"))
    assert ((tmp_path / "garbage").read_bytes(), shown["stage"]) == (GARBAGE, "ingress.trade")

    assert len(dlq(run, "replay", "--refused", "MALFORMED", "--dry-run", *WHY)) == 2
    assert (end(run, INGEST_TRADE.name), dlq(run, "audit")) == (3, [])

    mended = tmp_path / "mended"
    mended.write_bytes(ingested("opens", "TOY:OPEN"))
    dlq(run, "replay", INGEST_TRADE.name, "0", "0", "--with", str(mended), *WHY)
    eventually("the mended trade", lambda: passed_on(run) == ["opens"], run, 30)

    dlq(run, "replay", "--refused", "INSTRUMENT_REFUSED", "--rate", "2", *WHY)
    dlq(run, "replay", "--topic", INGEST_TRADE.name, "--refused", "INSTRUMENT_REFUSED", "--again", *WHY)
    eventually("the early trade", lambda: sorted(passed_on(run)) == ["early", "opens"], run, 30)
    feed.raw(INGEST_TRADE.name, ingested("last", "TOY:OPEN"), 0)
    feed.flush()
    eventually("a trade after it", lambda: sorted(passed_on(run)) == ["early", "last", "opens"], run, 30)
    first, again = log(run, INGEST_TRADE.name)[4:6]
    assert (first.key, first.value, list(first.headers)[:2]) == (b"k", ingested("early", "TOY:CLOSED"), headers)
    facts = {name.removeprefix("__tradermind.replay."): value for name, value in list(first.headers)[2:]}
    assert facts == {"of": f"{INGEST_TRADE.name}/0/1".encode(), "by": b"kim", "action": b"3", "attempt": b"1"}
    assert again.value == first.value, "it was there twice, and passed on once"

    dlq(run, "discard", INGEST_TRADE.name, "0", "2", *WHY)
    audit = [(row["action"], row["first_offset"], row["author"], row["why"]) for row in reversed(dlq(run, "audit"))]
    assert audit == [
        (action, offset, "kim", "the drill")
        for action, offset in [
            *(("REPLAY", 0), ("REPLAYED", 0), ("REPLAY", 1), ("REPLAYED", 1), ("REPLAY", 1), ("REPLAYED", 1)),
            ("DISCARD", 2),
        ]
    ]
    mended_row, sent_row = list(reversed(dlq(run, "show", INGEST_TRADE.name, "0", "0")["actions"]))
    assert mended_row["detail"]["mended"] is True
    assert sent_row["detail"] == {"topic": INGEST_TRADE.name, "partition": 0, "offset": 3}
    assert [row["status"] for row in dlq(run, "ls")] == ["DISCARDED", "REPLAYED", "REPLAYED"]
    assert run.stop_all() == {"ingress.trade": 0, "sinks": 0}


def put_trade(feed: Feed, price: int) -> None:
    """Write the next trade with another price than its number."""
    feed.put(msgspec.structs.replace(trade(feed.sent), price=price))
    feed.sent += 1
    feed.flush()


def recomputed(run: ToyRun, stage: str) -> Any:
    """Step all shards of a stage again and compare; they must be equal."""
    with psycopg.connect(run.dsn) as connection:
        rows = connection.execute("SELECT shard FROM shard WHERE stage = %s ORDER BY 1", (stage,)).fetchall()
    results = [asyncio.run(recompute_shard(engine_of(run), engine_toys.HOSTINGS[stage], shard)) for (shard,) in rows]
    assert [result.first_difference for result in results] == [None] * len(rows)
    return sum(result.matched for result in results)


def held(run: ToyRun) -> Any:
    """Return the keys in quarantine."""
    return [(row["stage"], row["key"], row["held"]) for row in dlq(run, "ls", "--held")]


def test_a_record_that_crashes_a_stage_is_taken_and_a_held_key_goes_on_where_it_was(run: ToyRun) -> None:
    stages = ("experts", "decider", "feedback", "sinks")
    workers = {name: run.start(name) for name in stages}
    feed = Feed(run.bootstrap)
    feed.trades(20)
    put_trade(feed, engine_toys.CRASH_DECIDER)
    feed.trades(20)
    for stage, topic in CRASHES.items():
        assert exit_code(workers[stage], 60) == 1
        if stage == "decider":
            put_trade(feed, engine_toys.CRASH_EXPERTS)
            feed.trades(20)
        assert "AssertionError: a bug" in text_of(workers[stage])
        place = _crashing(run, stage, topic)
        assert f"`tradermind dlq take {topic} {place[0]} {place[1]} --reason WHY` is the way past it." in text_of(
            workers[stage]
        )
        order = dlq(run, "take", topic, *map(str, place), "--wait", "0", *WHY)
        assert (order["stage"], order["done"]) == (stage, False)
        run.start(stage)
    eventually("all decisions but one", lambda: effect_count(run.dsn) == 60, run, 60)
    for topic in CRASHES.values():
        (letter,) = [record for number in _partitions(topic) for record in log(run, f"{topic}.dlq", number)]
        assert dict(letter.headers)["__tradermind.errors.reason"] == b"TAKEN"

    feed.raw(DECISION.name, GARBAGE, 0, b"toy")
    feed.flush()
    eventually("the quarantine", lambda: held(run) == [("feedback", "toy", 0)], run, 30)
    feed.trades(10)
    eventually("what waits", lambda: held(run) == [("feedback", "toy", 10)], run, 30)
    eventually("the letters", lambda: _refused_by(run) == ["feedback"] * 11, run, 30)
    order = dlq(run, "replay", "--release", "toy", "--wait", "30", *WHY)
    assert (order["action"], order["stage"], order["done"]) == ("STEP_HELD", "feedback", True)
    assert held(run) == []
    feed.trades(10)
    eventually("every decision, those that waited too", lambda: effect_count(run.dsn) == 80, run, 30)

    run.workers["feedback"].kill()
    run.start("feedback")
    feed.trades(10)
    eventually("decisions after a crash", lambda: effect_count(run.dsn) == 90, run, 60)
    eventually("the end of what waited", lambda: _statuses(run) == ["OPEN"] + ["RELEASED"] * 10, run, 30)
    assert set(run.stop_all().values()) == {0}
    assert recomputed(run, "experts") > 60, "both partitions are past what was taken"
    assert recomputed(run, "decider") == 90
    assert recomputed(run, "feedback") == 90
    audit = dlq(run, "audit")
    assert [row["action"] for row in audit if row["action"] != "RELEASED"] == ["STEP_HELD", "TAKE", "TAKE"]
    assert (audit[0]["detail"]["stepped"], audit[0]["detail"]["ended"]) == (10, True)


def _statuses(run: ToyRun) -> list[str]:
    """Return how the letters of the decisions stand."""
    return sorted(row["status"] for row in dlq(run, "ls", "--topic", DECISION.name))


def _refused_by(run: ToyRun) -> list[str]:
    """Return who refused what lies in the dead letters of the decisions; the sinks leave it to the stage."""
    found = [dict(record.headers)["__tradermind.errors.stage"] for record in log(run, DECISION.dead_letters)]
    return sorted(name.decode() for name in found)


def _partitions(topic: str) -> range:
    return range(engine_toys.PARTITIONS if topic == MARKET_EVENT.name else 1)


def _crashing(run: ToyRun, stage: str, topic: str) -> tuple[int, int]:
    """Return where the record lies on which a stage breaks."""
    for partition in _partitions(topic):
        for record in log(run, topic, partition):
            event = CODEC.decode(topic, record.value)
            found = event.price if stage == "experts" else event.mid
            if found == (engine_toys.CRASH_EXPERTS if stage == "experts" else engine_toys.CRASH_DECIDER):
                return partition, record.offset
    raise AssertionError(f"no record on {topic} that {stage} breaks on")
