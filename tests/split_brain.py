"""Two executors who both believe that they are the one: ``make test-split-brain``.

Each run stops the holder (SIGSTOP) while orders flow, in some with a request for an order held in the network; lets a
second holder take over and trade; then continues the first (SIGCONT) and delivers what was held. Real Kafka, real
Postgres, the simulated exchange as a process that refuses by the times that requests carry; in half of the runs it
knows no epochs, as no real venue does, so that the times are all there is.
"""

import argparse
import logging
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from held_line import HeldLine

from benchmarks.executors import Executors, OrderFlow, settings_of
from infra.kafka_remake import delete_topics
from infra.servers import start_kafka, start_postgres
from infra.servers.process import ChildProcess
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.codec import Codec
from schemas.orders import Fill, OrderEvent, OrderStatus
from schemas.schema_table import SchemaTable
from schemas.topics import ACCOUNT_EVENT
from schemas.values import NS_PER_S
from streams.engine.log_reader import LogReader

LOG = logging.getLogger("split brain")
STRATEGY = "flow"
CHANGES: dict[str, Any] = settings_of([STRATEGY]) | {
    # Short, so that a run is; what must hold between them is what the defaults hold.
    "venue.receive_window_ms": 1_000,
    "venue.clock_skew_max_ms": 300,
    "venue.takeover_wait_ms": 2_000,
}
_INSTANCE = "executor"
_PAUSE_S = 0.02
_LIMIT_S = 90.0
_SETTLES_S = 8.0
_STARTS_S = 25.0
_SETTLED_S = 0.5


@dataclass(frozen=True, slots=True)
class Way:
    """How a run goes. ``held``: a request waits in the network; ``waits``: for the session instead of the same name;
    ``early``: the first goes on as soon as the second has claimed the shard, before it can have traded."""

    held: bool
    waits: bool
    early: bool


