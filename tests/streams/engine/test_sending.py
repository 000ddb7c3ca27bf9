"""Everything is on its way before anything is awaited; one refusal ends the worker."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.ports import Outgoing, WorkerFailed
from streams.engine.sending import Sender


@dataclass
class FakeProducer:
    """Acknowledges when told to; refuses the numbers in ``refused``, ``at_once`` or by its acknowledgement."""

    refused: frozenset[int] = frozenset()
    at_once: bool = False
    sent: list[tuple[Any, ...]] = field(default_factory=list)
    pending: list["asyncio.Future[Any]"] = field(default_factory=list)

    async def send(self, *record: Any) -> Awaitable[Any]:
        """Take a record."""
        number = len(self.sent)
        self.sent.append(record)
        if number in self.refused and self.at_once:
            raise ConnectionError("broken pipe")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if number in self.refused:
            future.set_exception(ConnectionError("not leader"))
        else:
            self.pending.append(future)
        return future

    def acknowledge(self) -> None:
        """Answer everything that waits."""
        for offset, future in enumerate(self.pending):
            if not future.done():
                future.set_result(SimpleNamespace(topic="t", partition=0, offset=offset))


RECORDS = [Outgoing("t", 0, b"k", b"%d" % number, (("h", b"1"),) if number == 1 else ()) for number in range(3)]


def test_all_are_sent_in_order_before_the_first_is_acknowledged() -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        sending = asyncio.ensure_future(Sender(SimpleNamespace(producer=producer)).send(RECORDS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [record[2] for record in producer.sent] == [b"0", b"1", b"2"]
        assert [record[5] for record in producer.sent] == [None, [("h", b"1")], None]
        assert not sending.done()
        producer.acknowledge()
        assert await sending == [("t", 0, 0), ("t", 0, 1), ("t", 0, 2)]

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
