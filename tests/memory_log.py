"""A log in memory, with the producer that writes to it and the readers that a recomputation asks for."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from streams.engine.ports import Outgoing, RawRecord
from streams.engine.producing import Acknowledgement
from streams.offline.log_reader import Lane, RecomputeImpossible


@dataclass
class MemoryLog:
    """Lanes as lists; what lies before ``starts`` is trimmed. It is its own producer: it acknowledges at once."""

    lanes: dict[Lane, list[RawRecord]] = field(default_factory=dict)
    starts: dict[Lane, int] = field(default_factory=dict)

    def append(self, lane: Lane, key: bytes | None, value: bytes | None, headers: Any = ()) -> int:
        """Write a record; return its offset."""
        records = self.lanes.setdefault(lane, [])
        records.append(RawRecord(*lane, len(records), key, value, tuple(headers or ()), 0))
        return len(records) - 1

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records, as the workers' producer does."""
        first = len(self.lanes.get((topic, partition), ()))
        for record in records:
            self.append((topic, partition), record.key, record.value, record.headers)
        taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        taken.set_result(SimpleNamespace(offset=first))
        return [Acknowledgement(topic, partition, taken, len(records) - 1)]

    def ends(self, lanes: Iterable[Lane]) -> Mapping[Lane, int]:
        """Return where each lane ends."""
        return {lane: len(self.lanes.get(lane, ())) for lane in lanes}

    def reader(self, lane: Lane, first: int) -> "MemoryReader":
        """Return a reader from ``first`` on, or from what is kept."""
        start = self.starts.get(lane, 0)
        return MemoryReader(self.lanes.get(lane, []), start, max(first, start))


class MemoryReader:
    """One lane, read forward once."""

    def __init__(self, records: list[RawRecord], start: int, first: int) -> None:
        self.start = start
        self._records = iter(records[first:])

    def next(self) -> RawRecord | None:
        """Return the next record, or None."""
        return next(self._records, None)

    def through(self, first: int, last: int) -> Iterator[RawRecord]:
        """Yield the records from ``first`` to ``last``."""
        if self.start > first:
            raise RecomputeImpossible(f"only kept from offset {self.start} on, but {first} is needed.")
        while (record := self.next()) is not None:
            if record.offset >= first:
                yield record
            if record.offset == last:
                return
        raise RecomputeImpossible(f"the record {last} is missing.")

    def close(self) -> None:
        """Nothing to give back."""
