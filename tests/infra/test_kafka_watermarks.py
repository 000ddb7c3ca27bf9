"""What logs hold, on both kinds of broker, and what is said where none answers."""

import pytest
from confluent_kafka import Producer
from servers import AnyBroker

from infra.kafka import BrokerUnreachable, client_settings
from infra.kafka_watermarks import watermarks
from infra.servers import free_port

TOPICS = {"watermarks.of.logs": 2}


def test_each_log_is_told_from_its_first_record_to_the_next(any_broker: AnyBroker) -> None:
    any_broker.make_topics(TOPICS)
    (topic,) = TOPICS
    producer = Producer(client_settings(any_broker.bootstrap))
    for _ in range(3):
        producer.produce(topic, b"x", partition=1)
    assert producer.flush(30) == 0
    assert watermarks(any_broker.bootstrap, [(topic, 0), (topic, 1)]) == {(topic, 0): (0, 0), (topic, 1): (0, 3)}
    assert watermarks(any_broker.bootstrap, []) == {}


@pytest.mark.slow
def test_where_no_broker_answers_it_is_said_in_one_sentence() -> None:
    with pytest.raises(BrokerUnreachable, match="does not tell what its logs hold"):
        watermarks(f"127.0.0.1:{free_port()}", [("none", 0)])
