"""A running one-topic shard: step, send, and about every second await what was sent and checkpoint.

After a crash the records since the checkpoint are stepped again and give the same bytes under the same numbers;
readers drop what they have seen. With other code or settings, what the former version had sent is not sent again.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Final

import msgspec

from infra.postgres.patient_store import Checkpoint, Commit, PatientStore, RunFacts
from schemas.dead_letters import LetterOrder
from schemas.values import NS_PER_MS
from streams.engine.flow import OUTSIDE
from streams.engine.journal import JournalWriter
from streams.engine.lane import lane_of
from streams.engine.ports import RawRecord
from streams.engine.quarantine import Refused
from streams.engine.sending import Acknowledgements, Sender
from streams.engine.shard import Progress, ShardCore
from streams.engine.snapshots import NO_SNAPSHOTS

_UNCONFIRMED_RECORDS_MAX: Final = 20_000
DURABLE_AFTER_S: Final = 2.0
"""A checkpoint that does not wait for the disk is on it after three times ``wal_writer_delay``, which is 0.2 s."""


class OneTopicShard:
    """The live form of a stage whose outputs are a function of one topic's records."""

    def __init__(
        self, core: ShardCore, store: PatientStore, facts: RunFacts, sender: Sender, interval_s: float
    ) -> None:
        self.core = core
        self._store = store
        self._facts = facts
        self._sender = sender
        self._interval_s = interval_s
        self._lock = asyncio.Lock()
        self._batch = 0
        self._unconfirmed: Acknowledgements = []
        self._unconfirmed_records = 0
        self._written_at = 0.0
        self._dirty = False
        self._closed = False
        self._cut_off = False
        self._fed = 0
        self._dirty_since = 0.0
        self._kept = b""
        self._noted: dict[str, list[Refused]] = {}
        self.committed_offsets: dict[str, int] = {}
        self.snapshots = NO_SNAPSHOTS

    async def take_up(self, checkpoint: Checkpoint) -> None:
        """Go on from a claimed checkpoint."""
        self.core.restore(checkpoint.progress, dict(checkpoint.state), checkpoint.generation)
        self._batch = checkpoint.batch
        self._keep(msgspec.msgpack.encode(self.core.progress), self.core.progress.letters.noted())
        self._written_at = asyncio.get_running_loop().time()
        self.snapshots.begin(checkpoint)
        self.committed_offsets = dict(self.core.progress.next_offsets)

    async def offer(self, records: Sequence[RawRecord]) -> None:
        """Step records and hand what follows to the producer; only a checkpoint waits for the acknowledgements."""
        async with self._lock:
            if self._closed or self._cut_off:
                return
            self._cut_off = True
            began_s, before = perf_counter(), self.core.counters.records
            for record in records:
                self.core.take(record)
            await self._send_and_keep()
            self._cut_off = False
            if taken := self.core.counters.records - before:
                self._tell_batch(records[0].topic, taken, perf_counter() - began_s, records[-1].timestamp_ms)

    async def obey(self, orders: Sequence[LetterOrder], from_offset: int) -> None:
        """Pass over what people have ordered, from an offset on that no life of the shard has stepped; kept at once."""
        async with self._lock:
            if self._closed or self._cut_off:
                return
            self._cut_off = True
            passed = dict(self.core.progress.next_offsets)
            passed[self.core.shard] = max(passed.get(self.core.shard, 0), from_offset)
            for order in orders:
                self.core.progress.letters.obey(order, passed)
            await self._note()
            self._cut_off = False

    async def flush(self) -> None:
        """Send what has been stepped, and checkpoint when it is time."""
        async with self._lock:
            if not self._cut_off:
                self._cut_off = True
                began_s, stepped = perf_counter(), self.core.counters.feed_records - self._fed
                await self._send_and_keep()
                self._cut_off = False
                if stepped:
                    self._fed += stepped
                    self._tell_batch(OUTSIDE, stepped, perf_counter() - began_s, 0)

    def _tell_batch(self, topic: str, records: int, took_s: float, written_ms: int) -> None:
        flow = self.core.flow
        flow.took(topic, records)
        flow.handled(self.core.hosting.name, took_s, self.core.newest_ns, written_ms * NS_PER_MS)

    @property
    def pending_records(self) -> int:
        """How many records the producer has that Kafka has not acknowledged, as far as anybody asked."""
        return self._unconfirmed_records

    @property
    def checkpoint_age_s(self) -> float:
        """For how long something has not been in the checkpoint; 0 when all is."""
        return asyncio.get_running_loop().time() - self._dirty_since if self._dirty else 0.0

    async def _send_and_keep(self) -> None:
        outgoing, requests, _ = self.core.drain()
        assert not requests, f"{self.core.source} asks the venue for something, but only outbox stages may"
        self.core.counters.batches += 1
        if self.core.progress.letters.unread != self._noted:
            await self._note()
        self._unconfirmed += await self._sender.post(outgoing)
        self._unconfirmed_records += len(outgoing)
        if not self._dirty:
            self._dirty, self._dirty_since = True, asyncio.get_running_loop().time()
        if self._unconfirmed_records > _UNCONFIRMED_RECORDS_MAX:
            await self._confirm()
        if not self._closed and asyncio.get_running_loop().time() - self._written_at >= self._interval_s:
            await self._write()

    def _keep(self, progress: bytes, unread: dict[str, list[Refused]]) -> None:
        self._kept, self._noted = progress, unread

    async def _note(self) -> None:
        """Keep what is passed over before anything follows from that: beside the newest checkpoint, as it stands.

        Whoever comes up after a crash steps again from there, and must pass over the same, whatever is registered or
        ordered by then.
        """
        now, kept = self.core.progress, msgspec.msgpack.decode(self._kept, type=Progress)
        progress = msgspec.msgpack.encode(msgspec.structs.replace(kept, letters=now.letters, silent=now.silent))
        noted = now.letters.noted()
        self._batch += 1
        reached_ns, generation = kept.reached_ns, self.core.generation
        commit = Commit(self._batch, progress, {}, generation=generation, reached_ns=reached_ns)
        await self._store.commit(commit, self._facts)
        self._keep(progress, noted)

    async def _confirm(self) -> None:
        pending, self._unconfirmed, self._unconfirmed_records = self._unconfirmed, [], 0
        for topic, partition, offset in await self._sender.confirm(pending):
            self.core.progress.output_ends[lane_of(topic, partition)] = offset + 1

    async def checkpoint(self, *, always: bool = False) -> None:
        """Write a checkpoint now, when there is anything new; ``always`` also when there is not."""
        async with self._lock:
            if (self._dirty or always) and not self._cut_off:
                self._cut_off = True
                await self._write()
                self._cut_off = False

    async def close(self) -> None:
        """Let go: what is under way is finished and kept, and nothing is stepped afterwards. Raises ShardLost."""
        self._closed = True
        async with self._lock:
            # Whatever was cut off may have taken touched keys or unsent records with it: what was kept before is whole.
            if self._dirty and not self._cut_off:
                await self._write()
        await self._store.close()

    async def _write(self) -> None:
        await self._confirm()
        # A feed steps while this waits: what it has stepped and not sent is part of what is taken down now.
        outgoing, _, _ = self.core.drain()
        self._batch += 1
        offsets = dict(self.core.progress.next_offsets)
        journal = JournalWriter()
        journal.unread(self.core.progress.letters.give_unread(offsets))
        commit = Commit(
            batch=self._batch,
            progress=msgspec.msgpack.encode(self.core.progress),
            state=self.core.touched_state(),
            journal=journal.encoded(),
            generation=self.core.generation,
            reached_ns=self.core.reached_ns,
        )
        noted = self.core.progress.letters.noted()
        self._unconfirmed += await self._sender.post(outgoing)
        await self._confirm()
        await self._store.commit(commit, self._facts)
        self._keep(commit.progress, noted)
        # Kafka must not remember what a power cut could make Postgres forget: that is how a rewind is told.
        asyncio.get_running_loop().call_later(DURABLE_AFTER_S, self._offer_offsets, offsets)
        self.core.counters.checkpoints += 1
        self._written_at = asyncio.get_running_loop().time()
        self._dirty = False
        if not self._closed:  # Whoever comes next does it then: this one is to be gone soon.
            await self.snapshots.after_commit(self._store, quiet=True)

    def _offer_offsets(self, offsets: dict[str, int]) -> None:
        self.committed_offsets = offsets

    async def run(self) -> None:
        """Checkpoint in the background while nothing comes; ends by cancellation."""
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                await self.checkpoint()
        finally:
            await self._store.close()
