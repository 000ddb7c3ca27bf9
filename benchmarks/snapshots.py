"""What keeping a shard whole costs: milliseconds beside those of a commit, and bytes in the table.

``python -m benchmarks.snapshots [--tries 200]``. Each state is many values of random bytes (which do not compress) and
as many of repeated ones, so the bytes are between the best and the worst.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.machine import describe
from infra.postgres.checkpoints import ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.patient_store import Commit, RunFacts, ShardName
from infra.servers import start_postgres

STATES = ((8, 1_500), (20, 5_000), (100, 10_000), (1_000, 10_000))
"""Keys and bytes a key; the first is a stage of the demo after a minute."""
FACTS = RunFacts("bench", "1", "1")


def _state(keys: int, size: int) -> dict[str, bytes | None]:
    half = b"tradermind" * (size // 20)
    return {f"SIM:I{number}": os.urandom(size - len(half)) + half for number in range(keys)}


async def _measure(dsn: str, number: int, tries: int) -> tuple[list[float], list[float]]:
    keys, size = STATES[number]
    store = ShardStore(dsn, ShardName("bench", str(number), "bench"), durable=True)
    await store.claim(FACTS)
    await store.commit(Commit(batch=1, progress=b"p" * 500, state=_state(keys, size)), FACTS)
    commits, kept = [], []
    for batch in range(2, tries + 2):
        touched = _state(1, size)
        commit = Commit(batch=batch, progress=b"p" * 500, state=touched, journal=b"j" * 100)
        began = time.perf_counter()
        await store.commit(commit, FACTS)
        commits.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        assert await store.keep_snapshot(72)
        kept.append((time.perf_counter() - began) * 1000)
    await store.close()
    return commits, kept


def _row(dsn: str, number: int, commits: list[float], kept: list[float]) -> str:
    keys, size = STATES[number]
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT avg(pg_column_size(s.*))::int FROM shard_snapshot AS s WHERE shard = %s", (str(number),)
        ).fetchone()
    assert found is not None
    spread = statistics.quantiles(kept, n=100)
    return (
        f"{keys:>6,} x {size:>6,} B   commit p50 {statistics.median(commits):6.2f} ms   snapshot p50"
        f" {statistics.median(kept):6.2f}  p99 {spread[98]:6.2f} ms   {found[0]:>10,} bytes"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=200)
    tries = parser.parse_args().tries
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        server = start_postgres(Path(folder) / "pg")
        try:
            migrate(server.dsn)
            for number in range(len(STATES)):
                commits, kept = asyncio.run(_measure(server.dsn, number, tries))
                print(_row(server.dsn, number, commits, kept), flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
