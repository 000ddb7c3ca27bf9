"""Every fault against three stages at work on real Kafka and Postgres: ``make test-faults`` prints the table.

``python tests/fault_campaign.py [--runs N] [--only NAME] [--seed S]``. Each run has topics and a database of its own. A
feed writes numbered trades; in the middle of it the fault happens; then every trade must have taken effect once in the
last stage, every number a stage gave must be there once, and every output must follow again from the inputs, byte for
byte. The table's zeros are these counts; ``strange`` counts workers that ended without a reason that the fault gives,
and Heartbeats whose time runs backwards. Exit code 1 when one is not zero, or a fault could not be done.
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
from fault_places import Around, Servers, start_servers, surroundings  # noqa: E402
from faults import FAULTS, WORKERS, Fault, World  # noqa: E402
from faults_around import AROUND  # noqa: E402
from faults_of_brokers import OF_BROKERS  # noqa: E402
from full_disk import NotHere  # noqa: E402
from psycopg.conninfo import make_conninfo  # noqa: E402

from infra.kafka import BrokerUnreachable, log_ends  # noqa: E402
from infra.postgres.migrate import migrate  # noqa: E402
from infra.servers.process import ServerFailed  # noqa: E402
from schemas.event import Heartbeat  # noqa: E402
from schemas.topics import DECISION, MARKET_EVENT  # noqa: E402
from streams.engine.journal import External, decode_external, decode_inputs  # noqa: E402
from streams.offline.question import Question  # noqa: E402
from streams.offline.recompute import recompute_shard  # noqa: E402

PER_SECOND = 240
ALL = {fault.name: fault for fault in (*FAULTS, *AROUND, *OF_BROKERS)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run counted: inputs without an effect, effects too many, outputs that do not follow, and how many do.

    ``strange`` is what nobody may see: workers that end without reason, a clock that runs backwards.
    """

    lost: int
    doubled: int
    differing: int
    strange: tuple[str, ...]
    recomputed: int
    recovery_s: float
    letters: int
    ends: int
    notes: str

    @property
    def clean(self) -> bool:
        """Whether every count is what it must be."""
        return (self.lost, self.doubled, self.differing, self.strange) == (0, 0, 0, ())


def suffer(fault: Fault, servers: Servers, directory: Path, *, seed: int) -> Verdict:
    """Run the stages, do one fault to them, and count.

    Raises AssertionError when they do not come back at all, and NotHere when this machine lacks what the fault needs.
    """
    with surroundings(fault.place, servers, directory) as around, fresh_topics(around.bootstrap, around.topics):
        dsn = _new_database(around, f"fault_{abs(hash((fault.name, seed, time.time_ns()))) % 10**12}")
        run = ToyRun(around.bootstrap, dsn, directory, dict(around.settings), instances=True, supervised=True)
        run.environment = around.environment
        if around.wires is not None:
            run.settings["dsn"] = make_conninfo(dsn, port=around.wires[1].port, sslmode="disable", gssencmode="disable")
        feed = Feed(around.bootstrap)
        places = {name: getattr(around, name) for name in ("wires", "tls", "cluster", "disk", "clock")}
        try:
            return _suffer(fault, World(run, around.kafka, around.postgres, feed, random.Random(seed), **places))
        finally:
            run.kill_all()


