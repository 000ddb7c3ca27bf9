"""What logs hold, asked by a consumer: the admin client answers seconds late now and then, and workers wait for it."""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.kafka import BrokerUnreachable, Security, Slot, client_settings

_ANSWER_S: Final = 5.0


def watermarks(bootstrap: str, slots: Iterable[Slot], security: Security | None = None) -> dict[Slot, tuple[int, int]]:
    """Return (topic, partition) -> (first offset kept, next offset to be written). Raises BrokerUnreachable.

    Records of open and of aborted transactions count. Every topic partition must be there.
    """
    settings = {"group.id": "tradermind.watermarks", "isolation.level": "read_uncommitted"}
    consumer = Consumer({**client_settings(bootstrap, security), **settings})
    try:
        found = {slot: consumer.get_watermark_offsets(TopicPartition(*slot), timeout=_ANSWER_S) for slot in slots}
    except KafkaException as error:
        raise BrokerUnreachable(
            f"The Kafka broker at {bootstrap} does not tell what its logs hold ({error.args[0].str()})."
        ) from error
    finally:
        consumer.close()
    missing = [slot for slot, range_ in found.items() if range_ is None]
    if missing:
        raise BrokerUnreachable(f"The Kafka broker at {bootstrap} does not tell what {missing[0][0]} holds.")
    return {slot: (int(start), int(end)) for slot, (start, end) in found.items()}


def topic_ids(bootstrap: str, names: Iterable[str], security: Security | None = None) -> dict[str, str]:
    """Return topic -> the id that Kafka gave it when it was made: one that was made anew has another.

    Empty for the embedded broker, which gives no ids: it is made afresh with its database. It is known by naming no
    controller that there is; every Kafka does. Raises BrokerUnreachable.
    """
    wanted = sorted(set(names))
    if not wanted:
        return {}
    admin = AdminClient(client_settings(bootstrap, security))
    try:
        cluster = admin.list_topics(timeout=_ANSWER_S)
        if cluster.controller_id not in cluster.brokers:
            return {}
        asked = admin.describe_topics(TopicCollection(wanted), request_timeout=_ANSWER_S)
        return {name: str(future.result(timeout=2 * _ANSWER_S).topic_id) for name, future in asked.items()}
    except (KafkaException, TimeoutError) as error:
        raise BrokerUnreachable(f"The Kafka broker at {bootstrap} does not describe its topics ({error}).") from error
