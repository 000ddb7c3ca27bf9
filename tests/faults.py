"""What can go wrong around three stages at work on real servers, each as a function that does it and mends it.

A fault returns when the world is whole again. What follows (nothing lost, nothing doubled, every output recomputed) is
judged by whoever ordered it, ``fault_campaign.py``.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
from engine_runs import Feed, ToyRun

from infra.servers import EmbeddedPostgres, RealKafka
from schemas.topics import MARKET_EVENT

WORKERS = ("experts", "decider", "feedback")


@dataclass(slots=True)
class World:
    """All that a fault can reach. ``choice`` is seeded; ``notes`` is what a fault wants said of itself."""

    run: ToyRun
    kafka: RealKafka
    postgres: EmbeddedPostgres
    feed: Feed
    choice: random.Random
    notes: str = ""


def _kill(world: World, names: tuple[str, ...]) -> None:
    for name in names:
        world.run.workers[name].send(9)
    for name in names:
        assert world.run.workers[name].kill() == -9, f"{name} had ended by itself\n{world.run.logs()}"
        world.run.start(name)


def kill_each_in_turn(world: World) -> None:
    """SIGKILL each worker at a random moment and start it again."""
    for name in WORKERS:
        time.sleep(world.choice.uniform(0.2, 1.5))
        _kill(world, (name,))


def kill_all_at_once(world: World) -> None:
    """SIGKILL all workers together, twice."""
    for _ in range(2):
        time.sleep(world.choice.uniform(0.2, 1.5))
        _kill(world, WORKERS)


def roll_out(world: World) -> None:
    """SIGTERM to each in turn, as a deployment does; each must end in order within its grace."""
    took: list[float] = []
    for name in WORKERS:
        child = world.run.workers.pop(name)
        began = time.monotonic()
        child.send(signal.SIGTERM)
        assert child.popen.wait(15) == 0, child.last_lines()
        took.append(time.monotonic() - began)
        world.run.start(name)
    world.notes = f"longest exit {max(took):.1f} s"


def sleep_past_the_session(world: World) -> None:
    """SIGSTOP the decider until the group has thrown it out and a successor works; then SIGCONT."""
    sleeper = world.run.workers.pop("decider")
    sleeper.send(signal.SIGSTOP)
    world.run.start("decider", slot="successor")
    time.sleep(14)
    sleeper.send(signal.SIGCONT)
    time.sleep(4)
    world.notes = "the sleeper ended" if not sleeper.alive() else "the sleeper stood in line again"
    sleeper.kill()


def rebalance_every_few_seconds(world: World) -> None:
    """A second member of each group joins and leaves, again and again, under load."""
    for number in range(4):
        for name in WORKERS:
            world.run.start(name, slot=f"{name}.second", instance_id=f"{name}.second.{number}")
        time.sleep(3)
        for name in WORKERS:
            child = world.run.workers.pop(f"{name}.second")
            child.send(world.choice.choice((signal.SIGTERM, signal.SIGKILL)))
            child.popen.wait(15)


def kill_the_database(world: World) -> None:
    """A power cut of Postgres in the middle of commits; it comes back after three seconds."""
    world.postgres.kill()
    time.sleep(3)
    world.postgres.restart()


def end_sessions(world: World) -> None:
    """Every database session is terminated twice a second: commits whose answers are lost."""
    ended = 0
    for _ in range(12):
        with psycopg.connect(world.postgres.dsn, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND application_name LIKE 'tradermind%'"
            ).fetchall()
        ended += len(rows)
        time.sleep(world.choice.uniform(0.3, 0.6))
    world.notes = f"{ended} sessions ended"


def lock_the_checkpoints(world: World) -> None:
    """Somebody holds the table of shards for eight seconds."""
    with psycopg.connect(world.run.dsn) as connection:
        connection.execute("LOCK TABLE shard IN ACCESS EXCLUSIVE MODE")
        time.sleep(8)


def freeze_the_database(world: World) -> None:
    """Postgres answers nothing for six seconds, without closing a connection."""
    _frozen(world.postgres.process.popen.pid, 6)


def kill_the_broker(world: World) -> None:
    """SIGKILL Kafka; it comes back on its data after three seconds."""
    world.kafka.kill()
    time.sleep(3)
    world.kafka.restart()


def freeze_the_broker(world: World) -> None:
    """Kafka answers nothing for six seconds."""
    _frozen(world.kafka.process.popen.pid, 6)


def _frozen(process: int, seconds: float) -> None:

    group = os.getpgid(process)
    os.killpg(group, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.killpg(group, signal.SIGCONT)


def send_all_twice(world: World) -> None:
    """The feed says everything again that it has said so far, under the same numbers."""
    said = world.feed.sent
    for number in range(said):
        world.feed.again(number)
    world.feed.flush()
    world.notes = f"{said} records again"


def garbage_between(world: World) -> None:
    """Every now and then bytes that are no record, fewer than what stops the line."""
    for number in range(40):
        world.feed.raw(MARKET_EVENT.name, world.choice.randbytes(64), number % 2)
        time.sleep(0.1)
    world.feed.flush()
    world.notes = "40 dead letters due"


Fault = Callable[[World], None]
FAULTS: Mapping[str, Fault] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        kill_each_in_turn,
        kill_all_at_once,
        roll_out,
        sleep_past_the_session,
        rebalance_every_few_seconds,
        kill_the_database,
        end_sessions,
        lock_the_checkpoints,
        freeze_the_database,
        kill_the_broker,
        freeze_the_broker,
        send_all_twice,
        garbage_between,
    )
}
