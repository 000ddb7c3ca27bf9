"""From a kill's commit to the last order that leaves: ``python -m benchmarks.kill``.

Orders flow through the executor as fast as it takes them. At a random moment a kill is stored, as ``tradermind kill``
stores it, for the strategy whose orders these are; each run has a strategy of its own, since a kill stays. The time is
that from the row's own time, which is before its commit, to the last order that reaches the exchange, by the
exchange's clock and by the time that the request carries, which is the sender's (both are this machine's). 0 means that
nothing left any more. Two further orders rest in the book: how long until both are cancelled is told beside it.

Three ways: with the whole platform at work; the same with the broker stopped (SIGSTOP) before the kill, in the middle
of what the executor has still in hand; and with nothing alive but Postgres, the executor and the exchange.
"""

import argparse
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.executors import Executors, OrderFlow, settings_of
from benchmarks.machine import describe
from benchmarks.results import add_json_option, run_in_directory, say, table, write_json
from infra.postgres.commands import Command, insert_command
from infra.servers import RealKafka, start_kafka, start_postgres
from infra.servers.process import ServerFailed
from schemas.control import ControlAction, ScopeKind
from schemas.values import Level
from streams.launch import WORKERS

BOUND_MS: Final = 1_000.0
WAYS: Final = ("all at work", "Kafka stopped", "Postgres and the executor alone")
_RESTING: Final = 2
_BURST: Final = 160
_BURST_BEAT_S: Final = 0.004
_BURST_TAKES_S: Final = 0.2
_PER_BEAT: Final = 4
_BEAT_S: Final = 0.02
_FLOWS_S: Final = (0.3, 0.8)
_AFTER_S: Final = 0.8
_CANCELS_S: Final = 10.0
_READY_S: Final = 180.0
_PATIENCE_S: Final = 2.0
_QUIET: Final = {"grid.step_ms": 10_000, "grid.horizons_s": [10]}


@dataclass(frozen=True, slots=True)
class Kill:
    """One run, in milliseconds from the kill: the last order by either clock, and the end of what rested.

    ``waiting`` orders had been approved and had not reached the exchange when the kill was stored; ``after`` came
    after.
    """

    way: str
    arrived_ms: float
    sent_ms: float
    cancelled_ms: float | None
    waiting: int
    after: int


