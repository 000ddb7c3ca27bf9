"""The servers that runs and tests stand on: they serve, survive a crash where they must, and leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer

from infra.kafka import (
    BrokerUnreachable,
    TopicsApplied,
    TopicsDiffer,
    TopicSpec,
    apply_topics,
    cluster_id,
    log_ranges,
    topic_partitions,
)
from infra.servers import (
    EmbeddedBroker,
    Launch,
    RealKafka,
    ServerFailed,
    free_port,
    port_is_open,
    start_postgres,
    start_process,
    wait_until_ready,
)

ROOT = Path(__file__).resolve().parents[3]
StartBroker = Callable[[Mapping[str, int]], EmbeddedBroker]


async def _round_trip(bootstrap: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    for number in range(10):
        await producer.send_and_wait(topic, str(number).encode(), key=b"k", partition=1, headers=[("h", b"1")])
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id="g", enable_auto_commit=False)
    await consumer.start()
    partition = TopicPartition(topic, 1)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    got: list[bytes] = []
    while len(got) < 10:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            got += [record.value for record in records]
            assert all(record.headers == (("h", b"1"),) for record in records)
    await consumer.commit({partition: 10})
    assert await consumer.committed(partition) == 10
    await consumer.stop()
    assert got == [str(number).encode() for number in range(10)]


@pytest.mark.embedded
def test_the_embedded_broker_serves_the_topics_it_was_given(embedded_broker: StartBroker) -> None:
    broker = embedded_broker({"one": 1, "four": 4})
    partitions = topic_partitions(broker.bootstrap)
    assert (partitions["one"], partitions["four"]) == (1, 4)
    asyncio.run(_round_trip(broker.bootstrap, "four"))
    confluent = Producer({"bootstrap.servers": broker.bootstrap})
    confluent.produce("one", b"x")
    assert confluent.flush(10) == 0
    assert log_ranges(broker.bootstrap, [("one", 0), ("four", 1)]) == {("one", 0): (0, 1), ("four", 1): (0, 10)}


@pytest.mark.embedded
def test_two_embedded_brokers_are_two_clusters(embedded_broker: StartBroker) -> None:
    assert embedded_broker({"a": 1}).cluster_id != embedded_broker({"a": 1}).cluster_id


@pytest.mark.kafka
def test_real_kafka_makes_topics_once_and_never_changes_them(real_kafka: RealKafka) -> None:
    specs = [TopicSpec("made.once", 3, {"retention.ms": "3600000"})]
    assert apply_topics(real_kafka.bootstrap, specs).created == ("made.once",)
    assert apply_topics(real_kafka.bootstrap, specs) == TopicsApplied((), ())
    with pytest.raises(TopicsDiffer, match="has 3 partitions, not 5"):
        apply_topics(real_kafka.bootstrap, [TopicSpec("made.once", 5)])
    asyncio.run(_round_trip(real_kafka.bootstrap, "made.once"))
    assert len(cluster_id(real_kafka.bootstrap)) == 22


def test_an_unreachable_broker_is_one_sentence_within_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{port}"):
        topic_partitions(f"127.0.0.1:{port}", timeout_s=1)
    assert time.monotonic() - began < 30
    assert capfd.readouterr().err == ""


@pytest.mark.embedded
def test_committed_rows_survive_a_killed_postgres(tmp_path: Path) -> None:
    server = start_postgres(tmp_path)
    try:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept VALUES (7)")
        server.kill()
        assert not port_is_open(server.port)
        server.restart()
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
    finally:
        server.stop()
    assert not port_is_open(server.port)


@pytest.mark.embedded
def test_a_killed_parent_leaves_no_broker_behind(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from infra.servers import start_embedded_broker;"
        "broker = start_embedded_broker(pathlib.Path(sys.argv[1]), {'a': 1});"
        "print(broker.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_without_java_real_kafka_says_what_is_missing() -> None:
    script = (
        "from infra.servers.kafka_real import kafka_libraries, KafkaMissing\n"
        "try:\n    kafka_libraries()\nexcept KafkaMissing as error:\n    print(error)"
    )
    environment = {**os.environ, "PATH": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.startswith("BROKER=kafka needs java, which is not on this machine")


def test_a_command_that_is_not_there_or_dies_is_a_sentence(tmp_path: Path) -> None:
    gone = start_process(Launch("The thing", ["/nonexistent/command"], tmp_path / "gone.log"))
    with pytest.raises(ServerFailed, match=r"The thing ended with code 1: /nonexistent/command: No such file"):
        wait_until_ready(gone, lambda: False, 30)
    child = start_process(
        Launch("The thing", [sys.executable, "-c", "print('why'); raise SystemExit(3)"], tmp_path / "log")
    )
    with pytest.raises(ServerFailed, match=r"ended with code 3: .*why"):
        wait_until_ready(child, lambda: False, 30)


def test_a_child_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    child = start_process(Launch("The thing", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log"))
    with pytest.raises(ServerFailed, match="was not ready"):
        wait_until_ready(child, lambda: False, 0.2)
    assert not child.alive()
