"""A wire to Postgres that counts statements, and ends the process that sends the n-th: before it leaves, or after.

It stands between a worker and the server and reads the protocol's frames, so that the worker runs as it is: nothing of
it knows that it is going to die. *Before*: the server never hears of the statement. *After*: the server has carried it
out and said so, and the worker never hears the answer. Instead of the process, the connection may end there, too:
then the worker lives, and has to find out whether its commit was carried out.
"""

import asyncio
import enum
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from wire import Line, Wire

_HEAD = struct.Struct("!cI")
_LENGTH = struct.Struct("!I")
_STATEMENT_ENDS = (b"Q", b"S")
"""A simple query, or the end of an extended one."""
_GO = (*_STATEMENT_ENDS, b"H", b"X", b"p")
_READY = b"Z"
_SHARD = b"application_name\0tradermind "
"""How the session of a shard begins to say whose it is; its name has a slash."""


class Side(enum.Enum):
    """Where in a statement's life its sender ends."""

    BEFORE = "before it is sent"
    AFTER = "after it was carried out, before its answer is used"


@dataclass
class StatementWire(Wire):
    """A wire that knows Postgres's frames. Clients must not ask for TLS (sslmode=disable).

    ``lose`` is asked about each statement that a shard's session has had carried out: where it says so, the
    connection is cut instead of the answer; ``lost`` counts those.
    """

    statements: int = 0
    lose: Callable[[], bool] | None = None
    lost: int = 0
    _at: int = 0
    _side: Side = Side.BEFORE
    _pid: int = 0
    _fell: bool = False
    _shards: set[Line] = field(default_factory=set)
    _last: Line | None = None
    """Where the answer to what was just sent is one that nobody hears."""

    def arm(self, at: int, side: Side) -> None:
        """Count anew; the sender of the ``at``-th statement (0: of none) is to die on this side of it."""
        self.statements, self._at, self._side, self._pid, self._fell = 0, at, side, 0, False
        self._last = None

    def watch(self, pid: int) -> None:
        """Name the process whose statements are counted: the only one that comes this way."""
        self._pid = pid

    async def _ask(self, line: Line, reader: asyncio.StreamReader) -> None:
        head = await reader.readexactly(_LENGTH.size)
        greeting = head + await reader.readexactly(_LENGTH.unpack(head)[0] - _LENGTH.size)
        name = greeting.partition(_SHARD)[2].partition(b"\0")[0]
        if b"/" in name:
            self._shards.add(line)
        await self._pass_on(line, line.far, greeting)
        whole = b""
        while True:
            kind, frame = await _frame(reader)
            whole += frame
            if kind in _STATEMENT_ENDS and self._is_last(line):
                break
            if kind in _GO:
                await self._pass_on(line, line.far, whole)
                whole = b""

    async def _answer(self, line: Line, reader: asyncio.StreamReader) -> None:
        held, greeted = b"", False
        while True:
            kind, frame = await _frame(reader)
            ready = kind == _READY
            if line is self._last:
                if ready:
                    self._end()
                    break
                continue
            held += frame
            if ready and greeted and self._loses(line):
                break
            if ready or not (greeted and line in self._shards and self.lose is not None):
                await self._pass_on(line, line.near, held)
                held = b""
            greeted |= ready

    def _loses(self, line: Line) -> bool:
        """Whether the answer that is complete now is one that is lost, and its connection with it."""
        if line not in self._shards or self.lose is None or not self.lose():
            return False
        self.lost += 1
        self._abort(line)
        return True

    def _is_last(self, line: Line) -> bool:
        """Count a statement; return whether its sender has ended before it."""
        if self._fell:
            return True
        self.statements += 1
        if self.statements != self._at:
            return False
        if self._side is Side.AFTER:
            self._last = line
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
