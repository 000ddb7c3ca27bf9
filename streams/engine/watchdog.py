"""Assigned but not flowing: a partition that is behind its log and does not move is stuck, and a restart cures it.

Nothing else would notice: the process lives, the group is content, the lag only grows. Time in which the broker or the
database is away does not count, since that is retried elsewhere; nor does time in which the whole process stood still,
as in one long step of a stage.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import psycopg
from confluent_kafka import KafkaException

from infra.kafka import BrokerUnreachable, Security, Slot, log_ends, log_starts
from infra.postgres.session import KeptSession
from schemas.topics import MARKET_MARK
from streams.engine.lane import lane_of
from streams.engine.log_reader import LogReader, RecomputeImpossible
from streams.engine.ports import EngineSettings, WorkerFailed

LOOKS_PER_LIMIT: Final = 8
LOOK_MOST_S: Final = 5.0
_ANSWER_S: Final = 3.0
_ANY_SLOT: Final = (MARKET_MARK.name, 0)
ShardKey = tuple[str, str]
"""A stage and a shard of it."""
Held = tuple[ShardKey, Slot, int | None]
"""A shard, a topic partition that it reads, and the offset that it steps next; None when it has read nothing yet."""
Ask = Callable[[str, Sequence[Slot], Security], dict[Slot, int]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one shard stands on one partition: the next offset it steps, and the log's end.

    ``lowest`` is the lowest position of all stages here that read the partition: they wait for each other.
    """

    shard: ShardKey
    lane: str
    position: int
    end: int
    lowest: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has found: whether broker and database answer, how far the database's clock is ahead of ours (None
    where it did not say), by lane the records it is behind and for how many seconds it is still, and what is stuck.
    """

    broker_up: bool
    database_up: bool
    clock_offset_s: float | None
    lanes: Mapping[str, tuple[int, float]]
    stuck: str | None = None


Tell = Callable[[Look], None]


@dataclass(slots=True)
class _Watched:
    token: tuple[int, int]
    still_s: float = 0.0
    behind: int = 0


class Watchdog:
    """Knows of each place how long it has been behind without moving. Pure: time is told."""

    def __init__(self, stuck_after_s: float) -> None:
        self.stuck_after_s = stuck_after_s
        self.interval_s = min(LOOK_MOST_S, stuck_after_s / LOOKS_PER_LIMIT)
        self._watched: dict[tuple[ShardKey, str], _Watched] = {}
        self._looked_at_s: float | None = None

    def look(self, now_s: float, places: Sequence[Place], *, excused: bool) -> list[Place]:
        """Take a look and return the places that are stuck. ``excused``: the world is away, so nothing can move.

        A look that comes far too late counts as one that came in time: the process itself stood still.
        """
        passed_s = 0.0 if self._looked_at_s is None else min(now_s - self._looked_at_s, 2 * self.interval_s)
        self._looked_at_s = now_s
        if excused and not places:
            return []  # Nobody says where the logs end: what was known stays known.
        watched: dict[tuple[ShardKey, str], _Watched] = {}
        stuck: list[Place] = []
        for place in places:
            name, token = (place.shard, place.lane), (place.position, place.lowest)
            one = self._watched.get(name)
            behind = max(0, place.end - place.position)
            if one is None or one.token != token or not behind:
                one = _Watched(token)
            elif not excused:
                one.still_s += passed_s
            one.behind = behind
            watched[name] = one
            if one.still_s >= self.stuck_after_s:
                stuck.append(place)
        self._watched = watched
        return stuck

    def excuse(self, place: Place) -> None:
        """Take back a finding: there was nothing to read after all."""
        self._watched[place.shard, place.lane].still_s = 0.0

    def lanes(self) -> dict[str, tuple[int, float]]:
        """Return by lane how many records the slowest stage here is behind, and for how long it has been still."""
        found: dict[str, tuple[int, float]] = {}
        for (_, lane), one in self._watched.items():
            behind, still_s = found.get(lane, (0, 0.0))
            found[lane] = max(behind, one.behind), max(still_s, one.still_s)
        return found

    def facts(self, shard: ShardKey) -> dict[str, float]:
        """Return what is told of a shard: records it is behind, and the seconds of its stillest partition."""
        mine = [one for (name, _), one in self._watched.items() if name == shard]
        return {
            "behind_records": sum(one.behind for one in mine),
            "still_s": round(max((one.still_s for one in mine), default=0.0), 1),
        }


class World(Protocol):
    """Whom the watch asks, each within a bound."""

    async def ends(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        """Return the ends of these logs; empty while the broker is away."""

    async def starts(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        """Return the first offsets kept; empty while the broker is away."""

    async def database_answers(self) -> bool:
        """Tell whether the database does."""

    async def broker_answers(self) -> bool:
        """Tell whether the broker does, for a worker that reads no topic."""

    @property
    def clock_offset_s(self) -> float | None:
        """How far the database's clock was ahead of ours when it last answered."""

    async def has_record(self, place: Place) -> bool:
        """Tell whether there is a record to be read at a place; the rest of a log may be marks of transactions."""

    async def close(self) -> None:
        """Give back what is held."""


