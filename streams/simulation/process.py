"""A simulated operating system process: whatever it does to the world goes through it, so that it can die anywhere.

A killed process has no effect from that moment on, whatever its tasks still do while they are cancelled. A stopped
one (SIGSTOP) goes on later as if nothing had happened.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class SimulatedProcess:
    """One process. ``dead`` and ``stopped`` are looked at by every handle to the world, at every call.

    ``touches`` is told of each call that a living process makes to the world and of each answer it takes, before it
    has an effect: between two of them nothing that it does is seen outside, so these are all the places where it can
    die.
    """

    def __init__(self, name: str, touches: "Callable[[SimulatedProcess], None] | None" = None) -> None:
        self.name = name
        self.dead = False
        self._touches = touches
        self._running = asyncio.Event()
        self._running.set()
        self._tasks: list[asyncio.Task[Any]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something that dies with the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks = [known for known in self._tasks if not known.done()]
        self._tasks.append(task)
        return task

    async def gate(self) -> None:
        """Pass while the process runs; wait while it is stopped; end the calling task when it is dead."""
        await self._running.wait()
        if not self.touch():
            raise asyncio.CancelledError

    def touch(self) -> bool:
        """Note a call to the world, or an answer; return whether the process is still there to make it."""
        if not self.dead and self._touches is not None:
            self._touches(self)
        return not self.dead

    @property
    def stopped(self) -> bool:
        """Whether it is stopped."""
        return not self._running.is_set()

    def stop(self) -> None:
        """SIGSTOP."""
        self._running.clear()

    def go_on(self) -> None:
        """SIGCONT."""
        self._running.set()

    def kill(self) -> None:
        """SIGKILL: nothing it does has an effect any more."""
        if self.dead:
            return
        self.dead = True
        self._running.set()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