def _new_database(around: Around, name: str) -> str:
    with psycopg.connect(around.postgres.dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    dsn = around.postgres.dsn_of(name)
    migrate(dsn)
    return dsn


def _suffer(fault: Fault, world: World) -> Verdict:
    run, over = world.run, threading.Event()
    for worker in WORKERS:
        run.start(worker)
    feeding = threading.Thread(target=_feed, args=(world.feed, over), daemon=True)
    feeding.start()
    try:
        eventually("the first effect", lambda: effect_count(run.dsn) > 0, run)
        world.wait(1)
        fault.do(world)
        mended, before = time.monotonic(), effect_count(run.dsn)
        eventually("an effect after the fault", lambda: effect_count(run.dsn) > before, run)
        recovery_s = time.monotonic() - mended
        world.wait(2)
    finally:
        over.set()
        feeding.join(60)
    _wait_for_all(world, world.feed.sent)
    codes = run.stop_all()
    assert set(codes.values()) == {0}, f"{codes}\n{run.logs()}"
    return _judge(fault, world, recovery_s)


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


def _judge(fault: Fault, world: World, recovery_s: float) -> Verdict:
    run, count = world.run, world.feed.sent
    found = effects(run.dsn)
    found.pop("order")
    due = {f"{kind}:{number}" for kind in ("Decision", "MarketMark") for number in range(count)}
    numbers = sequences(run.bootstrap, DECISION.name, 0)["decider/0"]
    missing = len(due - found.keys()) + len(set(range(1, count + 1)) - set(numbers))
    extra = sum(times - 1 for times in found.values()) + len(found.keys() - due) + len(numbers) - len(set(numbers))
    differing = recomputed = 0
    for stage, shard in SHARDS:
        whole = Question(any_version=True)  # Where two versions took turns, they are two by name alone.
        result = asyncio.run(recompute_shard(engine_of(run), engine_toys.HOSTINGS[stage], shard, whole))
        differing += result.outputs - result.matched
        recomputed += result.matched
    lanes = [(MARKET_EVENT.dead_letters, partition) for partition in range(engine_toys.PARTITIONS)]
    letters = sum(log_ends(run.bootstrap, lanes).values())
    strange = [end for end in run.ends if not any(reason in end for reason in fault.may_end)]
    strange += [f"a Heartbeat of {stage} was {back_s:.1f} s before another" for stage, back_s in _steps_back(run.dsn)]
    return Verdict(
        missing, extra, differing, tuple(strange), recomputed, recovery_s, letters, len(run.ends), world.notes
    )


def _steps_back(dsn: str) -> list[tuple[str, float]]:
    """Return (stage, seconds) for each journaled Heartbeat whose time is before that of the one before it."""
    found: list[tuple[str, float]] = []
    newest: dict[str, int] = {}
    with psycopg.connect(dsn) as connection:
        for stage, inputs in connection.execute("SELECT stage, inputs FROM shard_journal ORDER BY stage, batch"):
            for one in decode_inputs(bytes(inputs)):
                if isinstance(one, External) and one.kind == Heartbeat.__name__:
                    now_ns = decode_external(one, ()).available_at_ns
                    if now_ns < newest.get(stage, 0):
                        found.append((stage, (newest[stage] - now_ns) / 1e9))
                    newest[stage] = now_ns
    return found


HEAD = (
    f"{'fault':34} {'runs':>4} {'lost':>6} {'doubled':>8} {'differing':>9} {'strange':>8} {'recomputed':>11}"
    f" {'letters':>8} {'ends':>5} {'back (s)':>8}"
)


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    lost, doubled, differing, recomputed, letters, ends = (
        sum(getattr(verdict, field) for verdict in verdicts)
        for field in ("lost", "doubled", "differing", "recomputed", "letters", "ends")
    )
    strange = sum(len(verdict.strange) for verdict in verdicts)
    recovery = max(verdict.recovery_s for verdict in verdicts)
    counts = f"{lost:6} {doubled:8} {differing:9} {strange:8} {recomputed:11,} {letters:8} {ends:5} {recovery:8.1f}"
    return f"{name:34} {len(verdicts):4} {counts}  {verdicts[-1].notes}".rstrip()


def _all_runs(fault: Fault, servers: Servers, directory: Path, *, runs: int, seed: int) -> bool:
    """Do one fault as often as asked, print its row, and tell whether all was well."""
    verdicts = []
    try:
        for number in range(runs):
            place = directory / f"{fault.name.replace(' ', '-')}.{number}"
            verdicts.append(suffer(fault, servers, place, seed=seed + number))
    except NotHere as reason:
        print(f"{fault.name:34} NOT DONE: {reason}", flush=True)
        return False
    except (AssertionError, psycopg.Error, ServerFailed, BrokerUnreachable) as error:
        print(f"{fault.name:34} FAILED: {error}", flush=True)
        return False
    print(_row(fault.name, verdicts), flush=True)
    for end in (end for verdict in verdicts for end in verdict.strange):
        print(f"  strange: {end}", flush=True)
    return all(verdict.clean for verdict in verdicts)


def main(arguments: Sequence[str]) -> int:
    """Run the campaign and print its table; 2 when a server cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", choices=list(ALL), action="append")
    parser.add_argument("--seed", type=int, default=1)
    options: Any = parser.parse_args(arguments)
    began, clean = time.monotonic(), True
    with tempfile.TemporaryDirectory(prefix="tradermind-faults-") as folder:
        directory = Path(folder)
        directory.chmod(0o755)  # The database runs as another user, who must reach its folder.
        try:
            servers = start_servers(directory)
        except ServerFailed as error:
            sys.stderr.write(f"{error}\n")
            return 2
        print(HEAD, flush=True)
        try:
            for name in options.only or ALL:
                clean &= _all_runs(ALL[name], servers, directory, runs=options.runs, seed=options.seed)
        finally:
            servers.stop()
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
