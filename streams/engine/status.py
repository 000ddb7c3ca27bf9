"""Once a second each worker writes its shards' counters to Postgres, for the live table, the summary and alarms."""

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import psycopg

from infra.postgres.checkpoints import write_status
from infra.postgres.session import KeptSession
from streams.engine.handler import HandlerShard

if TYPE_CHECKING:
    from streams.engine.worker import Worker

_INTERVAL_S: Final = 1.0


async def report_status(worker: "Worker") -> None:
    """Write counters until cancelled. A database that is away costs a round, never the worker."""
    session = KeptSession(worker.engine.dsn)
    try:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await write_now(worker, session)
    finally:
        await session.close()


def _counters(worker: "Worker") -> dict[tuple[str, str], dict[str, Any]]:
    """Return the counters of each shard; those of a sink, which has one shard per topic partition, summed."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    handled: dict[str, Counter[str]] = {}
    for (stage, key), shard in worker.shards.items():
        counters = asdict(shard.core.counters)
        if isinstance(shard, HandlerShard):
            numbers = {name: value for name, value in counters.items() if isinstance(value, int)}
            still_s = worker.watch.facts((stage, key))
            total = handled.setdefault(stage, Counter())
            total.update(numbers | {"behind_records": int(still_s["behind_records"])})
            total["still_s"] = max(total["still_s"], int(still_s["still_s"]))
        else:
            found[stage, key] = counters | worker.watch.facts((stage, key))
    for stage, total in handled.items():
        if (more := worker.hostings[stage].facts) is not None:
            total.update(more())
    return found | {(stage, worker.holder): dict(total) for stage, total in handled.items()}


async def write_now(worker: "Worker", session: KeptSession) -> None:
    """Write the counters of all shards once."""
    rows = [(stage, key, worker.holder, json.dumps(counters)) for (stage, key), counters in _counters(worker).items()]
    if rows:
        try:
            await write_status(session, rows)
        except psycopg.OperationalError:
            # The shards' own stores decide how long a database may be away; counters are only for show.
            return
