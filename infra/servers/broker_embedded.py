"""The embedded broker: librdkafka's mock cluster in a process of its own.

It speaks the Kafka protocol to any client but is no Kafka: it keeps 5 MiB per partition in memory, has no
CreateTopics (topics are made here, before it serves) and forgets all at its exit. Its cluster id is new each time.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka

from infra.servers.process import ChildProcess, Launch, ServerFailed, start_process, wait_until_ready

_PRODUCER: Final = 0
_ERROR_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class EmbeddedBroker:
    """A running embedded broker."""

    bootstrap: str
    cluster_id: str
    process: ChildProcess

    def stop(self) -> None:
        """End it; what it held is gone."""
        self.process.terminate(5)


def start_embedded_broker(directory: Path, topics: Mapping[str, int]) -> EmbeddedBroker:
    """Start the broker with these topics (name -> partitions). Raises ServerFailed."""
    address = directory / "broker.json"
    address.unlink(missing_ok=True)
    command = [sys.executable, "-m", "infra.servers.broker_embedded", str(address), json.dumps(dict(topics))]
    root = str(Path(__file__).resolve().parents[2])
    launch = Launch("The embedded broker", command, directory / "logs" / "broker.log", {"PYTHONPATH": root})
    child = start_process(launch)
    wait_until_ready(child, address.exists, 20)
    described = json.loads(address.read_text())
    return EmbeddedBroker(described["bootstrap"], described["cluster_id"], child)


def _library() -> ctypes.CDLL:
    """Return the librdkafka that confluent-kafka brings: bundled beside the package, or the system's."""
    package = Path(str(confluent_kafka.__file__)).parent
    bundled = sorted((package.parent / "confluent_kafka.libs").glob("librdkafka*"))
    bundled += sorted((package / ".dylibs").glob("librdkafka*"))
    if not bundled:
        raise ServerFailed("confluent-kafka brings no librdkafka on this machine, so there is no embedded broker.")
    library = ctypes.CDLL(str(bundled[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    library.rd_kafka_conf_new.restype = pointer
    library.rd_kafka_conf_set.argtypes = [pointer, text, text, text, ctypes.c_size_t]
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_new.argtypes = [number, pointer, text, ctypes.c_size_t]
    library.rd_kafka_mock_cluster_new.restype = pointer
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, number]
    library.rd_kafka_mock_cluster_bootstraps.restype = text
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_topic_create.argtypes = [pointer, text, number, number]
    library.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [pointer, ctypes.c_int32]
    return library


def _serve(topics: Mapping[str, int]) -> tuple[Any, str]:
    library = _library()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    configuration = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(configuration, b"log_level", b"3", error, _ERROR_BYTES)
    handle = library.rd_kafka_new(_PRODUCER, configuration, error, _ERROR_BYTES)
    if not handle:
        raise ServerFailed(f"librdkafka could not be started: {error.value.decode()}.")
    cluster = library.rd_kafka_mock_cluster_new(handle, 1)
    if not cluster:
        raise ServerFailed("librdkafka could not start its mock cluster.")
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100)
    for name, partitions in topics.items():
        code = library.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, 1)
        if code != 0:
            raise ServerFailed(f"topic {name} could not be made: librdkafka error {code}.")
    return (library, handle, cluster), library.rd_kafka_mock_cluster_bootstraps(cluster).decode()


def main() -> int:
    """Serve until SIGTERM or SIGINT; write the address to a file when ready."""
    parser = argparse.ArgumentParser(description="TraderMind's embedded broker")
    parser.add_argument("address_file", type=Path)
    parser.add_argument("topics", type=json.loads)
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        cluster, bootstrap = _serve(arguments.topics)
    except ServerFailed as error:
        sys.stderr.write(f"{error}\n")
        return 2
    described = {"bootstrap": bootstrap, "cluster_id": f"embedded-{uuid.uuid4().hex}", "pid": os.getpid()}
    partial = arguments.address_file.with_suffix(".partial")
    partial.write_text(json.dumps(described))
    partial.rename(arguments.address_file)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del cluster
    return 0


if __name__ == "__main__":
    # librdkafka's threads must not be waited for: nothing of theirs is worth keeping.
    os._exit(main())
