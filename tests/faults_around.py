"""Faults of what lies around the workers: network, disks, memory, wall clock."""

import resource
import signal
import time
from collections import Counter
from pathlib import Path

import psycopg
from engine_runs import eventually, exit_code, text_of
from faults import BROKER_AWAY, DATABASE_AWAY, WORKERS, Fault, Place, World
from full_disk import fill
from statement_wire import StatementWire
from wire import Wire

BURST = 30_000


def cut_every_connection(world: World) -> None:
    """Connections to broker and database are reset, again and again; new ones go through."""
    broker, database = _wires(world)
    cuts = 0
    for _ in range(10):
        cuts += broker.cut() + database.cut()
        world.wait(world.choice.uniform(0.3, 1.0))
    world.notes = f"{cuts} connections cut"


def lose_the_answers_of_commits(world: World) -> None:
    """One in ten commits is carried out, and the connection is cut in the place of its answer."""
    _, database = _wires(world)
    database.lose = lambda: world.choice.random() < 0.1
    world.wait(8)
    database.lose = None
    assert database.lost > 5, "too few were lost for a fault"
    world.notes = f"{database.lost} answers lost"


def refuse_connections(world: World) -> None:
    """Neither server can be reached for six seconds."""
    for wire in _wires(world):
        wire.refuse()
    world.wait(6)
    for wire in _wires(world):
        wire.accept()


def answer_no_more_from_the_database(world: World) -> None:
    """Every connection to the database falls silent and is never closed: half-open. New ones go through."""
    world.notes = f"{_wires(world)[1].silence()} connections half-open"


def answer_no_more_from_the_broker(world: World) -> None:
    """Every connection to the broker falls silent and is never closed. New ones go through."""
    world.notes = f"{_wires(world)[0].silence()} connections half-open"


def slow_the_network(world: World) -> None:
    """Each way takes 100 ms longer for eight seconds."""
    for wire in _wires(world):
        wire.delay_s = 0.1
    world.wait(8)
    for wire in _wires(world):
        wire.delay_s = 0.0


def _wires(world: World) -> tuple[Wire, StatementWire]:
    assert world.wires is not None
    return world.wires


def fill_the_databases_disk(world: World) -> None:
    """The database's file system is full, its log with it, until somebody makes room."""
    ballast = _fill(world)
    world.wait(4)
    try:  # A log file that cannot be made is what hurts most: the server ends, and cannot recover while it is full.
        with psycopg.connect(world.postgres.dsn, autocommit=True, connect_timeout=2) as connection:
            connection.execute("SELECT pg_switch_wal()")
    except psycopg.OperationalError:
        world.notes = "it refused"
    world.wait(5)
    ballast.unlink()
    if not world.postgres.process.alive():
        world.notes = "it ended and was started again"
        world.postgres.restart()


def fill_the_brokers_disk(world: World) -> None:
    """The broker's file system is full until somebody makes room: it ends, and is started again."""
    ballast = _fill(world)
    end = time.monotonic() + 20
    while world.kafka.process.alive() and time.monotonic() < end:
        world.wait(0.5)
    world.notes = "it lived on" if world.kafka.process.alive() else "it ended and was started again"
    ballast.unlink()
    world.kafka.restart()


def fill_the_run_directorys_disk(world: World) -> None:
    """There is no room for what workers log and for metrics; one loses its shard, and cannot say why it ends."""
    assert world.disk is not None
    sinks = world.run.start("sinks")
    eventually("metrics", lambda: _counted(world)["points_written"] > 1000, world.run)
    ballast = _fill(world)
    with psycopg.connect(world.run.dsn, autocommit=True) as connection:
        connection.execute("UPDATE shard SET epoch = epoch + 1 WHERE stage = 'decider'")
    world.wait(10)
    dropped = _counted(world)["metrics_dropped"]
    assert dropped > 0, "metrics that found no room were not counted"
    assert any("decider ended with 1" in end for end in world.run.ends), "whoever lost its shard did not end"
    ballast.unlink()
    before = _counted(world)["points_written"]
    eventually("metrics again", lambda: _counted(world)["points_written"] > before + 1000, world.run)
    world.run.workers.pop("sinks").send(signal.SIGTERM)
    assert exit_code(sinks) == 0
    assert "metrics are written again" in text_of(sinks)
    torn = [line for file in (world.disk / "influx").iterdir() for line in file.read_text().splitlines() if _torn(line)]
    assert not torn, torn[:3]
    world.notes = f"{dropped:,} metrics dropped"


