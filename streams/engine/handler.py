"""A running handler shard: batches of records to a function that is idempotent, and Kafka's own offsets as its place.

It serves sinks: they decide nothing and emit nothing but dead letters, so that a batch which comes again after a
crash changes nothing. The offset is committed after the handler has returned.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.topics import TOPICS
from streams.engine.counters import Counters
from streams.engine.dead_letter import Refuser, dead_letter
from streams.engine.lane import lane_of
from streams.engine.ports import Handle, RawRecord, StageHosting
from streams.engine.sending import Sender

LOG: Final = logging.getLogger("tradermind.worker")
_QUEUE_CHUNKS: Final = 16


class LeftToStage(BadRecord):
    """A record that a handler cannot read, and neither can the stages whose topic it is on: they make the letter."""

    def __init__(self, reason: DeadLetterReason, detail: str, stages: Sequence[str]) -> None:
        super().__init__(reason, detail)
        self.stages = tuple(stages)


class HandlerCore:
    """What the worker asks any shard: where to read on, and what it has done."""

    def __init__(self, source: str, next_offsets: dict[str, int]) -> None:
        self.source = source
        self.counters = Counters()
        self.next_offsets = next_offsets

    def next_offset(self, topic: str, partition: int) -> int | None:
        """Return the offset to read next, or None when nothing was ever handled."""
        return self.next_offsets.get(lane_of(topic, partition))


class HandlerShard:
    """One topic partition of a sink."""

    def __init__(
        self, hosting: StageHosting, shard: str, next_offset: int | None, handle: Handle, sender: Sender
    ) -> None:
        self._hosting = hosting
        self._shard = shard
        self.core = HandlerCore(f"{hosting.name}/{shard}", {} if next_offset is None else {shard: next_offset})
        self._handle = handle
        self._sender = sender
        self._queue: asyncio.Queue[list[RawRecord]] = asyncio.Queue(_QUEUE_CHUNKS)
        self.committed_offsets: dict[str, int] = {}
        self._ended = False

    async def offer(self, records: list[RawRecord]) -> None:
        """Hand over fetched records; waits while the shard is full. A shard that has ended takes none."""
        if not self._ended:
            await self._queue.put(records)

    async def run(self) -> None:
        """Handle whatever has come, until cancelled."""
        try:
            await self._handle_all()
        finally:
            self._ended = True
            while not self._queue.empty():  # Whoever waits to hand something over must not wait for ever.
                self._queue.get_nowait()

    async def _handle_all(self) -> None:
        while True:
            records = list(await self._queue.get())
            while not self._queue.empty():
                records += self._queue.get_nowait()
            counters = self.core.counters
            counters.records += len(records)
            counters.batches += 1
            await self._refuse(await self._handle(records))
            lane = lane_of(records[0].topic, records[0].partition)
            self.core.next_offsets[lane] = self.committed_offsets[lane] = records[-1].offset + 1

    async def _refuse(self, refused: Sequence[tuple[RawRecord, BadRecord]]) -> None:
        """Make dead letters of what was refused; what its stage makes one of is counted, and said."""
        own = [(record, refusal) for record, refusal in refused if not isinstance(refusal, LeftToStage)]
        by = Refuser(self._hosting.name, self._shard, type(self).__qualname__)
        await self._sender.send([dead_letter(TOPICS[record.topic], record, why, by) for record, why in own])
        counters = self.core.counters
        for _, refusal in own:
            counters.refused(refusal.reason)
        for record, refusal in refused:
            if isinstance(refusal, LeftToStage):
                counters.left_to_stage += 1
                LOG.warning(
                    "%s cannot read offset %d of %s (%s): the dead letter is that of %s",
                    *(self._hosting.name, record.offset, lane_of(record.topic, record.partition), refusal.reason),
                    " or ".join(refusal.stages),
                )
