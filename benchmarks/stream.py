"""Records a second through one reader of Kafka, ours beside others doing the same: ``python -m benchmarks.stream``.

One log of trades on real Kafka is read by each contestant in turn, in a process of its own. All do the same for each
trade: decode it, keep an average and a flow per symbol, and write a vote for every hundredth. What they wrote is
counted, so who loses a record is found out; the rate is taken from the times of the votes in Kafka. Then one, two and
four of our workers share four partitions, and the CPU time of ours is split into its parts.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from benchmarks.machine import cpu_seconds, describe
from benchmarks.stream_parts import print_parts
from benchmarks.tick_work import VOTE_EVERY
from infra.kafka import TopicSpec, apply_topics, client_settings, log_ends
from infra.postgres.migrate import migrate
from infra.servers import EmbeddedPostgres, Launch, RealKafka, start_kafka, start_postgres, start_process
from infra.servers.process import ChildProcess, ServerFailed
from schemas.codec import Codec
from schemas.event import derive_id
from schemas.market import Trade
from schemas.partition import partition_of
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT, MARKET_MARK, TOPICS

ROOT: Final = Path(__file__).resolve().parents[1]
QUIX_PYTHON: Final = ROOT / ".venv-quix" / "bin" / "python"
SYMBOLS: Final = 8
_VOTES: Final = "bench.votes"
_START_S: Final = 60.0
_SILENCE_S: Final = 5.0
_SLOW_S: Final = 25.0
"""How long a contestant is given at most once it has begun: stock Faust would need a minute for the whole log."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: records a second by the votes' times, CPU microseconds per record, votes seen and votes due."""

    per_second: float
    cpu_us: float
    votes: int
    complete: bool


def trade(number: int) -> Trade:
    """Return trade ``number`` of the log."""
    symbol = f"BENCH:S{number % SYMBOLS}"
    return Trade(
        key=symbol,
        event_time_ns=number,
        available_at_ns=number,
        trade_id=str(number),
        price=10_000 + number % 97,
        quantity=1 + number % 5,
        aggressor=None,
        event_id=derive_id("bench", "feed", number),
        source="feed/BENCH/0",
        generation=1,
        seq=number,
    )


def fill(bootstrap: str, count: int, partitions: int) -> None:
    """Write the log, each symbol to its partition."""
    codec = Codec(SchemaTable.committed())
    settings = {"linger.ms": 20, "queue.buffering.max.messages": 1_000_000, "enable.idempotence": True}
    producer = Producer({**client_settings(bootstrap), **settings})
    for number in range(count):
        event = trade(number)
        where = partition_of(event.key, partitions)
        producer.produce(MARKET_EVENT.name, codec.encode(MARKET_EVENT.name, event), event.key.encode(), where)
        if number % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


