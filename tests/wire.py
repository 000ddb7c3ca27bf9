"""A network between workers and a server that can fail: a TCP proxy that cuts, tears, goes silent, or is slow.

A cut is what a firewall does that forgets its table (both ends learn of it); silence is a machine that lost its power
or a cable that was pulled (the near end never learns of it, and its words are taken and lost); a tear ends a
connection in order, but in the middle of what was being said.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

from infra.servers import free_port
from infra.servers.ports import LOOPBACK

_READ_BYTES = 256 * 1024
_AT_ONCE = struct.pack("ii", 1, 0)
_TLS_HEAD = struct.Struct("!BHH")
"""Of a TLS record: its kind, the version, and how many bytes follow."""


@dataclass(slots=True, eq=False)
class Line:
    """One connection: the client's side and the server's. One that is ``doomed`` is torn as soon as either speaks."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    dead: bool = False
    doomed: bool = False


@dataclass
class Wire:
    """A proxy on a loopback port of its own, in a thread of its own. ``delay_s`` is added to each way.

    ``taken`` counts connections, ``torn`` those that were torn. While it is
    ``tearing``, every new one is torn at its first words.
    """

    target_port: int
    port: int = field(default_factory=free_port)
    delay_s: float = 0.0
    tearing: bool = False
    taken: int = 0
    torn: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _lines: set[Line] = field(default_factory=set)
    _refusing: bool = False

    def start(self) -> Self:
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

    def tear(self) -> int:
        """Doom every connection: of the next words on each only half is passed on, then it ends. Return how many."""
        return self._do(self._doom)

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
            self._abort(line)
        return len(lines)

    def _abort(self, line: Line) -> None:
        line.dead = True
        for side in (line.near, line.far):
            with contextlib.suppress(OSError):  # It may be closed already.
                # Without lingering a close is a reset, which is what a firewall sends that has forgotten about us.
                side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            side.transport.abort()

    def _silence(self) -> int:
        living = [line for line in self._lines if not line.dead]
        for line in living:
            line.dead = True
            line.far.transport.abort()
        return len(living)

    def _doom(self) -> int:
        living = [line for line in self._lines if not line.dead]
        for line in living:
            line.doomed = True
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
        line = Line(near, far, doomed=self.tearing)
        self.taken += 1
        self._lines.add(line)
        await asyncio.gather(
            self._to_the_end(line, self._ask(line, reader), far),
            self._to_the_end(line, self._answer(line, answers), near),
        )
        self._lines.discard(line)

    async def _to_the_end(self, line: Line, passing: Awaitable[None], other: asyncio.StreamWriter) -> None:
        """Pass on what one side says until it ends; then the other side is told."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # Either end may be gone at any time.
            await passing
        if not line.dead:
            other.close()

    async def _ask(self, line: Line, reader: asyncio.StreamReader) -> None:
        """Pass on what the client says."""
        while words := await self._next(reader):
            await self._pass_on(line, line.far, words)

    async def _answer(self, line: Line, reader: asyncio.StreamReader) -> None:
        """Pass on what the server says."""
        while words := await self._next(reader):
            await self._pass_on(line, line.near, words)

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        """Return what came next; nothing at the end."""
        return await reader.read(_READ_BYTES)

    async def _pass_on(self, line: Line, writer: asyncio.StreamWriter, words: bytes) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if line.dead:
            return
        if line.doomed:
            line.dead, self.torn = True, self.torn + 1
            writer.write(words[: len(words) // 2])
            line.near.close()
            line.far.close()
            return
        writer.write(words)
        await writer.drain()


class TlsWire(Wire):
    """A wire that knows where TLS records begin and end, so that a tear is in the middle of one."""

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(_TLS_HEAD.size)
        return head + await reader.readexactly(_TLS_HEAD.unpack(head)[2])
