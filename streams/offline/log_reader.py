"""Kafka read forward once, for what is done offline: a partition's records, and those that a stage has written."""

from schemas.codec import Codec
from streams.engine.log_reader import Lane, LogReader, RecomputeImpossible
from streams.engine.ports import RawRecord

__all__ = ["Lane", "LogReader", "OwnOutputs", "RecomputeImpossible"]


class OwnOutputs:
    """What lies in one topic partition of one source, each number once, as a reader sees it."""

    def __init__(self, reader: LogReader, source: str, codec: Codec, before: int | None) -> None:
        self.reader = reader
        self._source = source
        self._name = source.encode()
        self._codec = codec
        self._before = before
        self._last = (0, -1)

    def next(self) -> RawRecord | None:
        """Return the next record of the source that is new to a reader, or None."""
        while (record := self.reader.next()) is not None:
            # What does not even hold the source's name is not its own: far cheaper to see than to decode.
            if record.value is None or self._name not in record.value:
                continue
            event = self._codec.decode(record.topic, record.value, record.headers)
            position = (event.generation, event.seq)
            if event.source != self._source or position <= self._last:
                continue
            if self._before is not None and event.seq >= self._before:
                return None
            self._last = position
            return record
        return None
