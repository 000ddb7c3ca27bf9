"""Every fault against three stages at work on real Kafka and Postgres: ``make test-faults`` prints the table.

``python tests/fault_campaign.py [--runs N] [--only NAME] [--seed S]``. Each run has topics and a database of its own. A
feed writes numbered trades; in the middle of it the fault happens; then every trade must have taken effect once in the
last stage, every number a stage gave must be there once, and every output must follow again from the inputs, byte for
byte. The table's zeros are these counts. Exit code 1 when one is not zero.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import engine_toys  # noqa: E402
import psycopg  # noqa: E402
from engine_runs import (  # noqa: E402
    SHARDS,
    Feed,
    ToyRun,
    effect_count,
    effects,
    engine_of,
    eventually,
    fresh_topics,
    sequences,
    unsent_batches,
)
from faults import FAULTS, WORKERS, World  # noqa: E402

from infra.kafka import log_ends  # noqa: E402
from infra.postgres.migrate import migrate  # noqa: E402
from infra.servers import EmbeddedPostgres, RealKafka, start_kafka, start_postgres  # noqa: E402
from infra.servers.process import ServerFailed  # noqa: E402
from schemas.topics import DECISION, MARKET_EVENT  # noqa: E402
from streams.offline.recompute import recompute_shard  # noqa: E402

PER_SECOND = 240


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run counted: inputs without an effect, effects too many, outputs that do not follow, and how many do."""

    lost: int
    doubled: int
    differing: int
    recomputed: int
    recovery_s: float
    letters: int
    notes: str

    @property
    def clean(self) -> bool:
        """Whether every count is what it must be."""
        return (self.lost, self.doubled, self.differing) == (0, 0, 0)


def suffer(name: str, kafka: RealKafka, postgres: EmbeddedPostgres, directory: Path, *, seed: int) -> Verdict:
    """Run the stages, do one fault to them, and count. Raises AssertionError when they do not come back at all."""
    database = f"fault_{abs(hash((name, seed, time.time_ns()))) % 10**12}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"')
    dsn = postgres.dsn_of(database)
    migrate(dsn)
    run = ToyRun(kafka.bootstrap, dsn, directory, {}, instances=True)
    with fresh_topics(kafka.bootstrap):
        try:
            return _suffer(name, World(run, kafka, postgres, Feed(kafka.bootstrap), random.Random(seed)))
        finally:
            run.kill_all()


def _suffer(name: str, world: World) -> Verdict:
    run, over = world.run, threading.Event()
    for worker in WORKERS:
        run.start(worker)
    feeding = threading.Thread(target=_feed, args=(world.feed, over), daemon=True)
    feeding.start()
    try:
        eventually("the first effect", lambda: effect_count(run.dsn) > 0, run)
        time.sleep(1)
        FAULTS[name](world)
        mended, before = time.monotonic(), effect_count(run.dsn)
        eventually("an effect after the fault", lambda: effect_count(run.dsn) > before, run)
        recovery_s = time.monotonic() - mended
        time.sleep(2)
    finally:
        over.set()
        feeding.join(60)
    count = world.feed.sent
    _wait_for_all(world, count)
    codes = run.stop_all()
    assert set(codes.values()) == {0}, f"{codes}\n{run.logs()}"
    return _judge(world, count, recovery_s)


def _feed(feed: Feed, over: threading.Event) -> None:
    """Write trades, 20 times a second, until it is over: whatever the fault takes, there is work on its way."""
    while not over.wait(0.05):
        feed.trades(PER_SECOND // 20, wait=False)
    feed.flush()


def _wait_for_all(world: World, count: int) -> None:
    """Wait for the last effect, or until nothing moves any more: what is missing then is counted, not waited for."""
    run = world.run
    newest, moved = -1, time.monotonic()
    while (found := effect_count(run.dsn)) < count and time.monotonic() - moved < 40:
        if found != newest:
            newest, moved = found, time.monotonic()
        time.sleep(0.1)
    eventually("an empty outbox", lambda: unsent_batches(run.dsn) == 0, run)


def _judge(world: World, count: int, recovery_s: float) -> Verdict:
    run = world.run
    found = effects(run.dsn)
    found.pop("order")
    due = {f"{kind}:{number}" for kind in ("Decision", "MarketMark") for number in range(count)}
    numbers = sequences(run.bootstrap, DECISION.name, 0)["decider/0"]
    missing = len(due - found.keys()) + len(set(range(1, count + 1)) - set(numbers))
    extra = sum(times - 1 for times in found.values()) + len(found.keys() - due) + len(numbers) - len(set(numbers))
    differing = recomputed = 0
    for stage, shard in SHARDS:
        result = asyncio.run(recompute_shard(engine_of(run), engine_toys.HOSTINGS[stage], shard))
        differing += result.outputs - result.matched
        recomputed += result.matched
    lanes = [(MARKET_EVENT.dead_letters, partition) for partition in range(engine_toys.PARTITIONS)]
    letters = sum(log_ends(run.bootstrap, lanes).values())
    return Verdict(missing, extra, differing, recomputed, recovery_s, letters, world.notes)


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    recovery = max(verdict.recovery_s for verdict in verdicts)
    sums = [sum(getattr(verdict, field) for verdict in verdicts) for field in ("lost", "doubled", "differing")]
    counted = sum(verdict.recomputed for verdict in verdicts)
    letters = sum(verdict.letters for verdict in verdicts)
    counts = " ".join(f"{value:9}" for value in sums)
    return f"{name:30} {len(verdicts):4} {counts} {counted:11,} {letters:8} {recovery:8.1f}  {verdicts[-1].notes}"


def main(arguments: Sequence[str]) -> int:
    """Run the campaign and print its table; 2 when a server cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", choices=list(FAULTS), action="append")
    parser.add_argument("--seed", type=int, default=1)
    options: Any = parser.parse_args(arguments)
    clean = True
    with tempfile.TemporaryDirectory(prefix="tradermind-faults-") as folder:
        directory = Path(folder)
        directory.chmod(0o755)  # The database runs as another user, who must reach its folder.
        try:
            kafka, postgres = start_kafka(directory / "kafka"), start_postgres(directory / "postgres")
        except ServerFailed as error:
            sys.stderr.write(f"{error}\n")
            return 2
        head = f"{'fault':30} {'runs':>4} {'lost':>9} {'doubled':>9} {'differing':>9}"
        print(f"{head} {'recomputed':>11} {'letters':>8} {'back (s)':>8}", flush=True)
        try:
            for name in options.only or FAULTS:
                verdicts = []
                for number in range(options.runs):
                    place = directory / f"{name.replace(' ', '-')}.{number}"
                    verdicts.append(suffer(name, kafka, postgres, place, seed=options.seed + number))
                clean = clean and all(verdict.clean for verdict in verdicts)
                print(_row(name, verdicts), flush=True)
        finally:
            kafka.stop()
            postgres.stop()
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
