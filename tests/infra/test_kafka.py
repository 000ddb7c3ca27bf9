"""Questions to a broker: answers, topics made once and kept, and one sentence where nobody answers."""

import time
from collections.abc import Callable, Mapping

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from patience import PATIENCE
from servers import AnyBroker

from infra.kafka import (
    BrokerUnreachable,
    KafkaFailed,
    TopicsApplied,
    TopicsDiffer,
    TopicSpec,
    apply_topics,
    cluster_id,
    log_ends,
    log_ranges,
    log_starts,
    topic_partitions,
)
from infra.servers import EmbeddedBroker, RealKafka, free_port


def test_the_ends_of_logs_are_told(any_broker: AnyBroker) -> None:
    any_broker.make_topics({"ends.of.logs": 3})
    producer = Producer({"bootstrap.servers": any_broker.bootstrap, "acks": "all"})
    for partition, records in enumerate((0, 1, 5)):
        for _ in range(records):
            producer.produce("ends.of.logs", b"x", partition=partition)
    assert producer.flush(20) == 0
    slots = [("ends.of.logs", partition) for partition in range(3)]
    assert log_ends(any_broker.bootstrap, slots) == dict(zip(slots, (0, 1, 5), strict=True))
    assert log_starts(any_broker.bootstrap, slots) == dict.fromkeys(slots, 0)
    assert log_ranges(any_broker.bootstrap, slots[2:]) == {slots[2]: (0, 5)}
    assert log_ends(any_broker.bootstrap, []) == {}


def test_a_log_that_is_not_there_is_a_sentence(any_broker: AnyBroker) -> None:
    any_broker.make_topics({"short": 1})
    with pytest.raises(KafkaFailed, match="does not tell its logs' ends"):
        log_ends(any_broker.bootstrap, [("short", 5)])


@pytest.mark.embedded
def test_a_log_that_has_dropped_its_oldest_says_where_it_starts(
    embedded_broker: Callable[[Mapping[str, int]], EmbeddedBroker],
) -> None:
    broker = embedded_broker({"full": 1})
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "compression.type": "none"})
    for _ in range(80):
        producer.produce("full", b"x" * 100_000)
        producer.poll(0)
    assert producer.flush(20) == 0
    start, end = log_ranges(broker.bootstrap, [("full", 0)])["full", 0]
    assert end == 80
    assert 80 - 53 <= start < 80, "it keeps 5 MiB"


@pytest.mark.kafka
def test_real_kafka_makes_topics_once_and_never_moves_their_keys(real_kafka: RealKafka) -> None:
    specs = [TopicSpec("made.once", 3, {"retention.ms": "3600000"})]
    assert apply_topics(real_kafka.bootstrap, specs) == TopicsApplied(("made.once",), ())
    assert apply_topics(real_kafka.bootstrap, specs) == TopicsApplied((), ())
    for partitions in (2, 5):
        with pytest.raises(TopicsDiffer, match=f"has 3 partitions, not {partitions}; it is left as it is"):
            apply_topics(real_kafka.bootstrap, [TopicSpec("not.made", 1), TopicSpec("made.once", partitions)])
    assert topic_partitions(real_kafka.bootstrap)["made.once"] == 3
    assert "not.made" not in topic_partitions(real_kafka.bootstrap), "one that differs stops all"
    assert len(cluster_id(real_kafka.bootstrap)) == 22


@pytest.mark.kafka
def test_real_kafka_gets_the_configuration_that_is_named_and_keeps_the_rest(real_kafka: RealKafka) -> None:
    def configured() -> tuple[str | None, str | None]:
        resource = ConfigResource(ResourceType.TOPIC, "configured")
        admin = AdminClient({"bootstrap.servers": real_kafka.bootstrap})
        entries = admin.describe_configs([resource])[resource].result(timeout=10)
        return entries["retention.ms"].value, entries["cleanup.policy"].value

    first = TopicSpec("configured", 1, {"retention.ms": "1000000", "cleanup.policy": "compact"})
    apply_topics(real_kafka.bootstrap, [first])
    assert configured() == ("1000000", "compact")
    second = TopicSpec("configured", 1, {"retention.ms": "2000000"})
    assert apply_topics(real_kafka.bootstrap, [second]) == TopicsApplied((), ("configured",))
    assert configured() == ("2000000", "compact")


@pytest.mark.kafka
def test_what_real_kafka_refuses_is_a_sentence(real_kafka: RealKafka) -> None:
    with pytest.raises(TopicsDiffer, match=r"Topic refused could not be made: .*no.such.setting"):
        apply_topics(real_kafka.bootstrap, [TopicSpec("refused", 1, {"no.such.setting": "1"})])
    with pytest.raises(TopicsDiffer, match=r"Topic too\.many\.replicas could not be made: "):
        apply_topics(real_kafka.bootstrap, [TopicSpec("too.many.replicas", 1, replication=3)])
    apply_topics(real_kafka.bootstrap, [TopicSpec("there", 1)])
    with pytest.raises(TopicsDiffer, match="Topic there could not be configured: "):
        apply_topics(real_kafka.bootstrap, [TopicSpec("there", 1, {"retention.ms": "soon"})])


def test_an_unreachable_broker_is_one_sentence_at_once_and_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    for ask in (topic_partitions, cluster_id, lambda at: log_ends(at, [("a", 0)]), lambda at: apply_topics(at, [])):
        with pytest.raises(
            BrokerUnreachable, match=rf"^No Kafka broker answers at {address} \(Connection refused\)\.$"
        ):
            ask(address)
    assert time.monotonic() - began < 5 * PATIENCE
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_listener_that_is_no_broker_is_told_within_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match=f"No Kafka broker answers at {address}"):
            cluster_id(address)
        assert time.monotonic() - began < 8 * PATIENCE
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["nonsense", "host", ":9092", "host:port", ""])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(BrokerUnreachable, match="is no address of a Kafka broker"):
        cluster_id(address)


def test_settings_that_the_client_refuses_are_told() -> None:
    with pytest.raises(BrokerUnreachable, match="The Kafka client refuses its settings"):
        cluster_id("127.0.0.1:9", {"security.protocol": "TRUST_ME"})