@dataclass
class Toll:
    """What the runs have come to."""

    runs: int = 0
    intents: int = 0
    venue_orders: int = 0
    double_orders: int = 0
    requests_twice: int = 0
    without_one_outcome: int = 0
    anomalies: int = 0
    late_requests: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    written_twice: int = 0
    unequal_fills: int = 0
    started_again: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """Everything that must not be."""
        wrong = (self.double_orders, self.requests_twice, self.without_one_outcome, self.anomalies)
        return sum(wrong) + self.written_twice + self.unequal_fills

    def add(self, other: "Toll") -> None:
        """Take another's runs in."""
        for name in ("runs", "intents", "venue_orders", "double_orders", "requests_twice", "without_one_outcome"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.anomalies += other.anomalies
        self.written_twice += other.written_twice
        self.unequal_fills += other.unequal_fills
        self.late_requests += other.late_requests
        self.started_again += other.started_again
        self.ends += other.ends


class Rivals:
    """The executors of one exchange, one run after the other."""

    def __init__(self, executors: Executors, dice: random.Random) -> None:
        self.executors = executors
        self.toll = Toll()
        self._dice = dice
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._intents: list[str] = []
        self._writing: threading.Thread | None = None
        self._line, self._holder = self._start(_INSTANCE)
        self._until("a price", lambda: self._read() >= 0 and bool(executors.tail.mids))
        self._writing = threading.Thread(target=self._write, name="flow", daemon=True)
        self._writing.start()
        self._until("the first orders", lambda: self._read() > 10)

    def _start(self, instance: str) -> tuple[HeldLine, ChildProcess]:
        line = HeldLine(self.executors.venue).start()
        self._instance = instance
        self._started_s = time.monotonic()
        return line, self.executors.start("execution", instance, **{"venue.url": line.url})

    def _read(self) -> int:
        with self._lock:
            return self.executors.tail.read()

    def _write(self) -> None:
        flow = OrderFlow(self.executors)
        beats = 0
        while not self._stopping.is_set():
            with self._lock:
                if beats % 10 == 0:
                    flow.mark()
                self._intents.append(flow.approve(STRATEGY))
            beats += 1
            time.sleep(_PAUSE_S)
        flow.flush()

    def once(self, way: Way) -> None:
        """Make one run."""
        time.sleep(self._dice.uniform(0.2, 0.8))
        if way.held:
            self._until("a request in the network", self._holds_one)
        first, line, epoch = self._holder, self._line, self._epoch()
        first.send(signal.SIGSTOP)
        began_s = time.monotonic()
        instance = f"{_INSTANCE}-{self.toll.runs}" if way.waits else _INSTANCE
        self._line, self._holder = self._start(instance)
        self._until("the take-over", lambda: self._taken_over(epoch, instance))
        if not way.early:
            before = self._read()
            self._until("orders of the second", lambda: self._by(epoch) > 0 and self._read() >= before + 5)
        LOG.info("run %d, %s: continued after %.1f s", self.toll.runs, way, time.monotonic() - began_s)
        first.send(signal.SIGCONT)
        line.release()
        self._settle(first, line, instance)
        before = self._read()
        self._until("orders after it", lambda: self._read() > before + 5)
        self.toll.runs += 1

    def _taken_over(self, epoch: int, instance: str) -> bool:
        """Return whether the shard has a new holder; one that does not get so far is started again, as ever."""
        if time.monotonic() - self._started_s > _STARTS_S:
            self._start_again(instance)
        return self._epoch() > epoch

    def _start_again(self, instance: str) -> None:
        self.toll.started_again.append(self._holder.last_lines(1).strip()[-200:])
        LOG.info("the second is started again: %s", self.toll.started_again[-1])
        self._holder.kill()
        self._line.stop()
        self._line, self._holder = self._start(instance)

    def _settle(self, first: ChildProcess, line: HeldLine, instance: str) -> None:
        """Let the two settle who goes on; whoever does not is ended, and somebody always goes on."""
        deadline = time.monotonic() + _SETTLES_S
        while first.alive() and self._holder.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(_SETTLED_S)
        if first.alive() and not self._holder.alive():
            # Under the same name it has joined its group again, and claimed the shard anew, as anybody may.
            self.toll.ends["claimed the shard anew, under its own name"] += 1
            first, line, self._holder, self._line = self._holder, self._line, first, line
        elif first.alive():
            self.toll.ends["stood in line again"] += 1
        else:
            last = first.last_lines(1).strip().splitlines()
            self.toll.ends[f"ended: {last[-1][-90:] if last else 'without a word'}"] += 1
        first.kill()
        line.stop()
        if not self._holder.alive():
            self._line.stop()
            self._line, self._holder = self._start(instance)

    def _holds_one(self) -> bool:
        self._line.hold()
        return self._line.held_orders > 0

    def _by(self, epoch: int) -> int:
        """Return how many orders a later holder than that of ``epoch`` has sent."""
        self._read()
        return sum(1 for arrival in self.executors.tail.arrivals[-2000:] if arrival.epoch > epoch)

    def finish(self) -> Toll:
        """Let everything come to its outcome, and compare."""
        self._stopping.set()
        assert self._writing is not None
        self._writing.join(30)
        told = _Told(self.executors.bootstrap)
        self._until("an outcome of every order", lambda: told.read() >= set(self._intents))
        self._holder.kill()
        self._line.stop()
        self._read()
        self._judge(told)
        return self.toll

    def _judge(self, told: "_Told") -> None:
        toll, tail = self.toll, self.executors.tail
        toll.intents = len(self._intents)
        toll.venue_orders = len(tail.orders)
        listed = Counter(order.client_order_id.rpartition("-")[0] for order in tail.orders.values())
        toll.double_orders = sum(1 for number in listed.values() if number > 1)
        requests = Counter(arrival.order_id for arrival in tail.arrivals)
        toll.requests_twice = sum(1 for number in requests.values() if number > 1)
        toll.without_one_outcome = sum(1 for name in self._intents if told.finals[name] != 1)
        toll.anomalies = told.anomalies
        toll.written_twice = told.written_twice
        sent = {name: order.filled_quantity for name, order in tail.orders.items() if order.filled_quantity}
        toll.unequal_fills = sum(1 for name in sent | told.filled if sent.get(name, 0) != told.filled[name])
        newest = 0
        for arrival in tail.arrivals:
            newest = max(newest, arrival.epoch)
            outcome = tail.orders.get(arrival.order_id)
            if outcome is not None and _is_late(arrival.epoch, newest, outcome.reason):
                toll.late_requests[_why(outcome.status, outcome.reason)] += 1

    def _epoch(self) -> int:
        with psycopg.connect(self.executors.dsn, autocommit=True) as connection:
            row = connection.execute("SELECT epoch FROM shard WHERE stage = 'execution'").fetchone()
        return 0 if row is None else int(row[0])

    def _until(self, what: str, holds: Callable[[], bool], limit_s: float = _LIMIT_S) -> None:
        limit = time.monotonic() + limit_s
        while not holds():
            if not self._holder.alive():
                self._start_again(self._instance)
            assert self._stopping.is_set() or self._writing is None or self._writing.is_alive(), "the flow has ended"
            assert time.monotonic() < limit, f"{what} did not come within {limit_s:g} s: {self._holder.last_lines(10)}"
            time.sleep(0.05)


def _is_late(epoch: int, newest: int, reason: str | None) -> bool:
    refused = reason is not None and (reason.startswith("fenced") or "window" in reason)
    return epoch < newest or refused


def _why(status: OrderStatus, reason: str | None) -> str:
    if status is OrderStatus.REJECTED:
        return "refused by epoch" if (reason or "").startswith("fenced") else f"refused: {reason}"
    return "taken, and known to the second holder"


class _Told:
    """What the executors have said on ``account.event``."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._next = 0
        self._codec = Codec(SchemaTable.committed())
        self._bodies: dict[tuple[str, int, int], bytes] = {}
        self.finals: Counter[str] = Counter()
        self.filled: Counter[str] = Counter()
        self.anomalies = 0
        self.written_twice = 0

    def read(self) -> set[str]:
        """Read on; return the orders that have an outcome."""
        reader = LogReader(self._bootstrap, (ACCOUNT_EVENT.name, 0), self._next)
        while (record := reader.next()) is not None:
            self._next = record.offset + 1
            event = self._codec.decode(record.topic, record.value, record.headers)
            place = (event.source, event.generation, event.seq)
            body = bytes(record.value or b"")
            if place in self._bodies:
                # What a former holder had not confirmed is sent again, by the next: the same words.
                self.written_twice += self._bodies[place] != body
                continue
            self._bodies[place] = body
            if isinstance(event, OrderEvent):
                self.anomalies += (event.reason or "").startswith("ANOMALY")
                self.finals[event.order_id] += event.final
            elif isinstance(event, Fill):
                self.filled[event.order_id] += event.quantity
        reader.close()
        return {name for name, number in self.finals.items() if number}


def ways(runs: int, *, waits_every: int = 10) -> Iterator[Way]:
    """Yield how each of so many runs goes; every so many one waits for the session of the stopped executor."""
    for number in range(runs):
        yield Way(held=number % 4 != 3, waits=number % waits_every == waits_every - 1, early=number % 3 == 2)


@contextmanager
def rivals_on(
    directory: Path, bootstrap: str, dsn: str, *, seed: int, fences_epochs: bool, changes: Mapping[str, Any] = CHANGES
) -> Iterator[Rivals]:
    """Give executors on topics that are made afresh, and taken away at the end."""
    topics = [spec.name for spec in topic_specs(load_settings(None, {}))]
    delete_topics(bootstrap, topics)
    executors = Executors(directory, bootstrap, dsn, changes, fences_epochs=fences_epochs)
    try:
        yield Rivals(executors, random.Random(seed))
    finally:
        executors.close()
        delete_topics(bootstrap, topics)


def report(toll: Toll) -> str:
    """Return what the runs came to, for people."""
    late = ", ".join(f"{count} {what}" for what, count in sorted(toll.late_requests.items())) or "none"
    ends = "\n".join(f"  {count} {what}" for what, count in toll.ends.most_common())
    return (
        f"{toll.runs} runs, {toll.intents} intents, {toll.venue_orders} orders at the venue: "
        f"{toll.double_orders} double orders, {toll.requests_twice} requests sent twice, "
        f"{toll.without_one_outcome} intents without exactly one outcome, {toll.anomalies} anomalies, "
        f"{toll.unequal_fills} orders with other fills than the venue's, "
        f"{toll.written_twice} records written differently a second time\n"
        f"requests of a former holder that reached the venue after its successor's: {late}\n"
        f"what became of the former holders:\n{ends}"
        + "".join(f"\n  started again after: {why}" for why in toll.started_again)
    )


def main(arguments: list[str]) -> int:
    """Make the runs; 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time_ns() // NS_PER_S))
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("faust").setLevel(logging.WARNING)
    toll = Toll()
    with TemporaryDirectory(prefix="tradermind-split-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        directory.chmod(0o755)
        kafka, postgres = start_kafka(directory / "kafka"), start_postgres(directory / "pg")
        try:
            for fences, runs in ((False, given.runs - given.runs // 2), (True, given.runs // 2)):
                name = "fencing" if fences else "plain"
                with psycopg.connect(postgres.dsn, autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {name}".encode())
                place = (directory / name, kafka.bootstrap, postgres.dsn_of(name))
                with rivals_on(*place, seed=given.seed, fences_epochs=fences) as rivals:
                    for way in ways(runs):
                        rivals.once(way)
                    part = rivals.finish()
                what = "refuses former epochs" if fences else "knows no epochs"
                sys.stdout.write(f"the exchange {what}: {report(part)}\n")
                toll.add(part)
        finally:
            kafka.stop()
            postgres.stop()
    sys.stdout.write(f"seed {given.seed}; together: {report(toll)}\n")
    return 1 if toll.violations or toll.runs != given.runs else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
