"""Where the time between tick and order goes: the records of one tick found again in each topic of its way.

Every record that follows from a feed's message carries the time of that message's receipt in a header; Kafka keeps
when the producer took the record. So the log itself tells how long each hop took, to the millisecond.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from schemas.codec import Codec
from schemas.decisions import OrderApproved
from schemas.topics import DECISION, EXPERT_VOTE, MARKET_EVENT, ORDER_APPROVED, VOTE_TALLY, Topic
from streams.engine.ports import RawRecord
from streams.engine.shard import ORIGIN_HEADER
from streams.offline.log_reader import LogReader

WAY: Final[tuple[Topic, ...]] = (MARKET_EVENT, EXPERT_VOTE, VOTE_TALLY, DECISION, ORDER_APPROVED)
"""The topics between the feed and the venue, in order."""
_STAGES: Final = ("ingestion", "experts", "voting", "decider", "risk", "execution")


def origin_ns(record: RawRecord) -> int | None:
    """Return when the message was received that the record follows from; None for what follows from time alone."""
    for name, value in record.headers:
        if name == ORIGIN_HEADER:
            return int(value)
    return None


def _records(bootstrap: str, topic: Topic, partitions: int) -> Iterable[RawRecord]:
    for partition in range(topic.partitions(partitions)):
        reader = LogReader(bootstrap, (topic.name, partition))
        try:
            while (record := reader.next()) is not None:
                yield record
        finally:
            reader.close()


def hop_latencies_ms(
    bootstrap: str, partitions: int, codec: Codec, tick_to_order_ns: Mapping[str, int]
) -> dict[str, list[float]]:
    """Return stage -> milliseconds from when its input was handed to Kafka until its own output was, by order.

    ``tick_to_order_ns`` is by order id; the last stage ends when the bytes leave for the venue.
    """
    origins: dict[int, float] = {}
    for record in _records(bootstrap, ORDER_APPROVED, partitions):
        origin, event = origin_ns(record), codec.decode(record.topic, record.value, record.headers)
        if origin is not None and isinstance(event, OrderApproved) and event.order_id in tick_to_order_ns:
            origins[origin] = tick_to_order_ns[event.order_id] / 1e6
    written: list[dict[int, float]] = []
    for topic in WAY:
        times: dict[int, float] = {}
        for record in _records(bootstrap, topic, partitions):
            origin = origin_ns(record)
            if origin in origins:
                # Of several votes and tallies of one tick the last completes what follows. Stamps are whole ms.
                times[origin] = max(times.get(origin, 0.0), record.timestamp_ms + 0.5 - origin / 1e6)
        written.append(times)
    written.append(origins)
    return _differences(written)


def _differences(written: Sequence[Mapping[int, float]]) -> dict[str, list[float]]:
    followed = [origin for origin in written[-1] if all(origin in times for times in written)]
    hops: dict[str, list[float]] = {}
    before = dict.fromkeys(followed, 0.0)
    for stage, times in zip(_STAGES, written, strict=True):
        hops[stage] = [times[origin] - before[origin] for origin in followed]
        before = {origin: times[origin] for origin in followed}
    return hops


def quantiles_ms(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, 99th percentile and largest."""
    ordered = sorted(values)
    rank = min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))
    return statistics.median(ordered), ordered[rank], ordered[-1]
