"""A wire to Postgres that counts statements, and ends the process that sends the n-th: before it leaves, or after.

It stands between a worker and the server and reads the protocol's frames, so that the worker runs as it is: nothing of
it knows that it is going to die. *Before*: the server never hears of the statement. *After*: the server has carried it
out and said so, and the worker never hears the answer.
"""

import asyncio
import contextlib
import enum
import os
import signal
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from infra.servers import free_port
from infra.servers.ports import LOOPBACK

_HEAD = struct.Struct("!cI")
_LENGTH = struct.Struct("!I")
_STATEMENT_ENDS = (b"Q", b"S")
"""A simple query, or the end of an extended one."""
_GO = (*_STATEMENT_ENDS, b"H", b"X", b"p")
_READY = b"Z"


class Side(enum.Enum):
    """Where in a statement's life its sender ends."""

    BEFORE = "before it is sent"
    AFTER = "after it was carried out, before its answer is used"


@dataclass(slots=True, eq=False)
class _Line:
    """One connection; ``last`` is set when the answer to what was just sent is one that nobody hears."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    last: bool = False


@dataclass(slots=True)
class StatementWire:
    """A proxy on a loopback port of its own, in a thread of its own. Clients must not ask for TLS (sslmode=disable)."""

    target_port: int
    port: int = field(default_factory=free_port)
    statements: int = 0
    _at: int = 0
    _side: Side = Side.BEFORE
    _pid: int = 0
    _fell: bool = False
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def start(self) -> "StatementWire":
        """Listen; return itself."""
        listening: Future[None] = Future()
        threading.Thread(target=self._serve, args=(listening,), name="statement wire", daemon=True).start()
        listening.result(10)
        return self

    def stop(self) -> None:
        """Take no more."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def arm(self, at: int, side: Side) -> None:
        """Count anew; the sender of the ``at``-th statement (0: of none) is to die on this side of it."""
        self.statements, self._at, self._side, self._pid, self._fell = 0, at, side, 0, False

    def watch(self, pid: int) -> None:
        """Name the process whose statements are counted: the only one that comes this way."""
        self._pid = pid

    def _serve(self, listening: "Future[None]") -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._connect, LOOPBACK, self.port))
        listening.set_result(None)
        self._loop.run_forever()

    async def _connect(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        answers, far = await asyncio.open_connection(LOOPBACK, self.target_port)
        line = _Line(near, far)
        await asyncio.gather(self._ask(line, reader), self._answer(line, answers))

    async def _ask(self, line: _Line, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):  # Either end may go at any time.
            head = await reader.readexactly(_LENGTH.size)
            line.far.write(head + await reader.readexactly(_LENGTH.unpack(head)[0] - _LENGTH.size))
            whole = b""
            while True:
                kind, frame = await _frame(reader)
                whole += frame
                if kind in _STATEMENT_ENDS and self._is_last(line):
                    break
                if kind in _GO:
                    line.far.write(whole)
                    await line.far.drain()
                    whole = b""
        line.far.close()

    async def _answer(self, line: _Line, answers: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                kind, frame = await _frame(answers)
                if line.last:
                    if kind == _READY:
                        self._end()
                        break
                else:
                    line.near.write(frame)
                    await line.near.drain()
        line.near.close()

    def _is_last(self, line: _Line) -> bool:
        """Count a statement; return whether its sender has ended before it."""
        if self._fell:
            return True
        self.statements += 1
        if self.statements != self._at:
            return False
        if self._side is Side.AFTER:
            line.last = True
            return False
        self._end()
        return True

    def _end(self) -> None:
        self._fell = True
        assert self._pid > 0, "nobody is watched: 0 would be everybody"
        os.kill(self._pid, signal.SIGKILL)


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(_HEAD.size)
    kind, length = _HEAD.unpack(head)
    return kind, head + await reader.readexactly(length - _LENGTH.size)
