"""A running handler shard: batches of records to a function that is idempotent, and Kafka's own offsets as its place.

It serves sinks: they decide nothing and emit nothing but dead letters, so that a batch which comes again after a
crash changes nothing. The offset is committed after the handler has returned.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Final, Protocol

import psycopg

from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.topics import TOPICS
from schemas.values import NS_PER_MS
from streams.engine.counters import Counters
from streams.engine.dead_letter import Refuser, dead_letter, way_past
from streams.engine.flow import Flow
from streams.engine.lane import lane_of
from streams.engine.ports import Handle, RawRecord, StageHosting, WorkerFailed
from streams.engine.sending import Sender

LOG: Final = logging.getLogger("tradermind.worker")
_QUEUE_CHUNKS: Final = 16


class LeftToStage(BadRecord):
    """A record that a handler cannot read, and neither can the stages whose topic it is on: they make the letter."""

    def __init__(self, reason: DeadLetterReason, detail: str, stages: Sequence[str]) -> None:
        super().__init__(reason, detail)
        self.stages = tuple(stages)


class Orders(Protocol):
    """What people have ordered about a handler's records."""

    async def takes(self, stage: str) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Return per lane the ranges of offsets to pass over, both ends included."""

    async def tell_passed(self, stage: str, records: Sequence[RawRecord]) -> None:
        """Write down that records were passed over."""


class HandlerCore:
    """What the worker asks any shard: where to read on, and what it has done."""

    def __init__(self, source: str, next_offsets: dict[str, int]) -> None:
        self.source = source
        self.counters = Counters()
        self.flow = Flow()
        self.next_offsets = next_offsets

    def next_offset(self, topic: str, partition: int) -> int | None:
        """Return the offset to read next, or None when nothing was ever handled."""
        return self.next_offsets.get(lane_of(topic, partition))


class HandlerShard:
    """One topic partition of a sink."""

    def __init__(
        self, hosting: StageHosting, shard: str, next_offset: int | None, sender: Sender, orders: Orders | None = None
    ) -> None:
        assert hosting.handle is not None
        self._hosting = hosting
        self._shard = shard
        self.core = HandlerCore(f"{hosting.name}/{shard}", {} if next_offset is None else {shard: next_offset})
        self._handle: Handle = hosting.handle
        self._orders = orders
        self._sender = sender
        self._queue: asyncio.Queue[list[RawRecord]] = asyncio.Queue(_QUEUE_CHUNKS)
        self.committed_offsets: dict[str, int] = {}
        self._ended = False

    async def offer(self, records: list[RawRecord]) -> None:
        """Hand over fetched records; waits while the shard is full. A shard that has ended takes none."""
        if not self._ended:
            await self._queue.put(records)

    @property
    def pending_records(self) -> int:
        """A handler has no outbox."""
        return 0

    @property
    def checkpoint_age_s(self) -> float:
        """A handler has no checkpoint but the group's offset."""
        return 0.0

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
            began_s, counters, flow = perf_counter(), self.core.counters, self.core.flow
            counters.records += len(records)
            flow.took(records[0].topic, len(records))
            counters.batches += 1
            taken = await self._taken(records)
            rest = [record for record in records if record.offset not in taken] if taken else records
            await self._refuse(await self._handled(rest) if rest else ())
            await self._pass_over([record for record in records if record.offset in taken])
            lane = lane_of(records[0].topic, records[0].partition)
            self.core.next_offsets[lane] = self.committed_offsets[lane] = records[-1].offset + 1
            flow.handled(self._hosting.name, perf_counter() - began_s, 0, records[-1].timestamp_ms * NS_PER_MS)

    async def _taken(self, records: Sequence[RawRecord]) -> set[int]:
        """Return the offsets of what people have ordered passed over."""
        ranges = (await self._orders.takes(self._hosting.name)).get(self._shard, ()) if self._orders else ()
        return {one.offset for one in records if any(first <= one.offset <= last for first, last in ranges)}

    async def _handled(self, records: Sequence[RawRecord]) -> Sequence[tuple[RawRecord, BadRecord]]:
        """Handle a batch; one that breaks the handler is halved until the record at fault stands alone."""
        try:
            return await self._handle(records)
        except (psycopg.OperationalError, OSError) as error:
            # The database itself, or a disk: no record is at fault as far as anybody can tell from here.
            first, last = records[0], records[-1]
            more = f"--stage {self._hosting.name} --through {last.offset} "
            raise WorkerFailed(
                f"{self.core.source} cannot write offsets {first.offset} to {last.offset} ({_first_line(error)})."
                f" Where it is these alone, {way_past(first, more)}"
            ) from error
        except WorkerFailed:
            raise  # It says itself what is wrong, and it is no record's fault.
        except Exception as error:
            if len(records) == 1:
                place, more = f"offset {records[0].offset}", f"--stage {self._hosting.name} "
                raise WorkerFailed(
                    f"{self.core.source} broke on {place} ({type(error).__name__}: {_first_line(error)}):"
                    f" {way_past(records[0], more)}"
                ) from error
        middle = len(records) // 2
        return [*await self._handled(records[:middle]), *await self._handled(records[middle:])]

    async def _pass_over(self, records: Sequence[RawRecord]) -> None:
        """Make letters of what was taken, if it is no letter itself, and write down that it is done."""
        if not records or self._orders is None:
            return
        taken = BadRecord(DeadLetterReason.TAKEN, "a person has ordered that it be passed over")
        await self._refuse([(record, taken) for record in records if record.topic in TOPICS])
        await self._orders.tell_passed(self._hosting.name, records)

    async def _refuse(self, refused: Sequence[tuple[RawRecord, BadRecord]]) -> None:
        """Make dead letters of what was refused; what its stage makes one of is counted, and said."""
        own = [(record, refusal) for record, refusal in refused if not isinstance(refusal, LeftToStage)]
        by = Refuser(self._hosting.name, self._shard, type(self).__qualname__)
        await self._sender.send([dead_letter(TOPICS[record.topic], record, why, by) for record, why in own])
        counters = self.core.counters
        for record, refusal in own:
            counters.refused(refusal.reason)
            self.core.flow.refused(record.topic, refusal.reason)
        for record, refusal in refused:
            if isinstance(refusal, LeftToStage):
                counters.left_to_stage += 1
                LOG.warning(
                    "%s cannot read offset %d of %s (%s): the dead letter is that of %s",
                    *(self._hosting.name, record.offset, lane_of(record.topic, record.partition), refusal.reason),
                    " or ".join(refusal.stages),
                )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")
