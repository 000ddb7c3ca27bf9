"""Where an event goes: topic and partitions, as a pure function of the event, its producer and the counts.

Workers, replay and the in-process pipeline share it, so nothing can be routed differently live than in a backtest.
"""

import msgspec

from schemas.decisions import Decision
from schemas.event import Event, Heartbeat
from schemas.feedback import ReleaseStage
from schemas.orders import AmendRequested, CancelRequested, QueryRequested, SubmitRequested
from schemas.partition import partition_of
from schemas.reconciliation import BooksRequested
from schemas.topics import DECISION_SHADOW, EXPERT_VOTE, FEATURE_SNAPSHOT, MARKET_EVENT, ROUTES, Spread, Topic
from schemas.training import BufferResumed, ExperienceTaken, TrainingRequested

PERFORMED: tuple[type[msgspec.Struct], ...] = (
    SubmitRequested,
    CancelRequested,
    AmendRequested,
    QueryRequested,
    BooksRequested,
    BufferResumed,
    ExperienceTaken,
    TrainingRequested,
)
"""Outputs without a topic: the shell carries them out after the commit."""

_HEARTBEAT_TOPICS = {"feature.snapshot": FEATURE_SNAPSHOT, "expert.vote": EXPERT_VOTE}


def topic_of(event: Event) -> Topic | None:
    """Return the topic of an event, or None for a request to the shell. Raises KeyError for a foreign type.

    A Heartbeat's key names the topic that it keeps time on: ``feature.snapshot``, ``expert.vote``, or any other
    key for ``market.event``. A Decision of a model in shadow goes where no stage reads it.
    """
    kind = type(event)
    if kind is Heartbeat:
        return _HEARTBEAT_TOPICS.get(event.key, MARKET_EVENT)
    if kind in PERFORMED:
        return None
    return DECISION_SHADOW if is_shadow(event) else ROUTES[kind]


def is_shadow(event: Event) -> bool:
    """Tell whether an event is what a model in shadow would do, which no stage reads."""
    return type(event) is Decision and event.policy_stage == ReleaseStage.SHADOW


def targets(event: Event, instrument_partitions: int, own_partition: int | None) -> tuple[tuple[str, int], ...]:
    """Return the (topic, partition) pairs an event is written to; none for a request to the shell.

    A Heartbeat goes to ``own_partition`` of its topic, or to every partition where the producer has none of its
    own (a feed).
    """
    topic = topic_of(event)
    if topic is None:
        return ()
    if topic.spread is Spread.SINGLE:
        return ((topic.name, 0),)
    if type(event) is Heartbeat:
        partitions = range(instrument_partitions) if own_partition is None else (own_partition,)
        return tuple((topic.name, partition) for partition in partitions)
    return ((topic.name, partition_of(event.key, instrument_partitions)),)
