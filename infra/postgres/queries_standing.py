"""One value of a stage's kept state, as bytes: for commands that show what a worker is waiting for."""

from infra.postgres.queries import Connection

_VALUE = "SELECT value FROM shard_state WHERE stage = %s AND shard = %s AND key = %s"


def kept_value(connection: Connection, stage: str, shard: str, key: str) -> bytes | None:
    """Return what the newest commit of a shard keeps under a key, or None when that is nothing."""
    row = connection.execute(_VALUE, (stage, shard, key)).fetchone()
    return None if row is None else bytes(row["value"])
