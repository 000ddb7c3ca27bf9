"""What a live feed has received and nobody has read yet: bounded, for data that waits grows old."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """At most ``capacity`` items, in order of receipt, from one event loop's tasks to one reader."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._arrived = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._ended = False

    def offer(self, item: Item) -> bool:
        """Take an item, or return False when there is no room: the reader has fallen behind."""
        if len(self._items) >= self._capacity:
            return False
        self._items.append(item)
        self._arrived.set()
        if len(self._items) == self._capacity:
            self._roomy.clear()
        return True

    async def wait_for_room(self) -> None:
        """Return when at least half of a mailbox that was full is empty again."""
        await self._roomy.wait()

    def end(self) -> None:
        """Let the reader finish: nothing more comes."""
        self._ended = True
        self._arrived.set()

    async def items(self) -> AsyncIterator[Item]:
        """Yield the items as they come, until the end has been told and all are read."""
        while True:
            while self._items:
                yield self._items.popleft()
                if 2 * len(self._items) <= self._capacity:
                    self._roomy.set()
            if self._ended:
                return
            self._arrived.clear()
            await self._arrived.wait()
