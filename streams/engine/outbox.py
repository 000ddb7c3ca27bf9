"""A running outbox shard: every batch is one transaction of state, journal and outbox; then it is sent, in order.

One queue per shard feeds ``step``. What does not come by Kafka (venue reports, commands, time) enters the same
queue and is journaled with its bytes. A batch that has something to say is committed at once. One that has not
stays open for a moment, since nothing outside depends on it: most inputs of a stage change its state and no more,
and a commit for each would keep the input that matters waiting.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Final

import msgspec

from infra.postgres.patient_store import Checkpoint, Commit, PatientStore, RunFacts
from schemas.event import Event, Heartbeat, derive_id
from schemas.orders import Claimed
from schemas.values import NS_PER_MS
from streams.engine.journal import JournalWriter, decode_outbox, encode_outbox
from streams.engine.lane import lane_of
from streams.engine.ports import Companion, Outgoing, RawRecord
from streams.engine.sending import Acknowledgements, Sender
from streams.engine.shard import ShardCore
from streams.engine.snapshots import NO_SNAPSHOTS

_QUEUE_CHUNKS: Final = 64
_BATCH_RECORDS_MAX: Final = 2000
_UNCONFIRMED_BATCHES_MAX: Final = 32
_UNSENT_RECORDS_MAX: Final = 20_000
"""So many outputs may be committed that the producer has not taken: a stage must not wait for a broker to be killed."""
CAPTURE_LINGER_MS: Final = 10
"""How long a batch with nothing to say stays open on a capture, whose pace the slowest commit sets."""

Item = list[RawRecord] | Event


class OutboxShard:
    """The live form of a stage that commits each batch. It implements ``Inlet`` for its companion."""

    def __init__(
        self, core: ShardCore, store: PatientStore, facts: RunFacts, sender: Sender, heartbeat_ms: int
    ) -> None:
        self.core = core
        self._store = store
        self._facts = facts
        self._sender = sender
        self._beat_ns = heartbeat_ms * NS_PER_MS
        self._linger_s = (heartbeat_ms if core.hosting.wall_clock else CAPTURE_LINGER_MS) / 1000
        self._queue: asyncio.Queue[Item] = asyncio.Queue(_QUEUE_CHUNKS)
        self._unconfirmed: asyncio.Queue[tuple[int, int, Acknowledgements]] = asyncio.Queue(_UNCONFIRMED_BATCHES_MAX)
        self._unsent: asyncio.Queue[tuple[int, Sequence[Outgoing]]] = asyncio.Queue(_UNSENT_RECORDS_MAX + 1)
        self._unsent_records = self._unconfirmed_records = 0
        self._worked_s = 0.0
        self._written_ms = 0
        self._new_inputs = False
        self._open_since: float | None = None
        self._sent_some = asyncio.Event()
        self._batch = 0
        self._journal = JournalWriter()
        self._open_records = 0
        self._commit_at: float | None = None
        self._newest_beat_ns = 0
        self._clock_read_ns = 0
        self._sent_through: int | None = None
        self.committed_offsets: dict[str, int] = {}
        self.snapshots = NO_SNAPSHOTS
        self._companion: Companion | None = None
        self._ended = False

    async def take_up(self, checkpoint: Checkpoint) -> None:
        """Go on from a claimed checkpoint, and send what a predecessor had committed but not sent."""
        self.core.restore(checkpoint.progress, dict(checkpoint.state), checkpoint.generation)
        self._batch = checkpoint.batch
        for batch, messages in checkpoint.unsent:
            self._note_ends(await self._sender.send(decode_outbox(messages)))
            self._sent_through = batch
        self.snapshots.begin(checkpoint)
        self.committed_offsets = dict(self.core.progress.next_offsets)

    async def inject(self, event: Event) -> None:
        """Hand over one input that did not come by Kafka; waits while the shard is full."""
        await self._queue.put(event)

    async def offer(self, records: list[RawRecord]) -> None:
        """Hand over fetched records; waits while the shard is full. A shard that has ended takes none."""
        if not self._ended:
            await self._queue.put(records)

    async def run(self) -> None:
        """Step, commit, perform, send, for ever. Ends by cancellation or by the exception that ends the worker."""
        working = tuple(asyncio.ensure_future(work) for work in (self._work(), self._post(), self._confirm()))
        try:
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._ended = True
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            while not self._queue.empty():  # Whoever waits to hand something over must not wait for ever.
                self._queue.get_nowait()
            if self._companion is not None:
                await self._companion.stop()
            await self._store.close()

    async def _work(self) -> None:
        epoch = self._store.epoch
        if self.core.hosting.companion is not None:
            self._companion = self.core.hosting.companion()
            await self._companion.start(self, epoch)
        self._step(self._first_inputs(epoch))
        while True:
            if self._is_due():
                began_s = perf_counter()
                await self._commit()
                self._tell_batch(perf_counter() - began_s)
            items = await self._next_items()
            began_s = perf_counter()
            self._step(items)
            self._worked_s += perf_counter() - began_s

    def _tell_batch(self, commit_s: float) -> None:
        """Count a batch in which anything came; the time that it lay open is nobody's work."""
        worked_s, self._worked_s = self._worked_s, 0.0
        self._open_since = None
        if self._new_inputs:
            self._new_inputs = False
            written_ns = self._written_ms * NS_PER_MS
            self.core.flow.handled(self.core.hosting.name, worked_s + commit_s, self.core.newest_ns, written_ns)

    @property
    def pending_records(self) -> int:
        """How many records are committed to the outbox and not acknowledged."""
        return self._unsent_records + self._unconfirmed_records

    @property
    def checkpoint_age_s(self) -> float:
        """For how long something has not been in the checkpoint; 0 when all is."""
        return 0.0 if self._open_since is None else asyncio.get_running_loop().time() - self._open_since

    async def _post(self) -> None:
        """Give the producer what was committed, in order. It may wait for Kafka; the stage does not."""
        while True:
            batch, outgoing = await self._unsent.get()
            pending = await self._sender.post(outgoing)
            self._unsent_records -= len(outgoing)
            self._unconfirmed_records += len(outgoing)
            self._sent_some.set()
            await self._unconfirmed.put((batch, len(outgoing), pending))

    async def _confirm(self) -> None:
        """Note which batches Kafka has: their outbox rows go with the next commit. A refused record ends the worker."""
        while True:
            batch, records, pending = await self._unconfirmed.get()
            self._note_ends(await self._sender.confirm(pending))
            self._unconfirmed_records -= records
            self._sent_through = batch

    def _note_ends(self, written: Sequence[tuple[str, int, int]]) -> None:
        """Remember how far Kafka has our outputs: whatever comes after them lies behind that."""
        ends = self.core.progress.output_ends
        for topic, partition, offset in written:
            ends[lane_of(topic, partition)] = offset + 1

    def _first_inputs(self, epoch: int) -> list[Item]:
        # One clock per run: on a capture the shard goes on from the newest capture time that it has seen.
        # A clock that was set back takes no time back, wherever the shard is held next.
        now_ns = self._newest_beat_ns = max(self.core.reached_ns, 1)
        items: list[Item] = []
        if self.core.hosting.wall_clock:
            beat = self._heartbeat(self.core.hosting.now_ns())
            items.append(beat)
            now_ns = beat.available_at_ns
        claimed = Claimed(
            key=self.core.source,
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            event_id=derive_id(self.core.source, "claimed", epoch),
            epoch=epoch,
        )
        return [*items, claimed] if Claimed in self.core.hosting.event_types else items

    def _heartbeat(self, clock_ns: int) -> Heartbeat:
        self._clock_read_ns = clock_ns
        # One later at least, since each beat has an identity of its own.
        now_ns = self._newest_beat_ns = max(clock_ns, self._newest_beat_ns + 1)
        identity = derive_id(self.core.source, "heartbeat", now_ns)
        return Heartbeat(key=self.core.source, event_time_ns=now_ns, available_at_ns=now_ns, event_id=identity)

    async def _next_items(self) -> list[Item]:
        wall_clock = self.core.hosting.wall_clock
        items: list[Item] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s()):
                items.append(await self._queue.get())
        records = 0
        while not self._queue.empty() and records < _BATCH_RECORDS_MAX:
            item = self._queue.get_nowait()
            items.append(item)
            records += len(item) if isinstance(item, list) else 1
        clock_ns = self.core.hosting.now_ns()
        if wall_clock and abs(clock_ns - self._clock_read_ns) >= self._beat_ns:
            items.insert(0, self._heartbeat(clock_ns))
        return items

    def _patience_s(self) -> float | None:
        """Return how long to wait for input: until the open batch is due, or the next Heartbeat."""
        beat_s = self._beat_ns / 1e9 if self.core.hosting.wall_clock else None
        if self._commit_at is None:
            return beat_s
        due_s = max(0.0, self._commit_at - asyncio.get_running_loop().time())
        return due_s if beat_s is None else min(due_s, beat_s)

    def _step(self, items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, list):
                self._take_records(item)
            else:
                self._journal.external(item, 0)
                self.core.take_event(item)
                if type(item) is not Heartbeat:
                    self._new_inputs, self._written_ms = True, 0
                    # What came from a venue or a person is not told again: it is kept before anything else is done.
                    self._commit_at = 0.0
        if items and self._open_since is None:
            self._open_since = asyncio.get_running_loop().time()
        if items and self._commit_at is None:
            self._commit_at = asyncio.get_running_loop().time() + self._linger_s

    def _take_records(self, records: Sequence[RawRecord]) -> None:
        first = records[0]
        next_offset = self.core.next_offset(first.topic, first.partition) or 0
        fresh = [record for record in records if record.offset >= next_offset]
        for record in fresh:
            self.core.take(record)
        if fresh:
            self._journal.records(first.topic, first.partition, fresh[0].offset, fresh[-1].offset)
            self.core.flow.took(first.topic, len(fresh))
            self._new_inputs, self._written_ms = True, fresh[-1].timestamp_ms
            self._open_records += len(fresh)

    def _is_due(self) -> bool:
        if self._commit_at is None:
            return False
        full = self._open_records >= _BATCH_RECORDS_MAX
        return full or self.core.has_output() or asyncio.get_running_loop().time() >= self._commit_at

    async def _commit(self) -> None:
        journal, self._journal = self._journal, JournalWriter()
        self._commit_at, self._open_records = None, 0
        outgoing, requests, origins = self.core.drain()
        journal.unread(self.core.progress.letters.give_unread(self.core.progress.next_offsets))
        self._batch += 1
        self.core.counters.batches += 1
        commit = Commit(
            batch=self._batch,
            progress=msgspec.msgpack.encode(self.core.progress),
            state=self.core.touched_state(),
            journal=journal.encoded(),
            outbox=encode_outbox(outgoing),
            sent_through=self._sent_through,
            reached_ns=self.core.reached_ns,
        )
        offsets = dict(self.core.progress.next_offsets)
        await self._store.commit(commit, self._facts)
        self.committed_offsets = offsets
        if requests and self._companion is not None:
            await self._companion.perform(requests, origins)
        if self._companion is not None:
            self._companion.reached(self.core.reached_ns)
        if outgoing:
            self._unsent_records += len(outgoing)
            self._unsent.put_nowait((self._batch, outgoing))
        while self._unsent_records > _UNSENT_RECORDS_MAX:
            self._sent_some.clear()
            await self._sent_some.wait()
        await self.snapshots.after_commit(self._store, quiet=not outgoing and not requests)
