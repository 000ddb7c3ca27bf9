"""What can go wrong around three stages at work on real servers, each as a function that does it and mends it.

A fault returns when the world is whole again. What follows (nothing lost, nothing doubled, every output recomputed) is
judged by whoever ordered it, ``fault_campaign.py``. Faults of networks, disks, memory and clocks are in
``faults_around.py``.
"""

import enum
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from engine_runs import Feed, ToyRun
from statement_wire import StatementWire
from wire import TlsWire, Wire

from infra.servers import EmbeddedPostgres, RealKafka
from infra.servers.kafka_cluster import KafkaCluster
from schemas.topics import MARKET_EVENT

WORKERS = ("experts", "decider", "feedback")


class Place(enum.Enum):
    """What surrounds the workers of a fault, beside servers that all faults share."""

    PLAIN = "the shared servers"
    WIRED = "proxies between the workers and both servers"
    SECURED = "a broker of its own that speaks TLS and asks for passwords, behind a proxy"
    CLUSTER = "three brokers of its own that hold copies of each other's logs"
    SMALL_DATABASE = "a database of its own on a file system that is soon full"
    SMALL_BROKER = "a broker of its own on a file system that is soon full"
    SMALL_RUN = "logs and metrics of the workers on a file system that is soon full"
    OWN_CLOCK = "a wall clock that can be set"


@dataclass(slots=True)
class World:
    """All that a fault can reach. ``choice`` is seeded; ``notes`` is what a fault wants said of itself.

    ``wires`` lead to the broker and to the database, where the place is wired, ``tls`` to the broker that is secured.
    ``cluster`` is Kafka where it has several brokers. ``disk`` is the small file system, and ``clock`` the file that
    says what is added to the wall clock.
    """

    run: ToyRun
    kafka: RealKafka
    postgres: EmbeddedPostgres
    feed: Feed
    choice: random.Random
    wires: tuple[Wire, StatementWire] | None = None
    tls: TlsWire | None = None
    cluster: KafkaCluster | None = None
    disk: Path | None = None
    clock: Path | None = None
    notes: str = ""

    def wait(self, seconds: float) -> None:
        """Let time pass; who ends meanwhile is looked after."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.run.look_after()
            time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. ``may_end`` is what a worker may say that ends by itself meanwhile."""

    do: Callable[[World], None]
    place: Place = Place.PLAIN
    may_end: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return self.do.__name__.replace("_", " ")


def kill_and_start(world: World, names: tuple[str, ...]) -> None:
    """SIGKILL workers, and start them again when all are gone."""
    for name in names:
        world.run.workers[name].send(9)
    for name in names:
        assert world.run.workers[name].kill() == -9, f"{name} had ended by itself\n{world.run.logs()}"
        world.run.start(name)


def kill_each_in_turn(world: World) -> None:
    """SIGKILL each worker at a random moment and start it again."""
    for name in WORKERS:
        time.sleep(world.choice.uniform(0.2, 1.5))
        kill_and_start(world, (name,))


def kill_all_at_once(world: World) -> None:
    """SIGKILL all workers together, twice."""
    for _ in range(2):
        time.sleep(world.choice.uniform(0.2, 1.5))
        kill_and_start(world, WORKERS)


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
    world.wait(14)
    sleeper.send(signal.SIGCONT)
    world.wait(4)
    world.notes = "the sleeper ended" if not sleeper.alive() else "the sleeper stood in line again"
    sleeper.kill()


def rebalance_every_few_seconds(world: World) -> None:
    """A second member of each group joins and leaves, again and again, under load, for a minute."""
    for number in range(12):
        for name in WORKERS:
            world.run.start(name, slot=f"{name}.second", instance_id=f"{name}.second.{number}")
        world.wait(world.choice.uniform(3, 6))
        for name in WORKERS:
            child = world.run.workers.pop(f"{name}.second")
            child.send(world.choice.choice((signal.SIGTERM, signal.SIGKILL)))
            child.popen.wait(15)


def run_two_versions_side_by_side(world: World) -> None:
    """A second member of each group has newer code; the old one is killed, and later the new one in its turn."""
    for name in WORKERS:
        world.run.start(name, slot=f"{name}.new", code_version="2")
    world.wait(5)
    for name in WORKERS:
        world.run.workers.pop(name).kill()
    _hold_by(world, "2")
    world.wait(1)
    for name in WORKERS:
        world.run.start(name)
    world.wait(3)
    for name in WORKERS:
        world.run.workers.pop(f"{name}.new").kill()
    _hold_by(world, "1")


def _hold_by(world: World, version: str) -> None:
    """Wait until all shards are held by this code: the group takes a dead member's when its session is over."""
    end = time.monotonic() + 40
    while (found := _versions(world)) != {version}:
        assert time.monotonic() < end, f"shards are held by code {found}, not by {version}"
        world.wait(0.2)


def _versions(world: World) -> set[str]:
    with psycopg.connect(world.run.dsn) as connection:
        return {version for (version,) in connection.execute("SELECT code_version FROM shard").fetchall()}


def kill_the_database(world: World) -> None:
    """A power cut of Postgres in the middle of commits; it comes back after twenty seconds."""
    world.postgres.kill()
    world.wait(20)
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
        world.wait(world.choice.uniform(0.3, 0.6))
    world.notes = f"{ended} sessions ended"


def lock_the_checkpoints(world: World) -> None:
    """Somebody holds the table of shards for ten seconds."""
    with psycopg.connect(world.run.dsn) as connection:
        connection.execute("LOCK TABLE shard IN ACCESS EXCLUSIVE MODE")
        world.wait(10)


def freeze_the_database(world: World) -> None:
    """Postgres answers nothing for six seconds, without closing a connection."""
    freeze(world, world.postgres.process.pid, 6)


def kill_the_broker(world: World) -> None:
    """SIGKILL Kafka; it comes back on its data after three seconds."""
    world.kafka.kill()
    world.wait(3)
    world.kafka.restart()


def leave_no_broker_for_long(world: World) -> None:
    """SIGKILL Kafka, and nobody starts it again for forty seconds: longer than a request to it may take."""
    world.kafka.kill()
    world.wait(40)
    world.kafka.restart()


def freeze_the_broker(world: World) -> None:
    """Kafka answers nothing for six seconds."""
    freeze(world, world.kafka.process.pid, 6)


def freeze(world: World, process: int, seconds: float) -> None:
    """SIGSTOP a process and those of its session for a while."""
    with frozen(process):
        world.wait(seconds)


@contextmanager
def frozen(process: int) -> Iterator[None]:
    """SIGSTOP a process and those of its session meanwhile."""
    group = os.getpgid(process)
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
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


BROKER_AWAY = ("Kafka did not take a record", "No Kafka broker answers")
DATABASE_AWAY = ("Postgres did not answer", "The checkpoints could not be read")
SHARD_LOST = ("belongs to another worker now",)

FAULTS = (
    Fault(kill_each_in_turn),
    Fault(kill_all_at_once),
    Fault(roll_out),
    Fault(sleep_past_the_session, may_end=SHARD_LOST),
    Fault(rebalance_every_few_seconds),
    Fault(run_two_versions_side_by_side),
    Fault(kill_the_database),
    Fault(end_sessions),
    Fault(lock_the_checkpoints),
    Fault(freeze_the_database),
    Fault(kill_the_broker, may_end=BROKER_AWAY),
    Fault(leave_no_broker_for_long, may_end=BROKER_AWAY),
    Fault(freeze_the_broker),
    Fault(send_all_twice),
    Fault(garbage_between),
)
