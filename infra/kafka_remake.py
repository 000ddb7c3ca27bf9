"""Topics taken away and made anew, and what consumer groups say: for a rescale, while all workers stand still.

Kafka deletes asynchronously: a topic is gone when no metadata names it any more, and only then is it made again.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its manual, not by its stubs
    AdminClient,
    NewPartitions,
)

from infra.kafka import BrokerUnreachable, Security, Slot, TopicsDiffer, client_settings, topic_partitions

_ANSWER_S: Final = 10.0
_GONE_S: Final = 60.0
_POLL_S: Final = 0.1
_AWAY_FOR_POLLS: Final = 3


def delete_topics(bootstrap: str, names: Collection[str], security: Security | None = None) -> None:
    """Delete those of ``names`` that are there, and return when the broker knows none of them any more.

    Raises TopicsDiffer when one is refused or does not go, BrokerUnreachable.
    """
    there = sorted(topic_partitions(bootstrap, security).keys() & set(names))
    if not there:
        return
    admin = AdminClient(client_settings(bootstrap, security))
    for name, future in admin.delete_topics(there, operation_timeout=_GONE_S).items():
        _answer(future, f"Topic {name} could not be deleted")
    deadline = time.monotonic() + _GONE_S
    away = 0
    # Several brokers learn of it one after another, and each question may go to another of them.
    while away < _AWAY_FOR_POLLS:
        away = 0 if topic_partitions(bootstrap, security).keys() & set(names) else away + 1
        if time.monotonic() > deadline:
            raise TopicsDiffer(f"Topics {', '.join(there)} were deleted but are still there after {_GONE_S:g} s.")
        time.sleep(_POLL_S)


def grow_topic(bootstrap: str, name: str, partitions: int, security: Security | None = None) -> None:
    """Give a topic ``partitions`` partitions, which must be more than it has; what it holds stays where it is."""
    admin = AdminClient(client_settings(bootstrap, security))
    for future in admin.create_partitions([NewPartitions(name, partitions)], operation_timeout=_GONE_S).values():
        _answer(future, f"Topic {name} could not be given {partitions} partitions")


def group_members(bootstrap: str, prefix: str, security: Security | None = None) -> dict[str, list[str]]:
    """Return group -> names of its members, for every consumer group whose id begins so. Raises BrokerUnreachable."""
    topic_partitions(bootstrap, security)
    admin = AdminClient(client_settings(bootstrap, security))
    listed = _answer(admin.list_consumer_groups(request_timeout=_ANSWER_S), "The consumer groups cannot be listed")
    names = sorted(group.group_id for group in listed.valid if group.group_id.startswith(prefix))
    if not names:
        return {}
    described = admin.describe_consumer_groups(names, request_timeout=_ANSWER_S)
    return {
        name: [
            member.group_instance_id or member.client_id
            for member in _answer(future, f"The consumer group {name} cannot be described").members
        ]
        for name, future in described.items()
    }


def committed_offsets(
    bootstrap: str, group: str, slots: Iterable[Slot], security: Security | None = None
) -> dict[Slot, int]:
    """Return (topic, partition) -> the offset that a group has committed; what it has not is not in it."""
    admin = AdminClient(client_settings(bootstrap, security))
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for topic, number in slots])
    future = admin.list_consumer_group_offsets([asked], request_timeout=_ANSWER_S)[group]
    found = _answer(future, f"The offsets of the consumer group {group} cannot be read").topic_partitions
    return {(slot.topic, slot.partition): int(slot.offset) for slot in found if slot.offset >= 0}


def set_offsets(bootstrap: str, group: str, offsets: Mapping[Slot, int], security: Security | None = None) -> None:
    """Let a group without members go on from these offsets. Raises TopicsDiffer when the broker refuses."""
    admin = AdminClient(client_settings(bootstrap, security))
    places = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    for future in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]).values():
        answered = _answer(future, f"The offsets of the consumer group {group} could not be set")
        for place in answered.topic_partitions:
            if place.error is not None:
                raise TopicsDiffer(
                    f"The consumer group {group} keeps its offset of {place.topic}: {place.error.str()}."
                )


def _answer(future: Any, failure: str) -> Any:
    try:
        return future.result(timeout=2 * _GONE_S)
    except KafkaException as error:
        raise TopicsDiffer(f"{failure}: {error.args[0].str()}.") from error
    except TimeoutError as error:
        raise BrokerUnreachable(f"{failure}: no answer in time.") from error
