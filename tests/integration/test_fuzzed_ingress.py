"""Ten thousand payloads that nobody meant, among good ones: each good one counts, each other is one dead letter."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import engine_toys
import psycopg
import pytest
from engine_runs import CODEC, Feed, ToyRun, eventually

from infra.kafka import log_ends
from infra.postgres.migrate import migrate
from infra.servers import EmbeddedBroker
from schemas.dead_letters import BadRecord, UnknownRecordType
from schemas.ingress import IngestTrade
from schemas.topics import INGEST_TRADE, MARKET_EVENT
from streams.offline.log_reader import LogReader

BAD = 10_000
GOOD = 2_000
SEED = 20_261_121
OPEN = "TOY:OPEN"


def _good(number: int) -> bytes:
    seen = IngestTrade(
        event_id=f"good-{number}", instrument=OPEN, event_time_ns=1, trade_id=f"{number}", price=number + 1
    )
    return CODEC.encode(INGEST_TRADE.name, seen)


def _hostile(choice: random.Random, sound: bytes) -> bytes:
    """Return noise, noise behind our frame, a record that is cut short or goes on, or one with bits flipped."""
    kind = choice.randrange(5)
    if kind == 0:
        return choice.randbytes(choice.randrange(200))
    if kind == 1:
        return sound[:5] + choice.randbytes(choice.randrange(200))
    if kind == 2:
        return sound[: choice.randrange(len(sound))]
    if kind == 3:
        return sound + choice.randbytes(choice.randrange(1, 50))
    flipped = bytearray(sound)
    for _ in range(choice.randrange(1, 6)):
        flipped[choice.randrange(len(flipped))] ^= 1 << choice.randrange(8)
    return bytes(flipped)


def _fate(value: bytes) -> str:
    """Return what becomes of a payload. A flipped bit may make another record, or name a schema of another topic."""
    try:
        CODEC.decode(INGEST_TRADE.name, value)
    except BadRecord:
        return "letter"
    except UnknownRecordType:
        return "skipped"
    return "stepped"


def _hostile_ones(choice: random.Random) -> dict[str, list[bytes]]:
    """Return payloads by their fate, until so many are no records at all."""
    found: dict[str, list[bytes]] = {"letter": [], "skipped": [], "stepped": []}
    while len(found["letter"]) < BAD:
        value = _hostile(choice, _good(choice.randrange(10**9)))
        found[_fate(value)].append(value)
    return found


def _count(bootstrap: str, topic: str) -> int:
    return sum(log_ends(bootstrap, [(topic, partition) for partition in range(engine_toys.PARTITIONS)]).values())


@pytest.mark.embedded
@pytest.mark.slow
def test_each_of_ten_thousand_bad_payloads_is_one_dead_letter_and_no_good_one_is_lost(
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker], database: str, tmp_path: Path
) -> None:
    choice = random.Random(SEED)
    hostile = _hostile_ones(choice)
    values = hostile["letter"] + hostile["skipped"] + [_good(number) for number in range(GOOD)]
    choice.shuffle(values)
    broker = embedded_broker(engine_toys.topic_partitions())
    migrate(database)
    run = ToyRun(broker.bootstrap, database, tmp_path, {"embedded": True})
    feed = Feed(broker.bootstrap)
    for number, value in enumerate(values):
        feed.raw(INGEST_TRADE.name, value, number % engine_toys.PARTITIONS, b"fuzz")
    feed.flush()
    run.start("ingress.trade")
    letters, trades = INGEST_TRADE.dead_letters, MARKET_EVENT.name
    try:
        eventually("the last letter", lambda: _count(run.bootstrap, letters) >= BAD, run)
        eventually("the last trade", lambda: _count(run.bootstrap, trades) >= GOOD, run)
        eventually("all skipped", lambda: _skipped(database) >= len(hostile["skipped"]), run)
        assert set(run.stop_all().values()) == {0}
    finally:
        run.kill_all()
    assert (_count(run.bootstrap, letters), _count(run.bootstrap, trades)) == (BAD, GOOD)
    assert _skipped(database) == len(hostile["skipped"])
    expected = {str(number) for number in range(GOOD)}
    assert expected == _trade_ids(run.bootstrap)


def _skipped(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT counters FROM worker_status WHERE stage = 'ingress.trade'").fetchall()
    return sum(counters["skipped"] for (counters,) in rows)


def _trade_ids(bootstrap: str) -> set[str]:
    found = set()
    for partition in range(engine_toys.PARTITIONS):
        reader = LogReader(bootstrap, (MARKET_EVENT.name, partition))
        while (record := reader.next()) is not None:
            found.add(CODEC.decode(record.topic, record.value, record.headers).trade_id)
        reader.close()
    return found
