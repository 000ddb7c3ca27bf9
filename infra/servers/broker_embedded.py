"""The embedded broker: librdkafka's mock cluster, which confluent-kafka carries, in a process of its own.

Run as ``python -m infra.servers.broker_embedded --port-file F [--topics JSON]``. It serves the Kafka protocol on a
loopback port to any client, keeps everything in memory, at most 5 MiB or 100,000 record sets per partition, and
knows no CreateTopics: topics are made here, with exact partition counts. A topic that a client merely asks for
comes into being with four partitions; that is librdkafka's own habit and cannot be turned off.

On SIGHUP the file ``F.topics`` is read and what is missing is created. On SIGTERM, SIGINT or the parent's death it
ends.
"""

import argparse
import ctypes
import importlib.metadata
import json
import os
import secrets
import signal
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from infra.servers.broker import topics_file

_PRODUCER: Final = 0
_ID_PREFIX: Final = b"mockCluster"
_ID_BYTES: Final = 32
_PARENT_CHECK_S: Final = 0.25


def _librdkafka() -> ctypes.CDLL:
    """Load the library inside the installed confluent-kafka, with the signatures of the calls made here."""
    files = importlib.metadata.files("confluent-kafka") or []
    found = [file for file in files if file.name.startswith("librdkafka") and ".so" in file.name]
    if len(found) != 1:
        raise SystemExit("the installed confluent-kafka does not carry librdkafka, so there is no embedded broker")
    library = ctypes.CDLL(str(found[0].locate()))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_err2str": (text, [number]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockCluster:
    """One mock cluster of one broker, owned by this process."""

    def __init__(self) -> None:
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        settings = self._library.rd_kafka_conf_new()
        # Level 4 leaves out the remark that this client, which only owns the cluster, has no broker to talk to.
        self._library.rd_kafka_conf_set(settings, b"log_level", b"4", error, len(error))
        self._owner = self._library.rd_kafka_new(_PRODUCER, settings, error, len(error))
        if not self._owner:
            raise SystemExit(f"librdkafka gives no handle: {error.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._owner, 1)
        if not self._cluster:
            raise SystemExit("librdkafka gives no mock cluster")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.cluster_id = self._rename()
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.topics: dict[str, int] = {}

    def _rename(self) -> str:
        """Give the cluster an id that no earlier one had, and return it.

        librdkafka makes the id from an address in memory, so a re-made broker may carry the id of the one whose
        checkpoints still lie in a database. The id opens the structure; it is overwritten in place, by as many bytes.
        """
        old = ctypes.string_at(self._cluster, _ID_BYTES).split(b"\0", 1)[0]
        digits = old.removeprefix(_ID_PREFIX)
        if old == digits or len(digits) < 8 or not set(digits.decode("ascii", "replace")) <= set(string.hexdigits):
            raise SystemExit("this librdkafka keeps the id of its mock cluster elsewhere; pin the tested version")
        new = _ID_PREFIX + secrets.token_hex(_ID_BYTES)[: len(digits)].encode()
        ctypes.memmove(self._cluster, new, len(new))
        return new.decode()

    def create(self, topics: Mapping[str, int]) -> None:
        """Create topics, name -> partitions; those that exist with that count are left alone."""
        for name, partitions in topics.items():
            if self.topics.get(name) == partitions:
                continue
            code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
            if code:
                reason = self._library.rd_kafka_err2str(code).decode()
                raise SystemExit(f"topic {name} with {partitions} partitions cannot be created: {reason}")
            self.topics[name] = partitions

    def close(self) -> None:
        """End the cluster; its port closes and its records are gone."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)


def _announce(cluster: MockCluster, port_file: Path) -> None:
    """Write the port file whole, so that who reads it never sees a part."""
    text = json.dumps(
        {"bootstrap": cluster.bootstrap, "cluster_id": cluster.cluster_id, "pid": os.getpid(), "topics": cluster.topics}
    )
    partial = port_file.with_name(port_file.name + ".partial")
    partial.write_text(text)
    partial.replace(port_file)


def serve(port_file: Path, topics: Mapping[str, int]) -> None:
    """Serve until told to end, or until the parent is gone."""
    parent = os.getppid()
    awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    cluster = MockCluster()
    cluster.create(topics)
    _announce(cluster, port_file)
    while os.getppid() == parent:
        arrived = signal.sigtimedwait(awaited, _PARENT_CHECK_S)
        if arrived is None:
            continue
        if arrived.si_signo != signal.SIGHUP:
            break
        cluster.create(json.loads(topics_file(port_file).read_text()))
        _announce(cluster, port_file)
    port_file.unlink(missing_ok=True)
    cluster.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Kafka's protocol from memory, on a loopback port.")
    parser.add_argument("--port-file", type=Path, required=True, help="written as JSON once the broker is ready")
    parser.add_argument("--topics", type=json.loads, default={}, help="JSON: topic name -> partitions")
    arguments = parser.parse_args()
    serve(arguments.port_file, arguments.topics)


if __name__ == "__main__":
    main()
