"""Questions to a broker and the making of topics: what a worker asks before it starts, and no more.

Errors are sentences for people; the client's own log stays silent.
"""

import logging
import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its manual, not by its stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

Security = Mapping[str, str]
"""librdkafka's names for how to connect: ``security.protocol``, ``sasl.*``, ``ssl.*``. None is plain text."""

Slot = tuple[str, int]
"""A topic and a partition."""

_SILENT: Final = logging.getLogger("tradermind.kafka.silent")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_ANSWER_S: Final = 5.0
_CHANGE_S: Final = 30.0
_POLL_S: Final = 0.05
_LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Final[OffsetSpec] = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_ResultT = TypeVar("_ResultT")


class KafkaFailed(Exception):
    """What a broker does not do, in one clear sentence."""


class BrokerUnreachable(KafkaFailed):
    """No broker answers at the address, in one clear sentence."""


class TopicsDiffer(KafkaFailed):
    """A topic on the broker is not, and cannot be made, what the topic table says, in one clear sentence."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to be: its partitions and its configuration on the broker.

    ``partitions_min``: any count from there on is right, too, since nobody looks for a key in it.
    """

    name: str
    partitions: int
    configuration: Mapping[str, str] = field(default_factory=dict)
    replication: int = 1
    partitions_min: int | None = None


@dataclass(frozen=True, slots=True)
class TopicsApplied:
    """What ``apply_topics`` did: names of topics made, and of topics whose configuration it changed."""

    created: tuple[str, ...]
    configured: tuple[str, ...]


def client_settings(bootstrap: str, security: Security | None = None) -> dict[str, Any]:
    """Return librdkafka settings for a quiet client that gives up in seconds."""
    return {
        "bootstrap.servers": bootstrap,
        "socket.connection.setup.timeout.ms": 4000,
        "reconnect.backoff.max.ms": 500,
        "logger": _SILENT,
        **(security or {}),
    }


def topic_partitions(
    bootstrap: str, security: Security | None = None, *, timeout_s: float = _ANSWER_S
) -> dict[str, int]:
    """Return topic -> partition count. Raises BrokerUnreachable within about ``timeout_s``."""
    metadata = _metadata(_admin(bootstrap, security), bootstrap, timeout_s)
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def cluster_id(bootstrap: str, security: Security | None = None, *, timeout_s: float = _ANSWER_S) -> str:
    """Return the id of the cluster, as the broker tells it. Raises BrokerUnreachable within about ``timeout_s``.

    Real Kafka keeps it for the life of its data; a re-made embedded broker has a new one.
    """
    return str(_metadata(_admin(bootstrap, security), bootstrap, timeout_s).cluster_id)


def apply_topics(bootstrap: str, specs: Iterable[TopicSpec], security: Security | None = None) -> TopicsApplied:
    """Make the topics that are missing, and give those that are there the configuration that ``specs`` name.

    A topic keeps its partitions: another count is TopicsDiffer, and then nothing is changed at all, since a keyed
    topic that grows or shrinks moves its keys. Configuration that a spec does not name is left alone. Raises
    BrokerUnreachable, too.
    """
    wanted = {spec.name: spec for spec in specs}
    admin = _admin(bootstrap, security)
    there = {name: len(topic.partitions) for name, topic in _metadata(admin, bootstrap, _ANSWER_S).topics.items()}
    for name in wanted.keys() & there.keys():
        if there[name] != wanted[name].partitions:
            raise TopicsDiffer(
                f"Topic {name} has {there[name]} partitions, not {wanted[name].partitions}; it is left as it is."
            )
    present = [spec for name, spec in wanted.items() if name in there]
    missing = [spec for name, spec in wanted.items() if name not in there]
    configured = _configure(admin, [spec for spec in present if spec.configuration])
    _create(admin, bootstrap, missing)
    return TopicsApplied(tuple(spec.name for spec in missing), configured)


def log_ends(bootstrap: str, slots: Iterable[Slot], security: Security | None = None) -> dict[Slot, int]:
    """Return (topic, partition) -> the offset that the next record will get. Raises BrokerUnreachable.

    Records of open and of aborted transactions count.
    """
    return _offsets(bootstrap, slots, security, _LATEST)


