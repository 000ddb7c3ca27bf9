"""Two and four experts workers share four partitions of real Kafka: each has its part, and nothing is lost or twice."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest
from confluent_kafka import Producer
from engine_runs import CODEC, ToyRun, eventually, exit_code, trade

from infra.kafka import client_settings, log_ends
from infra.kafka_remake import delete_topics
from infra.kafka_topics import mend_topics
from infra.postgres.migrate import migrate
from infra.servers import RealKafka
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.market import Trade
from schemas.partition import partition_of
from schemas.topics import MARKET_EVENT, MARKET_MARK
from streams.offline.log_reader import LogReader

PARTITIONS = 4
PORTION = 400


class Shared:
    """A run whose experts are several members of one group, each with a name that lasts."""

    def __init__(self, run: ToyRun) -> None:
        self.run = run
        self.sent = 0

    def start(self, *members: str) -> None:
        for member in members:
            self.run.start("experts", slot=member)

    def leave(self, *members: str) -> None:
        for member in members:
            child = self.run.workers.pop(member)
            child.send(signal.SIGTERM)
            assert exit_code(child, 30) == 0, child.last_lines(10)

    def feed(self) -> None:
        producer = Producer({**client_settings(self.run.bootstrap), "enable.idempotence": True})
        for number in range(self.sent, self.sent + PORTION):
            event = _trade(number)
            value = CODEC.encode(MARKET_EVENT.name, event)
            producer.produce(MARKET_EVENT.name, value, event.key.encode(), partition_of(event.key, PARTITIONS))
        assert producer.flush(30) == 0
        self.sent += PORTION

    def parts(self) -> dict[str, int]:
        """Return member -> how many partitions it has claimed, of those members that run."""
        with psycopg.connect(self.run.dsn) as connection:
            rows = connection.execute("SELECT holder FROM shard WHERE stage = 'experts'").fetchall()
        return Counter(holder for (holder,) in rows if holder in self.run.workers)

    def await_parts(self, expected: dict[str, int]) -> None:
        """Wait until the members have the parts that they should, and all that was sent has been marked."""
        eventually(f"parts {expected}", lambda: self.parts() == expected, self.run, 60)
        eventually("marks", lambda: _marks(self.run.bootstrap) >= self.sent, self.run, 60)


def _trade(number: int) -> Trade:
    """Return a trade of one of so many instruments that every partition has some."""
    return msgspec.structs.replace(trade(number), key=f"TOY:S{number % 9}")


def _marks(bootstrap: str) -> int:
    return log_ends(bootstrap, [(MARKET_MARK.name, 0)])[MARKET_MARK.name, 0]


@pytest.fixture
def shared(real_kafka: RealKafka, database: str, tmp_path: Path) -> Iterator[Shared]:
    at = real_kafka.bootstrap
    specs = topic_specs(load_settings(None, {"kafka.instrument_partitions": PARTITIONS}))
    delete_topics(at, [spec.name for spec in specs])
    mend_topics(at, specs)
    migrate(database)
    settings = {"instrument_partitions": PARTITIONS, "session_timeout_s": 6.0}
    run = ToyRun(at, database, tmp_path, settings, instances=True)
    yield Shared(run)
    run.kill_all()
    delete_topics(at, [spec.name for spec in specs])


@pytest.mark.kafka
@pytest.mark.slow(seconds=25)
def test_two_and_then_four_workers_share_the_partitions_of_one_log(shared: Shared) -> None:
    shared.start("one", "two")
    shared.feed()
    shared.await_parts({"one": 2, "two": 2})
    shared.start("three", "four")
    shared.feed()
    shared.await_parts({"one": 1, "two": 1, "three": 1, "four": 1})
    shared.feed()
    shared.await_parts({"one": 1, "two": 1, "three": 1, "four": 1})
    before = shared.parts()
    # Who comes back under its name within the session gets its own part again, and the others keep theirs.
    shared.run.workers.pop("three").kill()
    shared.start("three")
    shared.feed()
    shared.await_parts(before)
    _hold_to_truth(shared)


def _hold_to_truth(shared: Shared) -> None:
    """Every trade has one mark, with the count and in the order that its instrument's trades came."""
    truth: dict[str, list[int]] = {}
    for number in range(shared.sent):
        event = _trade(number)
        truth.setdefault(event.key, []).append(event.price)
    reader = LogReader(shared.run.bootstrap, (MARKET_MARK.name, 0))
    seen: dict[str, tuple[int, int]] = {}
    found: dict[str, list[int]] = {}
    counts: dict[str, list[int]] = {}
    while (record := reader.next()) is not None:
        event = CODEC.decode(record.topic, record.value, record.headers)
        place = (event.generation, event.seq)
        if place > seen.get(event.source, (0, 0)):
            seen[event.source] = place
            found.setdefault(event.key, []).append(event.mid)
            counts.setdefault(event.key, []).append(event.newest_time_ns)
    reader.close()
    assert found == truth
    assert counts == {key: list(range(1, len(prices) + 1)) for key, prices in truth.items()}
    assert len(seen) == PARTITIONS, "every partition had something to do"
