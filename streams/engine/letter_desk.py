"""Brings to shards what people have ordered about records: rows in Postgres, each carried out once.

A stage that a record crashes comes up again and again; so TAKE orders are there before the first record is. An
outbox shard journals what it is told, so a recomputation is told the same. A one-topic shard has no journal: it keeps
what was taken in its progress, and takes only what no former life of it has stepped.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

import msgspec
import psycopg

from infra.kafka import log_ends
from infra.postgres.checkpoints import DatabaseGone, read_progress
from infra.postgres.dead_letters import Action, note_outcome, read_held, read_orders, read_released
from infra.postgres.session import KeptSession
from schemas.dead_letters import HeldAgain, HeldRecord, LetterAction, LetterOrder, LettersOrdered
from schemas.event import ORDINALS_PER_OFFSET, derive_id
from streams.engine.lane import lane_of, output_lanes
from streams.engine.log_reader import LogReader
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings
from streams.engine.quarantine import Held, LetterProgress
from streams.engine.shard import Progress, ShardCore

LOG: Final = logging.getLogger("tradermind.worker")
_POLL_S: Final = 0.5
_TRIES: Final = 6
_PORTION_RECORDS: Final = 200
Released = dict[str, tuple[str, int, bool]]
_AT_CLAIM: Final = (LetterAction.TAKE, LetterAction.RELEASE)


class LetterDesk:
    """One per worker, with one database session for all its shards."""

    def __init__(self, engine: EngineSettings) -> None:
        self._engine = engine
        self._session = KeptSession(engine.dsn)
        self._asking = asyncio.Lock()

    async def brief(self, shard: OutboxShard | OneTopicShard, partition: int) -> None:
        """Tell a claimed shard what was ordered, before any record comes. Raises DatabaseGone."""
        if isinstance(shard, OneTopicShard):
            await self._brief_one_topic(shard.core, partition)
        elif orders := await self._orders_at_claim(shard.core):
            await shard.inject(_ordered(shard.core, orders))

    async def _brief_one_topic(self, core: ShardCore, partition: int) -> None:
        orders = await self._orders_at_claim(core)
        takes = [order for order in orders if order.action is LetterAction.TAKE]
        if not takes:
            return
        stepped = await asyncio.to_thread(_stepped_through, core, partition, self._engine)
        passed = {lane: max(offset, stepped + 1) for lane, offset in core.progress.next_offsets.items()}
        passed.setdefault(core.shard, stepped + 1)
        for order in takes:
            if f"{order.topic}/{order.partition}" == core.shard and order.first < passed[core.shard]:
                LOG.warning(
                    "%s has stepped offset %d of %s before: it is not taken", core.source, order.first, core.shard
                )
            core.progress.letters.obey(order, passed)

    async def serve(self, shard: OutboxShard) -> None:
        """Run an outbox shard, and tell it meanwhile what is ordered."""
        attending = asyncio.ensure_future(self._attend(shard))
        working = asyncio.ensure_future(shard.run())
        try:
            done, _ = await asyncio.wait((attending, working), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (attending, working):
                task.cancel()
            await asyncio.gather(attending, working, return_exceptions=True)

    async def close(self) -> None:
        """Give the session back."""
        await self._session.close()

    async def _orders_at_claim(self, core: ShardCore) -> tuple[LetterOrder, ...]:
        tries = 0
        while True:
            try:
                return await self._orders(core, _AT_CLAIM, core.progress.letters.orders)
            except psycopg.OperationalError as error:
                # A session that broke while nobody asked is replaced at the second try.
                tries += 1
                if tries > _TRIES:
                    reason = str(error).splitlines()[0]
                    raise DatabaseGone(f"Postgres does not say what was ordered: {reason}.") from error
            await asyncio.sleep(_POLL_S)

    async def _orders(self, core: ShardCore, actions: tuple[LetterAction, ...], after: int) -> tuple[LetterOrder, ...]:
        async with self._asking:
            return await read_orders(await self._session.connection(), core.hosting.name, after, actions)

    async def _attend(self, shard: OutboxShard) -> None:
        told: Released | None = None
        while True:
            await asyncio.sleep(_POLL_S)
            # People cannot order either while the database is away; the shard's own store gives up on it first.
            with suppress(psycopg.OperationalError):
                if orders := await self._orders(shard.core, _AT_CLAIM, shard.core.progress.letters.orders):
                    await shard.inject(_ordered(shard.core, orders))
                for event in await self._next_portion(shard.core):
                    await shard.inject(event)
                told = await self._tell_released(shard.core, told)

    async def _next_portion(self, core: ShardCore) -> tuple[HeldAgain, ...]:
        """Return what is to be stepped next of what is held; the shard ignores a portion that it has had."""
        letters = core.progress.letters
        orders = await self._orders(core, (LetterAction.STEP_HELD,), letters.stepped_orders)
        for order in orders:
            held = letters.held.get(order.key) or Held("")
            records = await self._held(core, held) if held.since else ()
            # Without a record it may still be over: nothing is held any more, or nothing was.
            if records or held.stepped == held.held:
                return (_again(core, order, held, records),)
        return ()

    async def _tell_released(self, core: ShardCore, told: Released | None) -> Released:
        """Write down what was stepped of what was held, once it is committed; return what the audit has by now."""
        stage = core.hosting.name
        async with self._asking:
            connection = await self._session.connection()
            if told is None:
                told = await read_released(connection, stage)
            if all(told.get(since) == now for since, now in core.progress.letters.stepped().items()):
                return told
            # What was committed is so for good; what was stepped a moment ago may happen again.
            committed = await read_progress(connection, stage, core.shard)
            letters = msgspec.msgpack.decode(committed, type=Progress).letters if committed else LetterProgress()
            for since, now in letters.stepped().items():
                if told.get(since) != now:
                    await note_outcome(connection, _released(stage, since, now))
        return told | letters.stepped()

    async def _held(self, core: ShardCore, held: Held) -> tuple[HeldRecord, ...]:
        async with self._asking:
            connection = await self._session.connection()
            return await read_held(connection, core.hosting.name, held.since, held.stepped, _PORTION_RECORDS)


def _released(stage: str, since: str, now: tuple[str, int, bool]) -> Action:
    key, stepped, ended = now
    return Action(
        action=LetterAction.RELEASED,
        author=f"tradermind.{stage}",
        why="carried out",
        stage=stage,
        key=key,
        detail={"since": since, "stepped": stepped, "ended": ended},
    )


def _again(core: ShardCore, order: LetterOrder, held: Held, records: tuple[HeldRecord, ...]) -> HeldAgain:
    now_ns = max(core.reached_ns, 1)
    return HeldAgain(
        key=order.key,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        event_id=derive_id(f"{core.source}|{order.ordinal}", "held", held.stepped),
        ordinal=order.ordinal,
        since=held.since,
        first=held.stepped + 1,
        records=records,
    )


def _ordered(core: ShardCore, orders: tuple[LetterOrder, ...]) -> LettersOrdered:
    now_ns = max(core.reached_ns, 1)
    identity = derive_id(core.source, "ordered", orders[-1].ordinal)
    return LettersOrdered(
        key=core.source, event_time_ns=now_ns, available_at_ns=now_ns, event_id=identity, orders=orders
    )


def _stepped_through(core: ShardCore, partition: int, engine: EngineSettings) -> int:
    """Return the highest input offset whose outputs lie in the log after the checkpoint, or -1. Blocks."""
    highest = -1
    ends = log_ends(
        engine.bootstrap, output_lanes(core.hosting, partition, engine.instrument_partitions), engine.security
    )
    for (topic, number), end in ends.items():
        known = core.progress.output_ends.get(lane_of(topic, number), 0)
        if known >= end:
            continue
        reader = LogReader(engine.bootstrap, (topic, number), known, engine.security)
        while (record := reader.next()) is not None:
            event = engine.codec.decode(record.topic, record.value, record.headers)
            if event.source == core.source and event.generation == core.generation:
                highest = max(highest, event.seq // ORDINALS_PER_OFFSET)
        reader.close()
    return highest
