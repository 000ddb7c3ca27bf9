"""Where the time between tick and order goes: the chain of causes of each order, found again in Kafka's log.

Every event names its cause, and Kafka keeps when the producer took the record. So the log itself tells how long each
hop took, to the millisecond.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.codec import Codec
from schemas.decisions import OrderApproved
from schemas.event import Event
from schemas.topics import DECISION, EXPERT_VOTE, MARKET_EVENT, ORDER_APPROVED, VOTE_TALLY, Topic
from streams.engine.ports import RawRecord
from streams.engine.shard import ORIGIN_HEADER
from streams.offline.log_reader import LogReader

WAY: Final[tuple[Topic, ...]] = (MARKET_EVENT, EXPERT_VOTE, VOTE_TALLY, DECISION, ORDER_APPROVED)
"""The topics between the feed and the venue, in order."""
STAGES: Final = ("ingestion", "experts", "voting", "decider", "risk", "execution")


@dataclass(frozen=True, slots=True)
class _Written:
    """One event in the log. ``at_ms`` is when the producer took it; Kafka keeps whole milliseconds."""

    event: Event
    at_ms: float
    origin_ns: int


def hop_latencies_ms(
    bootstrap: str, partitions: int, codec: Codec, tick_to_order_ns: Mapping[str, int]
) -> dict[str, list[float]]:
    """Return stage -> milliseconds from when its input was handed to Kafka until its own output was, one an order.

    ``tick_to_order_ns`` is by order id; the last stage ends when the bytes leave for the venue. An order whose chain
    does not begin with a feed's message (time itself closed its grid step, or its ballot) is left out.
    """
    logs = [
        {written.event.event_id: written for written in _read(bootstrap, topic, partitions, codec)} for topic in WAY
    ]
    hops: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for approved in logs[-1].values():
        order = approved.event
        chain = _chain(logs, approved)
        if not isinstance(order, OrderApproved) or order.order_id not in tick_to_order_ns or not chain:
            continue
        origin_ms = approved.origin_ns / 1e6
        times = [origin_ms, *(written.at_ms for written in chain)]
        times.append(origin_ms + tick_to_order_ns[order.order_id] / 1e6)
        for stage, before, after in zip(STAGES, times, times[1:], strict=False):
            hops[stage].append(after - before)
    return hops


def _read(bootstrap: str, topic: Topic, partitions: int, codec: Codec) -> Iterable[_Written]:
    for partition in range(topic.partitions(partitions)):
        reader = LogReader(bootstrap, (topic.name, partition))
        try:
            while (record := reader.next()) is not None:
                event = codec.decode(record.topic, record.value, record.headers)
                yield _Written(event, record.timestamp_ms + 0.5, _origin_ns(record))
        finally:
            reader.close()


def _origin_ns(record: RawRecord) -> int:
    return next((int(value) for name, value in record.headers if name == ORIGIN_HEADER), 0)


def _chain(logs: Sequence[Mapping[str, _Written]], last: _Written) -> list[_Written]:
    """Return the events from the feed's to the order, or nothing where one of them is of another kind."""
    chain = [last]
    for log in reversed(logs[:-1]):
        cause = log.get(chain[0].event.cause_id)
        if cause is None:
            return []
        chain.insert(0, cause)
    return chain if last.origin_ns else []
