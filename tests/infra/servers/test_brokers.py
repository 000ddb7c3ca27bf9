"""The brokers as processes: they begin with what they were told, survive or do not, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Producer
from process_table import gone_within, runs

from infra.kafka import TopicSpec, apply_topics, cluster_id, log_ends, topic_partitions
from infra.servers import EmbeddedBroker, RealKafka, ServerFailed, port_is_open, start_kafka

ROOT = Path(__file__).resolve().parents[3]
StartBroker = Callable[[Mapping[str, int]], EmbeddedBroker]


@pytest.mark.embedded
def test_the_embedded_broker_has_the_topics_it_was_given_and_those_it_is_given_later(
    embedded_broker: StartBroker,
) -> None:
    broker = embedded_broker({"one": 1, "four": 4})
    assert topic_partitions(broker.bootstrap) == {"one": 1, "four": 4}
    broker.create_topics({"later": 7, "one": 1})
    broker.create_topics({"last": 2})
    assert topic_partitions(broker.bootstrap) == {"one": 1, "four": 4, "later": 7, "last": 2}
    with pytest.raises(ServerFailed, match=r"topic one with 3 partitions cannot be created: .*already exists"):
        broker.create_topics({"one": 3})
    assert not runs(broker.process.pid)


@pytest.mark.embedded
def test_two_embedded_brokers_are_two_clusters_and_every_client_can_tell(embedded_broker: StartBroker) -> None:
    brokers = [embedded_broker({"a": 1}) for _ in range(5)]
    assert [cluster_id(broker.bootstrap) for broker in brokers] == [broker.cluster_id for broker in brokers]
    assert len({broker.cluster_id for broker in brokers}) == 5


@pytest.mark.embedded
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_embedded_broker_ends_cleanly_when_asked(embedded_broker: StartBroker, number: int) -> None:
    broker = embedded_broker({"a": 1})
    assert port_is_open(broker.port)
    assert broker.process.terminate(10, number=number) == 0
    assert not port_is_open(broker.port)
    assert not broker.port_file.exists()


@pytest.mark.embedded
def test_the_embedded_broker_started_by_hand_ends_with_its_parent(tmp_path: Path) -> None:
    port_file = tmp_path / "port.json"
    script = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-m', 'infra.servers.broker_embedded',"
        f" '--port-file', {str(port_file)!r}, '--topics', '{{\"a\": 2}}'])\n"
        f"while not pathlib.Path({str(port_file)!r}).exists(): time.sleep(0.02)\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert runs(child)
    parent.kill()
    parent.wait()
    assert gone_within(child, 10)


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
    assert gone_within(child, 10)


@pytest.mark.kafka
@pytest.mark.usefixtures("real_kafka")
@pytest.mark.slow
def test_real_kafka_keeps_acknowledged_records_over_a_kill_and_a_restart(tmp_path: Path) -> None:
    server = start_kafka(tmp_path)
    try:
        apply_topics(server.bootstrap, [TopicSpec("kept", 1)])
        identity = cluster_id(server.bootstrap)
        for sent, end in enumerate((server.kill, server.stop), start=1):
            producer = Producer({"bootstrap.servers": server.bootstrap, "acks": "all"})
            producer.produce("kept", b"x")
            assert producer.flush(20) == 0
            end()
            assert not port_is_open(server.port)
            server.restart()
            assert cluster_id(server.bootstrap) == identity
            assert log_ends(server.bootstrap, [("kept", 0)]) == {("kept", 0): sent}
    finally:
        server.stop()
    assert not port_is_open(server.port)


@pytest.mark.kafka
def test_real_kafka_knows_only_topics_that_were_made(real_kafka: RealKafka) -> None:
    producer = Producer({"bootstrap.servers": real_kafka.bootstrap, "topic.metadata.propagation.max.ms": 100})
    refused: list[object] = []
    producer.produce("never.made", b"x", on_delivery=lambda error, _message: refused.append(error))
    producer.flush(10)
    assert len(refused) == 1
    assert "Unknown topic" in str(refused[0])
    assert "never.made" not in topic_partitions(real_kafka.bootstrap)


def _say_why_not(path: str, cache: Path) -> str:
    script = (
        "import sys, pathlib; from infra.servers import start_kafka, KafkaMissing\n"
        "try:\n    start_kafka(pathlib.Path(sys.argv[1]))\nexcept KafkaMissing as error:\n    print(error)"
    )
    environment = {**os.environ, "PATH": path, "TRADERMIND_CACHE": str(cache)}
    command = [sys.executable, "-c", script, str(cache / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.stderr == ""
    return done.stdout


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_without_java_or_maven_real_kafka_says_in_one_sentence_what_is_missing(tmp_path: Path) -> None:
    said = _say_why_not("/nonexistent", tmp_path)
    assert said.startswith("BROKER=kafka needs java, which is not on this machine: install")
    assert said.count("\n") == 1
    _program(tmp_path / "bin", "java", "exit 0")
    assert _say_why_not(str(tmp_path / "bin"), tmp_path).startswith("BROKER=kafka needs mvn, which is not")


def test_a_maven_that_fails_and_a_java_that_is_too_old_are_sentences(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    _program(programs, "mvn", "echo '[ERROR] no route to the repository'; exit 1")
    _program(programs, "java", "echo java.lang.UnsupportedClassVersionError: kafka/tools/StorageTool; exit 1")
    said = _say_why_not(str(programs), tmp_path)
    assert said == "Maven could not fetch Kafka 4.1.1: [ERROR] no route to the repository\n"
    assert not (tmp_path / "kafka-4.1.1").exists(), "a failed fetch leaves no half of a cache"
    (tmp_path / "kafka-4.1.1").mkdir()
    assert _say_why_not(str(programs), tmp_path).startswith("BROKER=kafka needs Java 17 or newer")


@pytest.mark.slow
def test_a_suite_without_java_skips_loudly(tmp_path: Path) -> None:
    wanted = f"{Path(__file__)}::{test_real_kafka_knows_only_topics_that_were_made.__name__}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", wanted, f"--basetemp={tmp_path}"]
    # A folder with no program in it: python itself is named by its path.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["PATH"] = "/nonexistent"
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "NOT MET: Apache Kafka. BROKER=kafka needs java" in done.stdout