class Votes:
    """Reads the times of the votes as they come, from the topic's present end on."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        start = log_ends(bootstrap, [(topic, 0)])[topic, 0]
        self._consumer = Consumer(
            {**client_settings(bootstrap), "group.id": "bench.votes", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(topic, 0, start)])
        self.times_ms: list[int] = []

    def gather(self, due: int, alive: Callable[[], bool], first: Callable[[], None]) -> None:
        """Read until all are there, none comes any more, or time is up; call ``first`` at the first.

        Raises ServerFailed when there is no first one.
        """
        began = heard = time.monotonic()
        while len(self.times_ms) < due:
            now = time.monotonic()
            if not self.times_ms and (now - began > _START_S or not alive()):
                raise ServerFailed("it wrote nothing")
            if self.times_ms and (now - heard > _SILENCE_S or now - began > _SLOW_S):
                return
            for message in self._consumer.consume(1000, timeout=0.2):
                error = message.error()
                assert error is None or error.code() == KafkaError._PARTITION_EOF, error
                if error is None:
                    if not self.times_ms:
                        began = now
                        first()
                    self.times_ms.append(message.timestamp()[1])
                    heard = now

    def close(self) -> None:
        """Let go."""
        self._consumer.close()


def run(bootstrap: str, topic: str, workers: Sequence[ChildProcess], records: int) -> Outcome:
    """Watch contestants until they have read the log, and stop them."""
    due = records // SYMBOLS // VOTE_EVERY * SYMBOLS
    votes = Votes(bootstrap, topic)
    starting_s: list[float] = []

    def used_s() -> float:
        return sum(cpu_seconds(worker.popen.pid) for worker in workers)

    try:
        votes.gather(due, lambda: all(worker.alive() for worker in workers), lambda: starting_s.append(used_s()))
        working_s = used_s() - starting_s[0]
    except ServerFailed as error:
        name, said = workers[0].name, workers[0].last_lines(8)
        raise ServerFailed(f"Contestant {name}: {error}; exit code {workers[0].exit_code()}; its log: {said}") from None
    finally:
        votes.close()
        for worker in workers:
            worker.kill()
    seen = sorted(votes.times_ms)
    took_s = max(seen[-1] - seen[0], 1) / 1000
    read = len(seen) * VOTE_EVERY
    return Outcome((read - VOTE_EVERY) / took_s, working_s / read * 1e6, len(seen), len(seen) == due)


@contextmanager
def _fresh_database(server: EmbeddedPostgres, name: str) -> Iterator[str]:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    dsn = server.dsn_of(name)
    migrate(dsn)
    yield dsn


class Contest:
    """The servers, and how each contestant is started."""

    def __init__(self, kafka: RealKafka, postgres: EmbeddedPostgres, directory: Path, partitions: int) -> None:
        self.kafka = kafka
        self._postgres = postgres
        self._directory = directory
        self._partitions = partitions
        self._runs = 0

    def ours(self, records: int, members: int = 1) -> Outcome:
        """Run our worker, or several that share the partitions."""
        self._runs += 1
        with _fresh_database(self._postgres, f"bench{self._partitions}_{self._runs}") as dsn:
            facts = {"bootstrap": self.kafka.bootstrap, "dsn": dsn, "instrument_partitions": self._partitions}
            command = [sys.executable, "-m", "benchmarks.stream_ours", json.dumps(facts)]
            workers = [self._start(f"ours{member}", command) for member in range(members)]
            return run(self.kafka.bootstrap, MARKET_MARK.name, workers, records)

    def other(self, name: str, records: int) -> Outcome:
        """Run another contestant."""
        self._runs += 1
        # Whose group had read the log before would find nothing new in it.
        group = f"bench.{name}.{self._runs}"
        facts = {"bootstrap": self.kafka.bootstrap, "group": group, "source": MARKET_EVENT.name, "target": _VOTES}
        command = [sys.executable, "-m", "benchmarks.stream_contestants", name, json.dumps(facts)]
        if name == "quix":
            command = [str(QUIX_PYTHON), str(ROOT / "benchmarks" / "stream_quix.py"), json.dumps(facts)]
        return run(self.kafka.bootstrap, _VOTES, [self._start(name, command)], records)

    def _start(self, name: str, command: list[str]) -> ChildProcess:
        log = self._directory / f"{name}.{self._runs}.log"
        return start_process(Launch(name, command, log, {"PYTHONPATH": str(ROOT)}))


@contextmanager
def _contest(records: int, partitions: int) -> Iterator[Contest]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradermind-bench-")))
        directory.chmod(0o755)  # The database runs as another user, who must reach its folder.
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        postgres = start_postgres(directory / "pg")
        stack.callback(postgres.stop)
        specs = [TopicSpec(topic.name, topic.partitions(partitions)) for topic in TOPICS.values()]
        specs += [TopicSpec(topic.dead_letters, topic.partitions(partitions)) for topic in TOPICS.values()]
        apply_topics(kafka.bootstrap, [*specs, TopicSpec(_VOTES, 1)])
        fill(kafka.bootstrap, records, partitions)
        yield Contest(kafka, postgres, directory, partitions)


def _line(name: str, outcomes: Sequence[Outcome], baseline: float | None) -> str:
    rates = [outcome.per_second for outcome in outcomes]
    middle = statistics.median(rates)
    times = "" if baseline is None else f"{middle / baseline:6.1f}x"
    said = "all votes" if all(outcome.complete for outcome in outcomes) else "stopped after its time"
    spread = f"{min(rates):9,.0f} to {max(rates):9,.0f}"
    cpu = statistics.median(outcome.cpu_us for outcome in outcomes)
    return f"{name:34} {middle:10,.0f} {spread:24} {cpu:8.2f} {times:>8}  {said}"


def compare(records: int, runs: int) -> None:
    """Print one line a contestant, the runs interleaved so that all see the same machine."""
    names = ["faust", "confluent", "aiokafka", "ours"]
    if QUIX_PYTHON.exists():
        names.insert(1, "quix")
    else:
        print("Quix Streams is not measured: `make bench-stream` makes its environment.")
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    for _ in range(runs):
        # Servers of its own for each round: on a broker that it has read before, ours refuses an empty database.
        with _contest(records, 1) as contest:
            for name in names:
                found = contest.ours(records) if name == "ours" else contest.other(name, records)
                outcomes[name].append(found)
    stock = statistics.median(outcome.per_second for outcome in outcomes["faust"])
    print(f"\n{records:,} trades, one partition, one process each; {runs} runs; records a second")
    print(f"{'':34} {'median':>10} {'range':24} {'CPU us':>8} {'of Faust':>8}")
    titles = {"faust": "stock Faust agent", "quix": "Quix Streams", "confluent": "confluent-kafka loop"}
    titles |= {"aiokafka": "aiokafka loop (no guarantees)", "ours": "TraderMind worker, all guarantees"}
    for name in names:
        print(_line(titles[name], outcomes[name], stock))


def scale(records: int) -> None:
    """Print what one, two and four workers do with four partitions."""
    print(f"\n{records:,} trades, four partitions, records a second of all workers together")
    for members in (1, 2, 4):
        with _contest(records, 4) as contest:
            print(_line(f"{members} worker(s)", [contest.ours(records, members)], None))


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 2 when real Kafka cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=600_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("compare", "parts", "scale"))
    options: Any = parser.parse_args(arguments)
    print(describe())
    try:
        if options.only in (None, "compare"):
            compare(options.records, options.runs)
        if options.only in (None, "parts"):
            print_parts([trade(number) for number in range(50_000)])
        if options.only in (None, "scale"):
            scale(options.records)
    except ServerFailed as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
