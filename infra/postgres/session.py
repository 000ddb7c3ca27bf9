"""One database session that is kept: a new one costs a process on the server and a password exchange.

A server that lost its power, or a proxy that forgot about us, closes nothing and says nothing. ``KEEPALIVES`` notice
the first within seconds; ``answer_due`` ends the wait for whatever else does not answer.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

KEEPALIVES: Final = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
ANSWER_S: Final = 35.0
"""Longer than our sessions let the server take for a statement: whoever still says nothing is gone."""


@contextmanager
def answer_due(connection: AsyncConnection[Any], within_s: float) -> Iterator[AsyncConnection[Any]]:
    """Hang up when what is asked within has no answer in time: whoever waits gets psycopg.OperationalError.

    Nothing is cancelled, since a cancelled psycopg call waits for the server once more.
    """
    bound = asyncio.get_running_loop().call_later(within_s, _hang_up, connection)
    try:
        yield connection
    finally:
        bound.cancel()


def _hang_up(connection: AsyncConnection[Any]) -> None:
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


class KeptSession:
    """A session for whoever asks often and can bear a fault: one that broke is replaced at the next call.

    A question that has no answer ``answer_s`` after the session was asked for ends with psycopg.OperationalError.
    """

    def __init__(self, dsn: str, *, answer_s: float = ANSWER_S) -> None:
        self._dsn = make_conninfo(dsn, connect_timeout=5, **KEEPALIVES)
        self._answer_s = answer_s
        self._bound: asyncio.TimerHandle | None = None
        self._connection: AsyncConnection[Any] | None = None

    async def connection(self) -> AsyncConnection[Any]:
        """Return the session, in autocommit. Raises psycopg.OperationalError when the database is away."""
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(self._dsn, autocommit=True)
        self._let_go_of_bound()
        self._bound = asyncio.get_running_loop().call_later(self._answer_s, _end_silence, self._connection)
        return self._connection

    async def close(self) -> None:
        """Give the session back."""
        self._let_go_of_bound()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    def _let_go_of_bound(self) -> None:
        if self._bound is not None:
            self._bound.cancel()


def _end_silence(connection: AsyncConnection[Any]) -> None:
    if not connection.closed and connection.info.transaction_status is TransactionStatus.ACTIVE:
        _hang_up(connection)
