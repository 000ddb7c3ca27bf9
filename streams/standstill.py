"""Is anybody at work? What changes shards from outside goes on only while all workers are stopped."""

import time
from typing import Any, Final

from psycopg import Connection

from infra.kafka_remake import group_members
from infra.postgres.rescales import at_work
from schemas.topics import PREFIX
from streams.engine.ports import EngineSettings

QUIET_S: Final = 10.0
# A worker that ended without a word stays in its groups for its session timeout, and leaving is asked for only once.
DEPARTURE_S: Final = 15.0
_PAUSE_S: Final = 0.25


def refuse_life(
    engine: EngineSettings,
    connection: Connection[Any],
    refused: type[Exception],
    *,
    quiet_s: float = QUIET_S,
    departure_s: float = DEPARTURE_S,
) -> None:
    """Raise ``refused`` when a worker lives: a member of a group of ours, a session, or something written lately.

    ``departure_s``: so long it waits for members to be gone. ``quiet_s``: so long nothing may have been written.
    """
    deadline = time.monotonic() + departure_s
    while staying := {
        group: members
        for group, members in group_members(engine.bootstrap, f"{PREFIX}.", engine.security).items()
        if members
    }:
        if time.monotonic() >= deadline:
            group, members = next(iter(staying.items()))
            raise refused(f"The group {group} has members ({', '.join(members)}): stop all workers first.")
        time.sleep(_PAUSE_S)
    if signs := at_work(connection, quiet_s):
        raise refused(f"{signs[0]} Stop all workers first.")
