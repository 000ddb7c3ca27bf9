"""Brings to shards what people have ordered about records: rows in Postgres, each carried out once.

A stage that a record crashes comes up again and again; so TAKE orders are there before the first record is. An
outbox shard journals what it is told, so a recomputation is told the same. A one-topic shard has no journal: it keeps
what was taken in its progress, and takes only what no former life of it has stepped.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import psycopg

from infra.kafka import log_ends
from infra.postgres.checkpoints import DatabaseGone, read_progress
from infra.postgres.dead_letters import Action, newest_action, note_outcome, read_held, read_orders, read_released
from infra.postgres.session import KeptSession
from schemas.dead_letters import HeldAgain, HeldRecord, LetterAction, LetterOrder, LettersOrdered
from schemas.event import ORDINALS_PER_OFFSET, derive_id
from streams.engine.lane import lane_of, output_lanes
from streams.engine.log_reader import LogReader
from streams.engine.one_topic import OneTopicShard
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings, RawRecord
from streams.engine.quarantine import Held, LetterProgress
from streams.engine.shard import Progress, ShardCore

LOG: Final = logging.getLogger("tradermind.worker")
_POLL_S: Final = 0.5
_TRIES: Final = 6
_HANDLER_TRIES: Final = 120
"""A claim must be over soon; a sink may wait for its database for a minute, as it does when it writes."""
_PORTION_RECORDS: Final = 200
Released = dict[str, tuple[str, int, bool]]
_AT_CLAIM: Final = (LetterAction.TAKE, LetterAction.RELEASE)


@dataclass(slots=True)
class Taken:
    """What a handler shall pass over, per lane, as ordered up to the row ``through`` of the audit."""

    through: int
    lanes: dict[str, list[tuple[int, int]]]

    def add(self, orders: Sequence[LetterOrder]) -> None:
        """Add orders."""
        for order in orders:
            self.lanes.setdefault(lane_of(order.topic, order.partition), []).append((order.first, order.last))


class LetterDesk:
    """One per worker, with one database session for all its shards."""

    def __init__(self, engine: EngineSettings) -> None:
        self._engine = engine
        self._session = KeptSession(engine.dsn)
        self._asking = asyncio.Lock()
        self._newest_action = 0
        self._ask_at = 0.0
        self._taken: dict[str, Taken] = {}

    async def brief(self, shard: OutboxShard | OneTopicShard, partition: int) -> None:
        """Tell a claimed shard what was ordered, before any record comes. Raises DatabaseGone."""
        orders = await self._orders_at_claim(shard.core)
        if not orders:
            return
        if isinstance(shard, OneTopicShard):
            await self._tell_one_topic(shard, partition, orders)
        else:
            await shard.inject(_ordered(shard.core, orders))

    async def _tell_one_topic(self, shard: OneTopicShard, partition: int, orders: Sequence[LetterOrder]) -> None:
        core = shard.core
        stepped = await asyncio.to_thread(_stepped_through, core, partition, self._engine)
        first = max(core.progress.next_offsets.get(core.shard, 0), stepped + 1)
        for order in orders:
            own = order.action is LetterAction.TAKE and lane_of(order.topic, order.partition) == core.shard
            if own and order.first < first:
                LOG.warning(
                    "%s has stepped offset %d of %s before: it is not taken", core.source, order.first, core.shard
                )
        await shard.obey(orders, first)

    async def takes(self, stage: str) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Return per lane what people have ordered a handler to pass over: ranges of offsets, both ends included.

        What is new is known within half a second. While the database is away it is what was known before; with
        nothing known yet, DatabaseGone is raised.
        """
        if stage not in self._taken:
            orders = await self._patiently(partial(self._read_orders, stage, (LetterAction.TAKE,), 0), _HANDLER_TRIES)
            self._taken[stage] = Taken(orders[-1].ordinal if orders else 0, {})
            self._taken[stage].add(orders)
        taken = self._taken[stage]
        with suppress(psycopg.OperationalError):
            if await self._newest() > taken.through:
                taken.add(await self._read_orders(stage, (LetterAction.TAKE,), taken.through))
                taken.through = max(taken.through, self._newest_action)
        return taken.lanes

    async def tell_passed(self, stage: str, records: Sequence[RawRecord]) -> None:
        """Write down that a handler has passed over records, each once. Raises DatabaseGone: it comes again then."""
        try:
            for record in records:
                async with self._asking:
                    await note_outcome(await self._session.connection(), _passed(stage, record))
        except psycopg.OperationalError as error:
            reason = str(error).splitlines()[0]
            raise DatabaseGone(f"Postgres does not take down what {stage} passed over: {reason}.") from error

    async def _newest(self) -> int:
        now = asyncio.get_running_loop().time()
        async with self._asking:
            if now >= self._ask_at:
                self._newest_action = await newest_action(await self._session.connection())
                self._ask_at = now + _POLL_S
        return self._newest_action

    async def serve(self, shard: OutboxShard | OneTopicShard) -> None:
        """Run a shard, and tell it meanwhile what is ordered."""
        attend = self._attend(shard) if isinstance(shard, OutboxShard) else self._attend_one_topic(shard)
        attending = asyncio.ensure_future(attend)
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
        return await self._patiently(partial(self._orders, core, _AT_CLAIM, core.progress.letters.orders))

    async def _patiently(
        self, ask: Callable[[], Awaitable[tuple[LetterOrder, ...]]], most: int = _TRIES
    ) -> tuple[LetterOrder, ...]:
        tries = 0
        while True:
            try:
                return await ask()
            except psycopg.OperationalError as error:
                # A session that broke while nobody asked is replaced at the second try.
                tries += 1
                if tries > most:
                    reason = str(error).splitlines()[0]
                    raise DatabaseGone(f"Postgres does not say what was ordered: {reason}.") from error
            await asyncio.sleep(_POLL_S)

    async def _orders(self, core: ShardCore, actions: tuple[LetterAction, ...], after: int) -> tuple[LetterOrder, ...]:
        return await self._read_orders(core.hosting.name, actions, after)

    async def _read_orders(self, stage: str, actions: tuple[LetterAction, ...], after: int) -> tuple[LetterOrder, ...]:
        async with self._asking:
            return await read_orders(await self._session.connection(), stage, after, actions)

    async def _attend_one_topic(self, shard: OneTopicShard) -> None:
        letters, partition, seen = shard.core.progress.letters, int(shard.core.shard.rpartition("/")[2]), 0
        while True:
            await asyncio.sleep(_POLL_S)
            with suppress(psycopg.OperationalError):
                newest = await self._newest()
                if newest > seen and (orders := await self._orders(shard.core, _AT_CLAIM, letters.orders)):
                    await self._tell_one_topic(shard, partition, orders)
                seen = newest

    async def _attend(self, shard: OutboxShard) -> None:
        told: Released | None = None
        while True:
            # People cannot order either while the database is away; the shard's own store gives up on it first.
            with suppress(psycopg.OperationalError):
                if orders := await self._orders(shard.core, _AT_CLAIM, shard.core.progress.letters.orders):
                    await shard.inject(_ordered(shard.core, orders))
                for event in await self._next_portion(shard.core):
                    await shard.inject(event)
                told = await self._tell_released(shard.core, told)
            await asyncio.sleep(_POLL_S)

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


def _passed(stage: str, record: RawRecord) -> Action:
    return Action(
        action=LetterAction.PASSED,
        author=f"tradermind.{stage}",
        why="carried out",
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        first=record.offset,
        last=record.offset,
    )


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