class RealWorld:
    """Kafka and Postgres themselves, asked apart from the clients that may be what is stuck."""

    def __init__(self, engine: EngineSettings) -> None:
        self._engine = engine
        self._session = KeptSession(engine.dsn)
        self._clock_offset_s: float | None = None

    @property
    def clock_offset_s(self) -> float | None:
        """How far the database's clock was ahead of ours when it last answered; wrong by half the way at most."""
        return self._clock_offset_s

    async def broker_answers(self) -> bool:
        """Tell whether the broker does."""
        return bool(await self.ends([_ANY_SLOT]))

    async def ends(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        """Return the ends of these logs; empty while the broker is away."""
        return await self._asked(log_ends, slots)

    async def starts(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        """Return the first offsets kept; empty while the broker is away."""
        return await self._asked(log_starts, slots)

    async def _asked(self, ask: Ask, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        if not slots:
            return {}
        try:
            return await asyncio.to_thread(ask, self._engine.bootstrap, sorted(set(slots)), self._engine.security)
        except BrokerUnreachable:
            return {}

    async def database_answers(self) -> bool:
        """Tell whether the database does, in a few seconds."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                connection = await self._session.connection()
                asked_s = time.time()
                cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
                told = await cursor.fetchone()
                if told is not None:
                    self._clock_offset_s = float(told[0]) - (asked_s + time.time()) / 2
        except (TimeoutError, psycopg.OperationalError):
            await self._session.close()
            return False
        return True

    async def has_record(self, place: Place) -> bool:
        """Tell whether there is a committed record at a place or after it."""
        topic, _, partition = place.lane.rpartition("/")
        return await asyncio.to_thread(self._has_record, (topic, int(partition)), place.position)

    def _has_record(self, slot: Slot, position: int) -> bool:
        try:
            reader = LogReader(self._engine.bootstrap, slot, position, self._engine.security)
            try:
                return reader.next() is not None
            finally:
                reader.close()
        except (BrokerUnreachable, RecomputeImpossible, KafkaException):
            # Away, or a transaction that is still open: nobody can read on there.
            return False

    async def close(self) -> None:
        """Give the session back."""
        await self._session.close()


class Watch:
    """The watch over one worker's partitions. ``held`` tells which there are, and where each shard stands on them."""

    def __init__(self, stuck_after_s: float, world: World, held: Callable[[], Sequence[Held]]) -> None:
        self.tell: Tell = _to_nobody
        self._dog = Watchdog(stuck_after_s)
        self._world = world
        self._held = held

    def facts(self, shard: ShardKey) -> dict[str, float]:
        """Return what is told of a shard; see ``Watchdog.facts``."""
        return self._dog.facts(shard)

    async def run(self) -> None:
        """Look until cancelled. Raises WorkerFailed when a partition is stuck."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._dog.interval_s)
        finally:
            await self._world.close()

    async def _look(self) -> None:
        held = self._held()
        ends = await self._world.ends([slot for _, slot, _ in held])
        starts = await self._world.starts([slot for _, slot, position in held if position is None])
        broker_up = bool(ends) if held else await self._world.broker_answers()
        database_up = await self._world.database_answers()
        away = not ends or not database_up
        stuck = self._dog.look(asyncio.get_running_loop().time(), places_of(held, ends, starts), excused=away)
        look = Look(broker_up, database_up, self._world.clock_offset_s, self._dog.lanes())
        self.tell(look)
        for place in stuck:
            if await self._world.has_record(place):
                sentence = (
                    f"{place.shard[0]}/{place.shard[1]} is stuck: {place.lane} is assigned to it, it stands at offset"
                    f" {place.position} of {place.end} and has not moved for {self._dog.stuck_after_s:g} s."
                )
                self.tell(replace(look, stuck=sentence))
                raise WorkerFailed(sentence)
            self._dog.excuse(place)


def _to_nobody(look: Look) -> None:
    del look


def places_of(held: Sequence[Held], ends: Mapping[Slot, int], starts: Mapping[Slot, int]) -> list[Place]:
    """Return where every shard stands on every partition whose end is known; of an unread one, at its start."""
    known = [
        (key, slot, starts.get(slot, ends[slot]) if position is None else position)
        for key, slot, position in held
        if slot in ends
    ]
    lowest: dict[Slot, int] = {}
    for _, slot, position in known:
        lowest[slot] = min(position, lowest.get(slot, position))
    return [Place(key, lane_of(*slot), position, ends[slot], lowest[slot]) for key, slot, position in known]
