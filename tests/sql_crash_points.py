"""A real worker on real servers, ended at its n-th SQL statement, for every n: ``make test-crash-points``.

``python tests/sql_crash_points.py [--points N]``. Three stages in one worker process; each life is fed a few trades,
dies at its n-th statement, and the next life recovers from that and dies at its own. Once before the statement is sent
and once after it was carried out, for n from 1 on, until a life ends in order: then every trade must have taken effect
once, every number must be there once, and every output must follow again from the inputs. ``--points`` does so many
of them, evenly. Prints how many were lost and doubled; exit code 1 when any was.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import engine_toys  # noqa: E402
from engine_runs import (  # noqa: E402
    SHARDS,
    Feed,
    ToyRun,
    effect_count,
    effects,
    engine_of,
    fresh_topics,
    sequences,
    unsent_batches,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402
from statement_wire import Side, StatementWire  # noqa: E402

from infra.postgres.migrate import migrate  # noqa: E402
from infra.servers import start_kafka, start_postgres  # noqa: E402
from schemas.topics import DECISION  # noqa: E402
from streams.offline.recompute import recompute_shard  # noqa: E402

WORKER = "experts+decider+feedback"
TRADES = 5
_LIFE_MOST_S = 60.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What came of all lives together. ``statements`` is how many one life sends that nobody ends."""

    statements: int
    lives: int
    ended: int
    trades: int
    lost: int
    doubled: int
    differing: int
    recomputed: int

    @property
    def clean(self) -> bool:
        """Whether nothing is missing and nothing is there twice."""
        return (self.lost, self.doubled, self.differing) == (0, 0, 0)

    def __str__(self) -> str:
        return (
            f"{self.lives} lives of a worker, {self.ended} ended at a statement (of {self.statements} in one that was"
            f" not): {self.trades} trades, {self.lost} lost, {self.doubled} doubled; {self.recomputed} outputs"
            f" recomputed, {self.differing} differ"
        )


class Lives:
    """One run of the worker after the other, over the same topics and database."""

    def __init__(self, bootstrap: str, dsn: str, directory: Path) -> None:
        migrate(dsn)
        self.wire = StatementWire(int(conninfo_to_dict(dsn)["port"])).start()
        self.dsn = dsn
        near = make_conninfo(dsn, port=self.wire.port, sslmode="disable", gssencmode="disable")
        settings = {"dsn": near, "heartbeat_interval_ms": 500, "checkpoint_interval_s": 0.3}
        self.run = ToyRun(bootstrap, dsn, directory, settings, instances=True)
        self.feed = Feed(bootstrap)
        self.lives = self.ended = 0

    def live(self, at: int, side: Side) -> bool:
        """Live once, with new trades waiting; return whether it came to the ``at``-th statement and ended there."""
        self.lives += 1
        self.feed.trades(TRADES)
        self.wire.arm(at, side)
        child = self.run.start(WORKER, slot="all")
        self.wire.watch(child.pid)
        deadline = time.monotonic() + _LIFE_MOST_S
        while child.alive() and not self._has_done_all():
            assert time.monotonic() < deadline, f"no end after {_LIFE_MOST_S:g} s\n{self.run.logs()}"
            time.sleep(0.05)
        code = next(iter(self.run.stop_all().values()))
        assert code in (0, -9), f"ended with {code}\n{self.run.logs()}"
        self.ended += code == -9
        return code == -9

    def _has_done_all(self) -> bool:
        return effect_count(self.dsn) >= self.feed.sent and unsent_batches(self.dsn) == 0

    def close(self) -> None:
        """End whatever is left."""
        self.run.kill_all()
        self.wire.stop()


def sweep(lives: Lives, most: int | None = None) -> Counted:
    """End a life at each statement, or at ``most`` of them, on both sides; then let one live, and count."""
    assert not lives.live(0, Side.BEFORE)
    statements = lives.wire.statements
    for at, side in _points(statements, most):
        went_on = not lives.live(at, side)
        if went_on and most is None:
            break
    assert not lives.live(0, Side.BEFORE)
    return _count(lives, statements)


def _points(statements: int, most: int | None) -> Iterator[tuple[int, Side]]:
    if most is not None:
        for number in range(most):
            yield 1 + number * (statements - 1) // most, list(Side)[number % 2]
        return
    at = 0
    while True:  # A life that recovers sends more than one that has nothing to recover from.
        at += 1
        for side in Side:
            yield at, side


def _count(lives: Lives, statements: int) -> Counted:
    run, count = lives.run, lives.feed.sent
    found = effects(run.dsn)
    found.pop("order")
    due = {f"{kind}:{number}" for kind in ("Decision", "MarketMark") for number in range(count)}
    numbers = sequences(run.bootstrap, DECISION.name, 0)["decider/0"]
    lost = len(due - found.keys()) + len(set(range(1, count + 1)) - set(numbers))
    doubled = sum(times - 1 for times in found.values()) + len(found.keys() - due) + len(numbers) - len(set(numbers))
    results = [
        asyncio.run(recompute_shard(engine_of(run), engine_toys.HOSTINGS[stage], shard)) for stage, shard in SHARDS
    ]
    return Counted(
        statements=statements,
        lives=lives.lives,
        ended=lives.ended,
        trades=count,
        lost=lost,
        doubled=doubled,
        differing=sum(result.outputs - result.matched for result in results),
        recomputed=sum(result.matched for result in results),
    )


@contextmanager
def lives_on(bootstrap: str, dsn: str, directory: Path) -> Iterator[Lives]:
    """Lives on a broker and in an empty database; the platform's topics are theirs meanwhile."""
    with fresh_topics(bootstrap):
        lives = Lives(bootstrap, dsn, directory)
        try:
            yield lives
        finally:
            lives.close()


def main() -> int:
    """Start servers, and end a worker at every statement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=None, help="this many, evenly; all of them without it")
    points = parser.parse_args().points
    with tempfile.TemporaryDirectory() as folder:
        kafka, postgres = start_kafka(Path(folder) / "kafka"), start_postgres(Path(folder) / "postgres")
        try:
            with lives_on(kafka.bootstrap, postgres.dsn, Path(folder)) as lives:
                counted = sweep(lives, points)
        finally:
            kafka.stop()
            postgres.stop()
    sys.stdout.write(f"{counted}\n")
    return 0 if counted.clean else 1


if __name__ == "__main__":
    sys.exit(main())
