"""Once a second each worker writes its shards' counters to Postgres, for the live table, the summary and alarms."""

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import psycopg

from infra.postgres.checkpoints import write_status

if TYPE_CHECKING:
    from streams.engine.worker import Worker

_INTERVAL_S: Final = 1.0


async def report_status(worker: "Worker") -> None:
    """Write counters until cancelled. A database that is away costs a round, never the worker."""
    while True:
        await asyncio.sleep(_INTERVAL_S)
        await write_now(worker)


async def write_now(worker: "Worker") -> None:
    """Write the counters of all shards once."""
    rows = [
        (stage, key, worker.holder, json.dumps(asdict(shard.core.counters)))
        for (stage, key), shard in worker.shards.items()
    ]
    if rows:
        try:
            await write_status(worker.engine.dsn, rows)
        except psycopg.OperationalError:
            # The shards' own stores decide how long a database may be away; counters are only for show.
            return
