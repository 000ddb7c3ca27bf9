"""A fetch that waits while the group is dealt out anew: what it takes afterwards is put back, or known as late."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.ports import RawRecord
from streams.engine.transport import Checkpoints, ChunkConsumerThread

RECORDS = {"lane": [RawRecord("t", 0, offset, None, b"v", (), 0) for offset in (7, 8)]}


class Fetcher:
    """aiokafka's side: gives what is there after ``meanwhile`` has happened."""

    _closed = False

    def __init__(self, meanwhile: Any) -> None:
        self._meanwhile = meanwhile
        self._subscriptions = self

    @contextmanager
    def fetch_context(self) -> Iterator[None]:
        yield

    async def fetched_records(self, *given: Any, **named: Any) -> dict[str, list[RawRecord]]:
        del given, named
        await asyncio.sleep(0)
        self._meanwhile()
        return {"lane": RECORDS["lane"], "gone": RECORDS["lane"]}


class Consumer:
    """An assigned consumer that remembers where it was told to go on."""

    _closed = False

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self.sought: list[tuple[str, int]] = []

    def assignment(self) -> set[str]:
        return {"lane"}

    def seek(self, partition: str, offset: int) -> None:
        self.sought.append((partition, offset))


@pytest.mark.parametrize("dealt_anew", [False, True])
def test_what_comes_after_a_new_assignment_is_put_back(dealt_anew: bool) -> None:
    hooks = Checkpoints()
    hooks.assignment_number = 3

    def meanwhile() -> None:
        hooks.assignment_number += dealt_anew

    thread = ChunkConsumerThread.__new__(ChunkConsumerThread)
    surroundings: dict[str, Any] = {
        "app": SimpleNamespace(tradermind_checkpoints=hooks),
        "consumer": SimpleNamespace(flow_active=True),
    }
    vars(thread).update(surroundings)
    consumer = Consumer(Fetcher(meanwhile))
    found = asyncio.run(thread._fetch_records(consumer, {"lane"}, timeout=1.0))
    assert hooks.fetched_under == 3 + dealt_anew
    assert consumer.sought == ([("lane", 7)] if dealt_anew else [])
    assert set(found) == (set() if dealt_anew else {"lane", "gone"})
