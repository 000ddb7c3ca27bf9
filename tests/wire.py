"""A network between workers and a server that can fail: a TCP proxy that cuts, goes silent, or is slow.

A cut is what a firewall does that forgets its table (both ends learn of it); silence is a machine that lost its power
or a cable that was pulled (the near end never learns of it, and its words are taken and lost).
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from infra.servers import free_port
from infra.servers.ports import LOOPBACK

_READ_BYTES = 256 * 1024


@dataclass(slots=True, eq=False)
class _Line:
    """One connection: the client's side and the server's."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    dead: bool = False


@dataclass(slots=True)
class Wire:
    """A proxy on a loopback port of its own, in a thread of its own. ``delay_s`` is added to each way."""

    target_port: int
    port: int = field(default_factory=free_port)
    delay_s: float = 0.0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _lines: set[_Line] = field(default_factory=set)
    _refusing: bool = False

    def start(self) -> "Wire":
        """Listen; return itself."""
        listening: Future[None] = Future()
        threading.Thread(target=self._serve, args=(listening,), name="wire", daemon=True).start()
        listening.result(10)
        return self

    def stop(self) -> None:
        """Cut everything and take no more."""
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def cut(self) -> int:
        """Reset every connection at both ends; return how many there were. New ones go through."""
        return self._do(self._cut)

    def silence(self) -> int:
        """Let every connection fall silent: the server is told that it ended, the client never. New ones go through."""
        return self._do(self._silence)

    def refuse(self) -> int:
        """Reset every connection, and every new one, until ``accept``."""
        self._refusing = True
        return self.cut()

    def accept(self) -> None:
        """Let new connections through again."""
        self._refusing = False

    def _do(self, action: Callable[[], int]) -> int:
        done: Future[int] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(action()))
        return done.result(10)

    def _cut(self) -> int:
        for line in (lines := list(self._lines)):
            line.dead = True
            line.near.transport.abort()
            line.far.transport.abort()
        return len(lines)

    def _silence(self) -> int:
        living = [line for line in self._lines if not line.dead]
        for line in living:
            line.dead = True
            line.far.transport.abort()
        return len(living)

    def _serve(self, listening: "Future[None]") -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._connect, LOOPBACK, self.port))
        listening.set_result(None)
        self._loop.run_forever()

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._refusing:
            near.transport.abort()
            return
        try:
            answers, far = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:
            near.transport.abort()
            return
        line = _Line(near, far)
        self._lines.add(line)
        await asyncio.gather(self._pump(line, reader, far), self._pump(line, answers, near))
        self._lines.discard(line)

    async def _pump(self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # Either end may be gone at any time; the other is told below.
            while data := await reader.read(_READ_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not line.dead:
                    writer.write(data)
                    await writer.drain()
        if not line.dead:
            writer.close()