class KillBench:
    """The executors of one way, killed again and again."""

    def __init__(self, executors: Executors, kafka: RealKafka, way: str, dice: random.Random) -> None:
        self._executors = executors
        self._kafka = kafka
        self._way = way
        self._dice = dice
        self._stages = ("execution",) if way == WAYS[2] else WORKERS
        self._workers = [executors.start(stage, f"bench-{stage}") for stage in self._stages]
        self._tail = executors.tail
        self._until("a price", lambda: self._tail.read() >= 0 and bool(self._tail.mids))
        self._flow = OrderFlow(executors)
        self._before = 0

    def run(self, strategy: str) -> Kill:
        """Let orders flow, kill, and look at what still came."""
        resting = self._rest(strategy)
        self._before = self._sent(strategy)
        if self._way == WAYS[0]:
            return self._judge(strategy, resting, *self._kill_in_flow(strategy, resting))
        approved = self._burst(strategy)
        broker = self._kafka.process.popen.pid
        self._kafka.process.send(signal.SIGSTOP)
        try:
            time.sleep(self._dice.uniform(0, _BURST_TAKES_S))
            killed_ns, waiting = self._kill(strategy), len(approved) + self._before - self._sent(strategy)
            self._watch(_AFTER_S)
            self._await_cancels(resting)
            return self._judge(strategy, resting, killed_ns, waiting)
        finally:
            assert broker == self._kafka.process.popen.pid
            self._kafka.process.send(signal.SIGCONT)

    def _burst(self, strategy: str) -> list[str]:
        """Write more than the executor sends meanwhile, and return once some of it has reached the exchange."""
        limit_s = time.monotonic() + _READY_S
        approved: list[str] = []
        while time.monotonic() < limit_s:
            self._flow.mark()
            for _ in range(_BURST // _PER_BEAT):
                approved += [self._flow.approve(strategy) for _ in range(_PER_BEAT)]
                time.sleep(_BURST_BEAT_S)
            self._flow.flush()
            if self._sent(strategy) > self._before:
                return approved
            # Whatever still comes of it is over then: once more, to be in the middle of it.
            self._watch(_PATIENCE_S)
            self._before, approved = self._sent(strategy), []
        raise ServerFailed(f"After {_READY_S:g} s nothing of a burst had reached the exchange.")

    def _rest(self, strategy: str) -> list[str]:
        """Place orders that rest; until the executor is up and its books are clean, it denies them."""
        limit_s = time.monotonic() + _READY_S
        while time.monotonic() < limit_s:
            self._flow.mark()
            resting = [self._flow.approve(strategy, rests=True) for _ in range(_RESTING)]
            self._flow.flush()
            patience_s = time.monotonic() + _PATIENCE_S
            while time.monotonic() < patience_s:
                self._look_after()
                if self._live(resting) == _RESTING:
                    return resting
                time.sleep(0.01)
        raise ServerFailed(f"After {_READY_S:g} s there was still no order that rests.")

    def _kill_in_flow(self, strategy: str, resting: Sequence[str]) -> tuple[int, int]:
        approved = 0
        kill_at_s = time.monotonic() + self._dice.uniform(*_FLOWS_S)
        killed_ns = waiting = 0
        while time.monotonic() < kill_at_s + _AFTER_S:
            if not killed_ns and time.monotonic() >= kill_at_s:
                killed_ns = self._kill(strategy)
                waiting = approved + self._before - self._sent(strategy)
            for _ in range(_PER_BEAT):
                self._flow.approve(strategy)
                approved += 1
            time.sleep(_BEAT_S)
        self._flow.flush()
        self._watch(_AFTER_S / 2)
        self._await_cancels(resting)
        return killed_ns, waiting

    def _kill(self, strategy: str) -> int:
        """Store the kill; return the row's time."""
        command = Command(
            "benchmark", "to see how long it takes", ControlAction.SET_LEVEL, ScopeKind.STRATEGY, strategy, Level.HALTED
        )
        name = insert_command(self._executors.dsn, command)
        with psycopg.connect(self._executors.dsn) as connection:
            row = connection.execute("SELECT created_at_ns FROM commands WHERE command_id = %s", (name,)).fetchone()
        assert row is not None
        return int(row[0])

    def _judge(self, strategy: str, resting: Sequence[str], killed_ns: int, waiting: int) -> Kill:
        self._tail.read()
        mine = [arrival for arrival in self._tail.arrivals if arrival.strategy == strategy]
        after = [arrival for arrival in mine if arrival.arrived_ns > killed_ns]
        ended = [self._tail.ended_ns[name] for name in resting if name in self._tail.ended_ns]
        return Kill(
            way=self._way,
            arrived_ms=max([(arrival.arrived_ns - killed_ns) / 1e6 for arrival in after], default=0.0),
            sent_ms=max([0.0, *((arrival.sent_ns - killed_ns) / 1e6 for arrival in after)]),
            cancelled_ms=(max(ended) - killed_ns) / 1e6 if len(ended) == len(resting) else None,
            waiting=waiting,
            after=len(after),
        )

    def _sent(self, strategy: str) -> int:
        self._tail.read()
        return sum(1 for arrival in self._tail.arrivals if arrival.strategy == strategy)

    def _live(self, names: Sequence[str]) -> int:
        self._tail.read()
        return sum(1 for name in names if name in self._tail.orders and self._tail.orders[name].live)

    def _watch(self, seconds: float) -> None:
        """Let time pass; the tail notes when it first sees that an order is over."""
        limit_s = time.monotonic() + seconds
        while time.monotonic() < limit_s:
            self._tail.read()
            time.sleep(0.002)

    def _await_cancels(self, resting: Sequence[str]) -> None:
        """Give what is not cancelled yet some more time, so that the worst is known."""
        limit_s = time.monotonic() + _CANCELS_S
        while time.monotonic() < limit_s and self._live(resting):
            time.sleep(0.002)

    def _until(self, what: str, holds: Callable[[], bool], limit_s: float = 60.0) -> None:
        limit = time.monotonic() + limit_s
        while not holds():
            self._look_after()
            if time.monotonic() > limit:
                raise ServerFailed(f"After {limit_s:g} s there was still no sign of {what}.")
            time.sleep(0.002)

    def _look_after(self) -> None:
        for worker in self._workers:
            if not worker.alive():
                raise ServerFailed(f"{worker.name} ended with {worker.exit_code()}: {worker.last_lines(3)}")


def summed_up(kills: Sequence[Kill]) -> list[dict[str, Any]]:
    """Return p50 and worst of each way."""
    rows = []
    for way in WAYS:
        mine = [kill for kill in kills if kill.way == way]
        if mine:
            cancelled = [kill.cancelled_ms for kill in mine if kill.cancelled_ms is not None]
            rows.append(
                {
                    "way": way,
                    "runs": len(mine),
                    "arrived_p50_ms": statistics.median(kill.arrived_ms for kill in mine),
                    "arrived_worst_ms": max(kill.arrived_ms for kill in mine),
                    "sent_p50_ms": statistics.median(kill.sent_ms for kill in mine),
                    "sent_worst_ms": max(kill.sent_ms for kill in mine),
                    "cancelled_p50_ms": statistics.median(cancelled) if cancelled else None,
                    "cancelled_worst_ms": max(cancelled, default=None),
                    "not_cancelled": len(mine) - len(cancelled),
                    "waiting_p50": statistics.median(kill.waiting for kill in mine),
                    "left_after_p50": statistics.median(kill.after for kill in mine),
                }
            )
    return rows


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"from the kill's row to the last order, milliseconds; {describe()}\n")
    header = (
        "way",
        "runs",
        "venue p50",
        "worst",
        "sender p50",
        "worst",
        "cancels p50",
        "worst",
        "open",
        "waiting",
        "left",
    )
    print(table(header, [list(row.values()) for row in rows]))
    print("\nwaiting: approved and not yet at the venue at the kill; left: of these, how many still reached it (p50)")
    print(f"open: runs in which something still rested {_CANCELS_S:g} s later")


def _measure(given: argparse.Namespace, directory: Path) -> bool:
    kills: list[Kill] = []
    for way in given.ways:
        names = [f"run{number:03d}" for number in range(given.runs)]
        with ExitStack() as stack:
            place = directory / way.replace(" ", "-")
            place.mkdir()
            place.chmod(0o755)
            kafka, postgres = start_kafka(place / "kafka"), start_postgres(place / "pg")
            stack.callback(kafka.stop)
            stack.callback(postgres.stop)
            executors = Executors(place / "run", kafka.bootstrap, postgres.dsn, settings_of(names) | _QUIET)
            stack.callback(executors.close)
            bench = KillBench(executors, kafka, way, random.Random(given.seed))
            for name in names:
                kills.append(bench.run(name))
                say(f"{way}, {name}: {kills[-1]}")
    write_json(given.json, {"machine": describe(), "kills": [asdict(kill) for kill in kills]})
    rows = summed_up(kills)
    report(rows)
    return all(row["arrived_worst_ms"] < BOUND_MS for row in rows)


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when an order left later than the bound, 2 when the platform cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="kills of each way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    add_json_option(parser)
    return run_in_directory(partial(_measure, parser.parse_args(arguments)))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
