"""Everything is on its way before anything is awaited; one refusal ends the worker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.ports import Outgoing, WorkerFailed
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender


@dataclass
class FakeProducer:
    """Acknowledges when told to; refuses the numbers in ``refused``, ``at_once`` or by its acknowledgement."""

    refused: frozenset[int] = frozenset()
    at_once: bool = False
    sent: list[tuple[Any, ...]] = field(default_factory=list)
    pending: list["asyncio.Future[Any]"] = field(default_factory=list)

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records; each gets an acknowledgement of its own."""
        found = []
        for number, record in enumerate(records):
            self.sent.append(record)
            if len(self.sent) - 1 in self.refused and self.at_once:
                raise ConnectionError("broken pipe")
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            if len(self.sent) - 1 in self.refused:
                future.set_exception(ConnectionError("not leader"))
            else:
                self.pending.append(future)
            found.append(Acknowledgement(topic, partition, future, number))
        return found

    def acknowledge(self) -> None:
        """Answer everything that waits."""
        for future in self.pending:
            if not future.done():
                future.set_result(SimpleNamespace(offset=100))


RECORDS = [
    Outgoing("t", number % 2, b"k", b"%d" % number, (("h", b"1"),) if number == 1 else ()) for number in range(3)
]


def test_all_are_sent_in_order_before_the_first_is_acknowledged() -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        sending = asyncio.ensure_future(Sender(SimpleNamespace(producer=producer)).send(RECORDS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert producer.sent == [RECORDS[0], RECORDS[2], RECORDS[1]], "in order, partition by partition"
        assert not sending.done()
        producer.acknowledge()
        assert await sending == [("t", 0, 100), ("t", 0, 101), ("t", 1, 100)]

    asyncio.run(scenario())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refusal_ends_the_worker(at_once: bool) -> None:
    async def scenario() -> None:
        producer = FakeProducer(frozenset({1}), at_once)
        with pytest.raises(WorkerFailed, match="Kafka did not take a record"):
            await Sender(SimpleNamespace(producer=producer)).send(RECORDS)
        producer.acknowledge()

    asyncio.run(scenario())


def test_being_cancelled_is_no_refusal() -> None:
    async def scenario() -> None:
        sending = asyncio.ensure_future(Sender(SimpleNamespace(producer=FakeProducer())).send(RECORDS))
        await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    asyncio.run(scenario())
