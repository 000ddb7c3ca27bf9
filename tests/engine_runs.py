"""A run of toy workers on real servers, for tests: start, feed, kill, wait, and look at what they have done."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engine_toys
import msgspec
import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from patience import PATIENCE

from infra.kafka import TopicSpec, apply_topics, client_settings, topic_partitions
from infra.servers import ChildProcess, Launch, start_process
from schemas.event import Event, derive_id
from schemas.market import Trade
from schemas.partition import partition_of
from schemas.topics import MARKET_EVENT
from streams.engine.ports import EngineSettings
from streams.offline.log_reader import LogReader

ROOT = Path(__file__).resolve().parents[1]
CODEC = engine_toys.toy_codec()
SHARDS = (
    *(("experts", f"tradermind.market.event.v1/{partition}") for partition in range(engine_toys.PARTITIONS)),
    ("decider", "0"),
    ("feedback", "0"),
)
"""feedback reads topics of one partition, so it is one shard."""


@dataclass(slots=True)
class ToyRun:
    """Workers as processes, by the name of what each hosts (``decider+feedback`` hosts two).

    Where it is ``supervised``, a worker that ends by itself is started again, as a cluster does, and written down in
    ``ends``; elsewhere that is a failure. ``environment`` is what the workers get beside ours.
    """

    bootstrap: str
    dsn: str
    directory: Path
    settings: dict[str, Any]
    instances: bool = False
    supervised: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    workers: dict[str, ChildProcess] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    lives: int = 0

    def start(self, name: str, *, slot: str | None = None, **settings: Any) -> ChildProcess:
        """Start a worker; ``slot`` tells two of the same stages apart."""
        slot = slot or name
        self.lives += 1
        arguments = {"stages": name.split("+"), "bootstrap": self.bootstrap, "dsn": self.dsn, **self.settings}
        if self.instances:
            arguments["instance_id"] = slot
        program = engine_toys.command(arguments | settings)
        log = self.directory / "logs" / f"{slot}.{self.lives}.log"
        child = start_process(Launch(slot, program, log, {"PYTHONPATH": str(ROOT), **self.environment}))
        self.workers[slot] = child
        return child

    def look_after(self) -> None:
        """Start those again that have ended by themselves; raise AssertionError where nobody should."""
        gone = [slot for slot, child in self.workers.items() if not child.alive()]
        assert self.supervised or not gone, f"{gone} ended by themselves\n{self.logs()}"
        for slot in gone:
            child = self.workers.pop(slot)
            self.ends.append(f"{slot} ended with {child.exit_code()}: {child.last_lines(1)}")
            assert len(self.ends) < 60, f"they do not come back: {self.ends[-5:]}"
            self.start(slot)

    def stop_all(self) -> dict[str, int]:
        """SIGTERM to all at once; return the exit codes."""
        for child in self.workers.values():
            child.send(15)
        codes = {slot: _wait(child, 20) for slot, child in self.workers.items()}
        self.workers.clear()
        return codes

    def kill_all(self) -> None:
        """SIGKILL to all."""
        for child in self.workers.values():
            child.send(9)
        for child in self.workers.values():
            child.kill()
        self.workers.clear()

    def logs(self) -> str:
        """Return what all workers wrote."""
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted((self.directory / "logs").glob("*.log"))
        )


def engine_of(run: ToyRun) -> EngineSettings:
    """Return what the workers of a run share, for a recomputation."""
    return EngineSettings(
        bootstrap=run.bootstrap,
        dsn=run.dsn,
        instrument_partitions=engine_toys.PARTITIONS,
        settings_hash="toy",
        code_version="1",
        codec=CODEC,
    )


def _wait(child: ChildProcess, timeout_s: float) -> int:
    try:
        return child.popen.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        raise AssertionError(f"{child.name} did not end within {timeout_s:g} s: {child.last_lines(5)}") from None


def exit_code(child: ChildProcess, timeout_s: float = 120.0) -> int:
    """Wait for a worker that must end by itself, and return its exit code."""
    return _wait(child, timeout_s)


def eventually(what: str, holds: Callable[[], bool], run: ToyRun, timeout_s: float = 150.0) -> float:
    """Wait until something holds; return the seconds it took. Who ends by itself meanwhile is looked after."""
    started = time.monotonic()
    while not holds():
        run.look_after()
        assert time.monotonic() - started < timeout_s * PATIENCE, f"no {what} after {timeout_s:g} s\n{run.logs()}"
        time.sleep(0.1)
    return time.monotonic() - started


class Feed:
    """Writes numbered trades of some instruments to ``market.event``, as a feed does."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer({**client_settings(bootstrap), "enable.idempotence": True, "linger.ms": 1})
        self.sent = 0
        self._numbering = threading.Lock()

    def trades(self, count: int, *, wait: bool = True) -> None:
        """Write the next trades and, unless told otherwise, wait until the broker has them. Any thread may call it."""
        with self._numbering:
            for number in range(self.sent, self.sent + count):
                self.put(trade(number))
            self.sent += count
        if wait:
            self.flush()

    def again(self, number: int) -> None:
        """Write a trade that was written before, under the same number."""
        self.put(trade(number))

    def put(self, event: Event) -> None:
        """Write one event of ``market.event`` where it belongs."""
        value = CODEC.encode(MARKET_EVENT.name, event)
        self.raw(MARKET_EVENT.name, value, partition_of(event.key, engine_toys.PARTITIONS), event.key.encode())

    def raw(
        self, topic: str, value: bytes | None, partition: int, key: bytes = b"", headers: Sequence[Any] = ()
    ) -> None:
        """Write any record; ``flush`` waits for the broker."""
        self._producer.produce(topic, value, key=key, partition=partition, headers=list(headers))
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has everything."""
        assert self._producer.flush(60) == 0


def feed_slowly(feed: Feed, count: int, per_second: int) -> threading.Thread:
    """Write trades in the background, 20 times a second."""

    def write() -> None:
        while feed.sent < count:
            feed.trades(min(per_second // 20, count - feed.sent))
            time.sleep(0.05)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def trade(number: int) -> Trade:
    """Return trade ``number``; its price is its number."""
    return Trade(
        key=f"TOY:I{number % 7}",
        event_time_ns=number,
        available_at_ns=number,
        trade_id=str(number),
        price=number,
        quantity=1,
        aggressor=None,
        event_id=derive_id("toy", "feed", number),
        source="feed/TOY/0",
        generation=1,
        seq=number,
    )


def effects(dsn: str) -> dict[str, int]:
    """Return what the last stage's checkpoint says: input -> how often it took effect."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT key, value FROM shard_state WHERE stage = 'feedback'").fetchall()
    return {key: msgspec.msgpack.decode(bytes(value), type=engine_toys.Tally).count for key, value in rows}