def _counted(world: World) -> Counter[str]:
    with psycopg.connect(world.run.dsn) as connection:
        rows = connection.execute("SELECT counters FROM worker_status WHERE stage = 'sinks'").fetchall()
    return Counter(rows[-1][0]) if rows else Counter()


def _torn(line: str) -> bool:
    """Whether a line of metrics is not whole, or two in one."""
    measurement = line.partition(",")[0]
    return not line.rpartition(" ")[2].isdigit() or line.count(f"{measurement},") != 1


def _fill(world: World) -> Path:
    assert world.disk is not None
    return fill(world.disk)


def give_no_more_memory(world: World) -> None:
    """No worker gets a byte more than it has, with much to do: who needs it ends, and comes back without the limit."""
    limited = dict(world.run.workers)
    for child in limited.values():
        _limit_memory(child.pid, _written_bytes(child.pid))
    world.feed.trades(BURST, wait=False)
    world.wait(12)
    ended = [name for name, child in limited.items() if not child.alive()]
    for child in limited.values():
        if child.alive():
            _limit_memory(child.pid, resource.RLIM_INFINITY)
    assert ended, "nobody was short of memory: the fault did not happen"
    world.notes = f"{', '.join(ended)} ended"


def _written_bytes(pid: int) -> int:
    """Return how much memory a process may write to. What it has merely reserved is more, and would never be short."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmData")))


def _limit_memory(pid: int, limit_bytes: int) -> None:
    _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
    resource.prlimit(pid, resource.RLIMIT_DATA, (limit_bytes, most))


def set_the_clock(world: World) -> None:
    """The workers' wall clock jumps forth and back; one is killed while it is behind where it was."""
    assert world.clock is not None
    for seconds in (3, 0, -3, 30, -30, 0):
        world.clock.write_text(f"{seconds:+d}s")
        world.wait(1.5)  # Whoever fakes the time looks at the file once a second.
        if seconds < 0:
            for name in WORKERS[1:]:
                world.run.workers.pop(name).kill()
                world.run.start(name)
            world.wait(2)
    world.notes = "3 s, 30 s forth and back"


AROUND = (
    Fault(cut_every_connection, Place.WIRED, may_end=(*BROKER_AWAY, *DATABASE_AWAY)),
    Fault(lose_the_answers_of_commits, Place.WIRED),
    Fault(refuse_connections, Place.WIRED, may_end=(*BROKER_AWAY, *DATABASE_AWAY)),
    Fault(answer_no_more_from_the_database, Place.WIRED),
    Fault(answer_no_more_from_the_broker, Place.WIRED, may_end=BROKER_AWAY),
    Fault(slow_the_network, Place.WIRED),
    Fault(fill_the_databases_disk, Place.SMALL_DATABASE),
    Fault(fill_the_brokers_disk, Place.SMALL_BROKER, may_end=BROKER_AWAY),
    Fault(fill_the_run_directorys_disk, Place.SMALL_RUN, may_end=("decider ended with 1",)),
    # A send that fails for want of memory is a send that failed.
    Fault(give_no_more_memory, may_end=("MemoryError", "rd_calloc: Assertion", BROKER_AWAY[0])),
    # A jump ahead while one starts is a time-out to a client that waits by the wall clock: it is started again.
    Fault(set_the_clock, Place.OWN_CLOCK, may_end=("No Kafka broker answers",)),
)
