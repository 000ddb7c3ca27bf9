"""Questions to a broker and the making of topics: what a worker asks before it starts, and no more.

Errors are sentences for people; the client's own log stays silent.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_SILENT: Final = logging.getLogger("tradermind.kafka.silent")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class BrokerUnreachable(Exception):
    """No broker answers at the address, in one clear sentence."""


class TopicsDiffer(Exception):
    """A topic on the broker is not what the topic table says, in one clear sentence."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be: its partitions and its configuration on the broker."""

    name: str
    partitions: int
    configuration: Mapping[str, str] = field(default_factory=dict)


def client_settings(bootstrap: str, security: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return librdkafka settings for a quiet client that gives up in seconds."""
    return {"bootstrap.servers": bootstrap, "socket.connection.setup.timeout.ms": 5000, **(security or {})}


def topic_partitions(
    bootstrap: str, security: Mapping[str, str] | None = None, *, timeout_s: float = 5.0
) -> dict[str, int]:
    """Return topic -> partition count. Raises BrokerUnreachable within about ``timeout_s``."""
    admin = AdminClient(client_settings(bootstrap, security), logger=_SILENT)
    try:
        metadata = admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise BrokerUnreachable(f"No Kafka broker answers at {bootstrap} ({error.args[0].str()}).") from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def cluster_id(bootstrap: str, security: Mapping[str, str] | None = None) -> str:
    """Return the id of the cluster, as the broker tells it. Raises BrokerUnreachable."""
    admin = AdminClient(client_settings(bootstrap, security), logger=_SILENT)
    try:
        return str(admin.list_topics(timeout=5).cluster_id)
    except KafkaException as error:
        raise BrokerUnreachable(f"No Kafka broker answers at {bootstrap} ({error.args[0].str()}).") from error


def apply_topics(bootstrap: str, specs: Iterable[TopicSpec], security: Mapping[str, str] | None = None) -> list[str]:
    """Make the topics that are missing and return their names.

    A topic that is there keeps its partitions: another count is TopicsDiffer, since a keyed topic that grows
    or shrinks moves its keys. Raises BrokerUnreachable, too.
    """
    there = topic_partitions(bootstrap, security)
    missing: list[TopicSpec] = []
    for spec in specs:
        count = there.get(spec.name)
        if count is None:
            missing.append(spec)
        elif count != spec.partitions:
            raise TopicsDiffer(f"Topic {spec.name} has {count} partitions, not {spec.partitions}; it is left as it is.")
    if not missing:
        return []
    admin = AdminClient(client_settings(bootstrap, security), logger=_SILENT)
    new = [NewTopic(spec.name, spec.partitions, config=dict(spec.configuration)) for spec in missing]
    for name, future in admin.create_topics(new, operation_timeout=20).items():
        try:
            future.result(timeout=30)
        except KafkaException as error:
            raise TopicsDiffer(f"Topic {name} could not be made: {error.args[0].str()}.") from error
    _await_topics(bootstrap, [spec.name for spec in missing], security)
    return [spec.name for spec in missing]


def _await_topics(bootstrap: str, names: list[str], security: Mapping[str, str] | None) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if set(names) <= set(topic_partitions(bootstrap, security)):
            return
        time.sleep(0.05)
    raise TopicsDiffer(f"Topics {', '.join(names)} were made but do not show up.")


def log_ranges(
    bootstrap: str, partitions: Iterable[tuple[str, int]], security: Mapping[str, str] | None = None
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (topic, partition) -> (first offset kept, next offset to be written). Raises BrokerUnreachable."""
    consumer = Consumer({**client_settings(bootstrap, security), "group.id": "tradermind-log-ranges"}, logger=_SILENT)
    try:
        return {
            (topic, partition): consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            for topic, partition in partitions
        }
    except KafkaException as error:
        raise BrokerUnreachable(
            f"The Kafka broker at {bootstrap} does not tell its logs' ends ({error.args[0].str()})."
        ) from error
    finally:
        consumer.close()