def effect_count(dsn: str) -> int:
    """Return how many different inputs have taken effect in the last stage."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM shard_state WHERE stage = 'feedback' AND key LIKE 'Decision:%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def sequences(bootstrap: str, topic: str, partition: int) -> dict[str, list[int]]:
    """Return source -> its numbers on a topic partition, as a reader that drops what it has seen takes them."""
    reader = LogReader(bootstrap, (topic, partition))
    taken: dict[str, list[int]] = {}
    while (record := reader.next()) is not None:
        event = CODEC.decode(record.topic, record.value, record.headers)
        numbers = taken.setdefault(event.source, [])
        assert event.generation == 1
        if not numbers or event.seq > numbers[-1]:
            numbers.append(event.seq)
    reader.close()
    return taken


def unsent_batches(dsn: str) -> int:
    """Return how many batches are not known to be sent; with a heartbeat every 100 ms a sent one goes at once."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM shard_outbox").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def fresh_topics(bootstrap: str, specs: Sequence[TopicSpec] | None = None) -> Iterator[None]:
    """Make the platform's topics on a real broker, empty, and leave none behind. ``specs`` says more of them."""
    _delete_topics(bootstrap)
    plain = [TopicSpec(name, count) for name, count in engine_toys.topic_partitions().items()]
    apply_topics(bootstrap, plain if specs is None else specs)
    yield
    _delete_topics(bootstrap)


def _delete_topics(bootstrap: str) -> None:
    ours = engine_toys.topic_partitions().keys()
    if there := ours & topic_partitions(bootstrap).keys():
        admin = AdminClient(client_settings(bootstrap))  # Its answers die with it.
        for deleted in admin.delete_topics(sorted(there)).values():
            deleted.result(timeout=30)
    deadline = time.monotonic() + 30
    while ours & topic_partitions(bootstrap).keys():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def holders(dsn: str, stage: str) -> set[tuple[str, int]]:
    """Return (holder, epoch) of a stage's shards."""
    with psycopg.connect(dsn) as connection:
        return set(connection.execute("SELECT holder, epoch FROM shard WHERE stage = %s", (stage,)).fetchall())


def text_of(child: ChildProcess) -> str:
    """Return all that a worker wrote."""
    return child.log_file.read_text()