def log_starts(bootstrap: str, slots: Iterable[Slot], security: Security | None = None) -> dict[Slot, int]:
    """Return (topic, partition) -> the first offset that is still kept. Raises BrokerUnreachable."""
    return _offsets(bootstrap, slots, security, _EARLIEST)


def log_ranges(
    bootstrap: str, partitions: Iterable[Slot], security: Security | None = None
) -> dict[Slot, tuple[int, int]]:
    """Return (topic, partition) -> (first offset kept, next offset to be written). Raises BrokerUnreachable."""
    slots = list(partitions)
    starts, ends = log_starts(bootstrap, slots, security), log_ends(bootstrap, slots, security)
    return {slot: (starts[slot], ends[slot]) for slot in slots}


def _offsets(bootstrap: str, slots: Iterable[Slot], security: Security | None, spec: OffsetSpec) -> dict[Slot, int]:
    asked = {TopicPartition(topic, partition): spec for topic, partition in slots}
    if not asked:
        return {}
    admin = _admin(bootstrap, security)
    _refuse_deaf(bootstrap)
    found: dict[Slot, int] = {}
    try:
        for slot, future in admin.list_offsets(asked, request_timeout=_ANSWER_S).items():
            found[slot.topic, slot.partition] = int(future.result(timeout=2 * _ANSWER_S).offset)
    except (KafkaException, TimeoutError) as error:
        raise BrokerUnreachable(
            f"The Kafka broker at {bootstrap} does not tell its logs' ends ({_reason(error)})."
        ) from error
    return found


def _admin(bootstrap: str, security: Security | None) -> AdminClient:
    try:
        return AdminClient(client_settings(bootstrap, security))
    except KafkaException as error:
        raise BrokerUnreachable(f"The Kafka client refuses its settings ({_reason(error)}).") from error


def _metadata(admin: AdminClient, bootstrap: str, timeout_s: float) -> Any:
    _refuse_deaf(bootstrap)
    try:
        return admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise BrokerUnreachable(f"No Kafka broker answers at {bootstrap} ({_reason(error)}).") from error


def _refuse_deaf(bootstrap: str) -> None:
    """Raise BrokerUnreachable at once where nothing listens; librdkafka would go on trying, and never say why."""
    refusals: list[str] = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition("://")[2].rpartition(":")
        if not host or not port.isdigit():
            raise BrokerUnreachable(f"{address!r} is no address of a Kafka broker: host:port is.")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S / 2).close()
        except OSError as error:
            refusals.append(error.strerror or str(error))
        else:
            return
    raise BrokerUnreachable(f"No Kafka broker answers at {bootstrap} ({refusals[-1]}).")


def _create(admin: AdminClient, bootstrap: str, specs: list[TopicSpec]) -> None:
    if not specs:
        return
    new = [NewTopic(spec.name, spec.partitions, spec.replication, config=dict(spec.configuration)) for spec in specs]
    for name, future in admin.create_topics(new, operation_timeout=_CHANGE_S).items():
        _result(future, f"Topic {name} could not be made")
    deadline = time.monotonic() + _CHANGE_S
    # The controller has made them; the broker that clients ask may know of it a moment later.
    while missing := {spec.name for spec in specs} - _metadata(admin, bootstrap, _ANSWER_S).topics.keys():
        if time.monotonic() > deadline:
            raise TopicsDiffer(f"Topics {', '.join(sorted(missing))} were made but do not show up.")
        time.sleep(_POLL_S)


def _configure(admin: AdminClient, specs: list[TopicSpec]) -> tuple[str, ...]:
    if not specs:
        return ()
    asked = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    present = {
        resource.name: {name: entry.value for name, entry in _result(future, "Topics cannot be described").items()}
        for resource, future in admin.describe_configs(asked).items()
    }
    changes: list[ConfigResource] = []
    for spec in specs:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in spec.configuration.items()
            if present[spec.name].get(name) != value
        ]
        if entries:
            changes.append(ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=entries))
    if changes:
        for resource, future in admin.incremental_alter_configs(changes).items():
            _result(future, f"Topic {resource.name} could not be configured")
    return tuple(change.name for change in changes)


def _result(future: "Future[_ResultT]", failure: str) -> _ResultT:
    try:
        return future.result(timeout=2 * _CHANGE_S)
    except (KafkaException, TimeoutError) as error:
        raise TopicsDiffer(f"{failure}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return "no answer in time"
