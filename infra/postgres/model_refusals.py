"""Artefacts of models that were refused, as rows that are only ever added: a fault or an attack is seen later, too."""

from typing import Any, Final

import psycopg

from infra.models.refusals import ArtefactRefused
from infra.postgres.queries import Connection

_INSERT: Final = "INSERT INTO model_refusals (sha256, reason, sentence, author) VALUES (%s, %s, %s, %s)"
_NEWEST: Final = (
    "SELECT created_at AS time, sha256, reason, sentence, author FROM model_refusals ORDER BY ordinal DESC LIMIT %s"
)
_ADDRESS_SHOWN: Final = 64
_CONNECT_S: Final = 5


def insert_refusal(dsn: str, sha256: str, refused: ArtefactRefused, author: str) -> None:
    """Store a refusal; ``sha256`` is what was asked for, ``author`` who asked. Raises psycopg.Error."""
    asked = ascii(sha256[:_ADDRESS_SHOWN])[1:-1]
    with psycopg.connect(dsn, connect_timeout=_CONNECT_S) as connection:
        connection.execute(_INSERT, (asked, refused.reason.value, refused.sentence[:1000], author))


def recent_refusals(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest refusals, newest first."""
    return connection.execute(_NEWEST, (limit,)).fetchall()
