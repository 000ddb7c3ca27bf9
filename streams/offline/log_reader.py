"""A log read forward once, for what is done offline: a partition's records, and those that a stage has written."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from infra.kafka import Security, log_ends, log_ranges, topic_partitions
from schemas.codec import Codec
from schemas.dead_letters import BadRecord, UnknownRecordType
from schemas.event import Event
from schemas.topics import TOPICS
from streams.engine.log_reader import Lane, LogReader, RecomputeImpossible
from streams.engine.ports import RawRecord

__all__ = ["KafkaLog", "Lane", "LaneReader", "Log", "LogReader", "OwnOutputs", "RecomputeImpossible"]


class LaneReader(Protocol):
    """One topic partition, read forward once. ``start`` is the first offset that is kept."""

    start: int

    def next(self) -> RawRecord | None:
        """Return the next record, or None at the end."""

    def through(self, first: int, last: int) -> Iterator[RawRecord]:
        """Yield the records from ``first`` to ``last``. Raises RecomputeImpossible when one is not there."""

    def close(self) -> None:
        """Give back what it holds."""


class Log(Protocol):
    """Where inputs and outputs lie."""

    def ends(self, lanes: Iterable[Lane]) -> Mapping[Lane, int]:
        """Return the offset that each lane's next record will get."""

    def reader(self, lane: Lane, first: int) -> LaneReader:
        """Return a reader from ``first`` on, or from what is kept."""


class KafkaLog:
    """Kafka. What it holds of every topic is asked once, when the first reader is wanted: each question costs."""

    def __init__(self, bootstrap: str, security: Security | None) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._kept: dict[Lane, tuple[int, int]] = {}

    def ends(self, lanes: Iterable[Lane]) -> Mapping[Lane, int]:
        """Return the offset that each lane's next record will get. Raises BrokerUnreachable."""
        return log_ends(self._bootstrap, lanes, self._security)

    def reader(self, lane: Lane, first: int) -> LaneReader:
        """Return a reader from ``first`` on, or from what is kept. Raises BrokerUnreachable."""
        if not self._kept:
            # The public topics' counts are their own: a rescale leaves them alone.
            there = topic_partitions(self._bootstrap, self._security)
            lanes = [(name, number) for name in TOPICS for number in range(there.get(name, 0))]
            self._kept = log_ranges(self._bootstrap, lanes, self._security)
        return LogReader(self._bootstrap, lane, first, self._security, kept=self._kept[lane])


class OwnOutputs:
    """What lies in one topic partition of one source after a (generation, seq), each number once, as a reader sees it.

    ``first`` is the offset before which nothing of it is needed.
    """

    def __init__(self, reader: LaneReader, first: int, source: str, codec: Codec, after: tuple[int, int]) -> None:
        self.reader = reader
        self.is_trimmed = reader.start > first
        """Whether something that is needed may be gone."""
        self._source = source
        self._name = source.encode()
        self._codec = codec
        self._last = after

    def next(self) -> tuple[RawRecord, Event] | None:
        """Return the next record of the source that is new to a reader, and what is in it, or None."""
        while (record := self.reader.next()) is not None:
            # What does not even hold the source's name is not its own: far cheaper to see than to decode.
            if record.value is None or self._name not in record.value:
                continue
            try:
                event: Event = self._codec.decode(record.topic, record.value, record.headers)
            except (BadRecord, UnknownRecordType):
                continue  # A reader does not take it either: then its number is missing.
            position = (event.generation, event.seq)
            if event.source != self._source or position <= self._last:
                continue
            self._last = position
            return record, event
        return None
