"""A slow stage and a fast feed on real Kafka: what waits, waits in Kafka; memory stays flat, and nothing is lost."""

import json
import sys
import time
from pathlib import Path

import engine_toys
import flow_toys
import msgspec
import psycopg
import pytest
from confluent_kafka import Producer
from engine_runs import CODEC, ROOT, fresh_topics
from patience import PATIENCE

from infra.kafka import client_settings
from infra.postgres.migrate import migrate
from infra.servers import ChildProcess, Launch, RealKafka, start_process
from schemas.event import stamp_identity, stamp_position
from schemas.topics import MARKET_MARK

HALF = 100_000
WAITING_MIB_MAX = 64
"""Above the empty worker: what docs/guarantees.md lets wait in it, 80 chunks, here of records of 0.2 kB."""
GROWTH_MIB_MAX = 12


def _write_marks(bootstrap: str, first: int, count: int) -> None:
    producer = Producer({**client_settings(bootstrap), "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for number in range(first, first + count):
        event = engine_toys.mark("TOY:I1", number, number, 1)
        stamp_identity(event, "mark", "toy", number)
        stamp_position(event, "toy", 1, number + 1)
        producer.produce(MARKET_MARK.name, CODEC.encode(MARKET_MARK.name, event), key=b"TOY:I1", partition=0)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def _resident_mib(child: ChildProcess) -> float:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{child.popen.pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) / 1024


def _settled_mib(child: ChildProcess) -> float:
    """Return the resident memory when it has stopped growing for a second and a half."""
    newest = [0.0]
    deadline = time.monotonic() + 40
    while len(newest) < 4 or newest[-1] - newest[-4] > 0.5:
        assert child.alive(), child.last_lines(20)
        assert time.monotonic() < deadline, newest
        time.sleep(0.5)
        newest.append(_resident_mib(child))
    return newest[-1]


def _handled(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT value FROM shard_state WHERE stage = 'decider' AND key = 'marks'").fetchone()
    return 0 if row is None else msgspec.msgpack.decode(bytes(row[0]), type=engine_toys.Tally).count


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.campaign
def test_two_hundred_thousand_records_wait_in_kafka_and_not_in_the_worker(
    real_kafka: RealKafka, database: str, tmp_path: Path
) -> None:
    migrate(database)
    gate = tmp_path / "open"
    facts = {"stages": ["decider"], "bootstrap": real_kafka.bootstrap, "dsn": database, "gate": str(gate)}
    command = [sys.executable, flow_toys.__file__, json.dumps(facts)]
    with fresh_topics(real_kafka.bootstrap):
        log = tmp_path / "worker.log"
        worker = start_process(Launch("worker", command, log, {"PYTHONPATH": str(ROOT)}))
        try:
            while not _assigned(database):
                assert worker.alive(), worker.last_lines(20)
                time.sleep(0.1)
            empty_mib = _settled_mib(worker)
            _write_marks(real_kafka.bootstrap, 0, HALF)
            half_mib = _settled_mib(worker)
            _write_marks(real_kafka.bootstrap, HALF, HALF)
            full_mib = _settled_mib(worker)
            print(f"resident MiB: {empty_mib:.0f} empty, {half_mib:.0f} at {HALF}, {full_mib:.0f} at {2 * HALF}")  # noqa: T201
            assert half_mib - empty_mib > 5, "something does wait in the worker, else nothing is measured"
            assert full_mib - empty_mib < WAITING_MIB_MAX
            assert full_mib - half_mib < GROWTH_MIB_MAX, "twice as many wait, and not in the worker"
            gate.touch()
            began = time.monotonic()
            while _handled(database) < 2 * HALF:
                assert worker.alive(), worker.last_lines(20)
                assert time.monotonic() - began < 90 * PATIENCE, _handled(database)
                time.sleep(0.2)
            time.sleep(0.5)
            assert _handled(database) == 2 * HALF, "each once, in order: the stage asserts it"
            worker.send(15)
            assert worker.popen.wait(20) == 0, worker.last_lines(20)
        finally:
            worker.kill()


def _assigned(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT 1 FROM shard WHERE stage = 'decider'").fetchone() is not None
