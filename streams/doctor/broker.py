"""Kafka: does it answer, is it new enough, are the topics as the table says, and may we read and write them."""

from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its manual, not by its stubs
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

from infra.kafka import BrokerUnreachable, Security, client_settings, cluster_id
from infra.kafka_security import security_of
from infra.kafka_topics import Kind, differences, find_topics
from infra.settings import Settings, SettingsError
from infra.topic_specs import topic_specs
from schemas.topics import TOPICS
from streams.doctor.examination import Finding, failed, ok, warning

_ANSWER_S: Final = 4.0
_SHOWN: Final = 3
# The setting by which a broker before 4.0 told its version; 4.0 has no such setting any more.
_OLD_VERSION: Final = "inter.broker.protocol.version"
_REACH: Final = "Start the broker, or correct kafka.bootstrap, kafka.security_protocol and the credentials' files."


def kafka(settings: Settings) -> Iterator[Finding]:
    """Ask the broker of the settings everything that a worker needs of it."""
    bootstrap = settings.kafka.bootstrap
    if bootstrap is None:
        yield ok("kafka", "kafka.bootstrap is not set: `demo` and `up` start a broker of their own.")
        return
    try:
        security = security_of(settings.kafka)
        cluster = cluster_id(bootstrap, security, timeout_s=_ANSWER_S)
    except (SettingsError, BrokerUnreachable) as error:
        yield failed("kafka", str(error), _REACH)
        return
    admin = AdminClient(client_settings(bootstrap, security))
    yield ok("kafka", f"Cluster {cluster} answers at {bootstrap}.")
    yield _version(admin)
    found = yield from _topics(settings, bootstrap, security)
    if found:
        yield from _permissions(admin, found)


def _version(admin: Any) -> Finding:
    name = "kafka version"
    try:
        broker = next(iter(admin.list_topics(timeout=_ANSWER_S).brokers))
        asked = ConfigResource(ResourceType.BROKER, str(broker))
        (future,) = admin.describe_configs([asked], request_timeout=_ANSWER_S).values()
        told = future.result(timeout=_ANSWER_S)
    except (KafkaException, TimeoutError):
        mend = "Give the user DescribeConfigs on the cluster, if it shall be known."
        return warning(name, "The broker does not tell its configuration to us.", mend)
    old = told.get(_OLD_VERSION)
    if old is None or old.value is None:
        return ok(name, "4.0 or newer." if told else "Not told.")
    return warning(name, f"{old.value}: older than what is tested, 4.1.", "Plan the upgrade of the broker.")


def _topics(settings: Settings, bootstrap: str, security: Security) -> Generator[Finding, None, tuple[str, ...]]:
    """Yield what differs from the table; the return value is the names of the topics that are there."""
    specs = topic_specs(settings)
    try:
        found = find_topics(bootstrap, [spec.name for spec in specs], security)
    except BrokerUnreachable as error:
        yield failed("topics", str(error), "Give the user Describe and DescribeConfigs on the topics.")
        return ()
    differing = differences(specs, found)
    for kind, mend in _MENDS.items():
        of_kind = [difference.sentence() for difference in differing if difference.kind is kind]
        if of_kind:
            more = f" And {len(of_kind) - _SHOWN} more." if len(of_kind) > _SHOWN else ""
            yield failed("topics", " ".join(of_kind[:_SHOWN]) + more, mend)
    if not differing:
        yield ok("topics", f"All {len(specs)} are as the table says.")
    return tuple(found)


_MENDS: Final = {
    Kind.MISSING: "`tradermind topics apply` makes them.",
    Kind.CHANGE: "`tradermind topics apply` sets it.",
    Kind.SHORTER_RETENTION: "`tradermind topics apply --allow-shorter-retention TOPIC`, if they may forget sooner.",
    Kind.REFUSED: "Keys would move: `tradermind topics rescale`, or set kafka.instrument_partitions and"
    " kafka.replication to what is there.",
}


def _permissions(admin: Any, there: Iterable[str]) -> Iterator[Finding]:
    """Yield whether this user may read and write what is there. A user of one worker may do less: see its KafkaUser."""
    name = "kafka permissions"
    letters = {topic.dead_letters for topic in TOPICS.values()}
    asked = sorted(there)
    try:
        futures = admin.describe_topics(
            TopicCollection(asked), include_authorized_operations=True, request_timeout=_ANSWER_S
        )
        may = {topic: future.result(timeout=_ANSWER_S).authorized_operations for topic, future in futures.items()}
    except (KafkaException, TimeoutError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        yield warning(name, f"What we may do is not told ({reason}).", "Give the user Describe on the topics.")
        return
    if any(operations is None for operations in may.values()):
        yield ok(name, "The broker does not say; it has no rules for users.")
        return
    lacking = [
        f"{topic} ({what.name})"
        for topic, operations in may.items()
        for what in (AclOperation.READ, AclOperation.WRITE)
        if what not in operations and not (topic in letters and what is AclOperation.READ)
    ]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        mend = "Give the user what its worker needs (deploy/k8s, KafkaUser); the user of one worker needs only a part."
        yield failed(name, f"Not allowed: {', '.join(lacking[:_SHOWN])}{more}.", mend)
    else:
        yield ok(name, f"{len(may)} topics can be read and written.")
