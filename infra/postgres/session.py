"""One database session that is kept: a new one costs a process on the server and a password exchange."""

from typing import Any

from psycopg import AsyncConnection


class KeptSession:
    """A session for whoever asks often and can bear a fault: one that broke is replaced at the next call."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: AsyncConnection[Any] | None = None

    async def connection(self) -> AsyncConnection[Any]:
        """Return the session, in autocommit. Raises psycopg.OperationalError when the database is away."""
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=5)
        return self._connection

    async def close(self) -> None:
        """Give the session back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
