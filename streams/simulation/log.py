"""A log with partitions, and a producer that may die with records unsent, on their way, or sent and unacknowledged.

Like Kafka with an idempotent producer: within a partition the records of one producer arrive in order and without a
gap, and after a refused one none follows. Records on their way when the producer dies may still arrive, later than
what its successor sends.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streams.engine.ports import Outgoing, RawRecord
from streams.engine.producing import Acknowledgement
from streams.simulation.faults import Dice
from streams.simulation.process import SimulatedProcess
from streams.simulation.virtual_time import VirtualLoop

Lane = tuple[str, int]
_SEND_S: Final = (0.0005, 0.004)
_SLOW_SEND_S: Final = (0.05, 0.4)
_ACK_S: Final = (0.0003, 0.003)
_IN_FLIGHT_S: Final = (0.0, 0.3)


class SimulatedLog:
    """Topic partitions as lists, and readers that wait for their ends to move."""

    def __init__(self) -> None:
        self.lanes: dict[Lane, list[RawRecord]] = {}
        self._waiting: dict[Lane, list[asyncio.Future[None]]] = {}

    def append(
        self,
        lane: Lane,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int = 0,
    ) -> int:
        """Write a record and return its offset; only of records from outside does anybody look at the time stamp."""
        records = self.lanes.setdefault(lane, [])
        offset = len(records)
        records.append(RawRecord(lane[0], lane[1], offset, key, value, headers, timestamp_ms))
        for reader in self._waiting.pop(lane, ()):
            if not reader.done():
                reader.set_result(None)
        return offset

    def end(self, lane: Lane) -> int:
        """Return the offset that the next record will have."""
        return len(self.lanes.get(lane, ()))

    def read(self, lane: Lane, first: int, limit: int) -> list[RawRecord]:
        """Return up to ``limit`` records from ``first`` on."""
        return self.lanes.get(lane, [])[first : first + limit]

    async def beyond(self, lane: Lane, offset: int) -> None:
        """Wait until the log holds the record ``offset``."""
        while self.end(lane) <= offset:
            reader = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(lane, []).append(reader)
            await reader


class Written(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class _Pending:
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    done: "asyncio.Future[Written]"


class SimulatedProducer:
    """A process's producer, with the call that ``Sender`` makes of the app's."""

    def __init__(self, loop: VirtualLoop, log: SimulatedLog, process: SimulatedProcess, dice: Dice) -> None:
        self._loop = loop
        self._log = log
        self._process = process
        self._dice = dice
        self._pending: dict[Lane, list[_Pending]] = {}
        self._broken: set[Lane] = set()
        self._flushing = False

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records, each a batch of its own, so that a part of them may be lost; done when the log has them."""
        lane = (topic, partition)
        return [Acknowledgement(topic, partition, await self._take(lane, record), 0) for record in records]

    async def _take(self, lane: Lane, record: Outgoing) -> "asyncio.Future[Written]":
        await self._process.gate()
        done: asyncio.Future[Written] = self._loop.create_future()
        if self._dice.befalls("send_refused"):
            self._broken.add(lane)
        if lane in self._broken:
            done.set_exception(ConnectionError("a simulated broker refused a record"))
            done.exception()  # Whether anybody looks is the engine's affair.
            return done
        self._pending.setdefault(lane, []).append(_Pending(record.key, record.value, record.headers, done))
        self._arm()
        return done

    def _arm(self) -> None:
        if not self._flushing:
            self._flushing = True
            slow = self._dice.befalls("slow_send")
            self._loop.call_later(self._dice.delay_s(*(_SLOW_SEND_S if slow else _SEND_S)), self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._process.stopped and not self._process.dead:
            self._arm()
            return
        if not self._process.touch():
            return
        for lane in list(self._pending):
            for record in self._pending.pop(lane):
                self._write(lane, record)

    def _write(self, lane: Lane, record: _Pending) -> None:
        written = Written(*lane, self._log.append(lane, record.key, record.value, record.headers))
        self._loop.call_later(self._dice.delay_s(*_ACK_S), self._acknowledge, record.done, written)

    def _acknowledge(self, done: "asyncio.Future[Written]", written: Written) -> None:
        if self._process.touch() and not done.done():
            done.set_result(written)

    def die(self) -> None:
        """Settle what becomes of the records that were under way: of each partition a first part still arrives."""
        for lane, records in self._pending.items():
            arriving = records[: self._dice.random.randint(0, len(records))]
            self._dice.injected["records_lost_at_death"] += len(records) - len(arriving)
            if arriving:
                self._dice.injected["records_late_after_death"] += len(arriving)
                self._loop.call_later(self._dice.delay_s(*_IN_FLIGHT_S), self._arrive, lane, arriving)
        self._pending = {}

    def _arrive(self, lane: Lane, records: Sequence[_Pending]) -> None:
        for record in records:
            self._log.append(lane, record.key, record.value, record.headers)
