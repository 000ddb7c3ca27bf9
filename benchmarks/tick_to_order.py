"""Tick to order over real Kafka, beside a bare aiokafka chain of as many hops: `python -m benchmarks.tick_to_order`.

The whole platform runs as in `tradermind demo BROKER=kafka`: every worker a process, every decision through six
stages and five topics, four of the stages committing to Postgres before they send. Only its probe flips at every
ballot, so that there are orders to count. The clock starts when ingestion takes the event that closes the grid step
and ends when the order's bytes leave for the venue.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console

from benchmarks.aiokafka_chain import chain_latencies_ms
from benchmarks.hops import WAY, hop_latencies_ms, quantiles_ms
from benchmarks.machine import cpu_seconds, describe
from infra.kafka import TopicSpec, apply_topics
from infra.servers import start_kafka
from infra.servers.process import ServerFailed
from infra.settings import load_settings
from schemas.codec import Codec
from schemas.schema_table import SchemaTable
from streams.demo.plan import DemoPlan
from streams.demo.run import Demo
from streams.demo.status import read_snapshot

AIM_MS: Final = 20.0
_CHAIN_RECORDS: Final = 200
_CHAIN_PER_S: Final = 10
_PROBES: Final[tuple[tuple[str, Any], ...]] = (
    ("strategies.pulse.parameters", {"every": 1, "size": 0.5}),
    ("strategies.committee.policy", "null"),
)


class MeasuredDemo(Demo):
    """A demo that keeps what the summary leaves out: each order's latency, and what each process used."""

    def __init__(self, plan: DemoPlan) -> None:
        super().__init__(plan, Console(quiet=True))
        self.tick_to_order_ns: dict[str, int] = {}
        self.cpu_s: dict[str, float] = {}
        self.stages: dict[str, dict[str, int]] = {}
        self.took_s = 0.0

    async def _watch(self, connection: psycopg.Connection[Any]) -> bool:
        began = time.monotonic()
        ready = await super()._watch(connection)
        self.took_s = time.monotonic() - began
        self.cpu_s = {worker.name: cpu_seconds(worker.pid) for worker in self._workers}
        return ready

    def _sum_up(self) -> dict[str, Any]:
        with psycopg.connect(self._dsn) as connection:
            self.stages = read_snapshot(connection).stages
            rows = connection.execute("SELECT order_id, tick_to_order_ns FROM order_latencies").fetchall()
        self.tick_to_order_ns = {str(order_id): int(latency_ns) for order_id, latency_ns in rows}
        return super()._sum_up()


def _bare_chain(bootstrap: str, name: str, per_second: float) -> Sequence[float]:
    topics = [f"bench.{name}.{hop}" for hop in range(len(WAY))]
    apply_topics(bootstrap, [TopicSpec(topic, 1, {}) for topic in topics])
    return asyncio.run(chain_latencies_ms(bootstrap, topics, _CHAIN_RECORDS, per_second))


def _line(name: str, values: Sequence[float]) -> str:
    p50, p99, largest = quantiles_ms(values)
    return f"{name:44} {len(values):6} {p50:8.1f} {p99:8.1f} {largest:8.1f}"


def _report(demo: MeasuredDemo, chains: Sequence[Sequence[float]], bootstrap: str) -> None:
    orders_ms = [latency_ns / 1e6 for latency_ns in demo.tick_to_order_ns.values()]
    partitions = load_settings(None).kafka.instrument_partitions
    hops = hop_latencies_ms(bootstrap, partitions, Codec(SchemaTable.committed()), demo.tick_to_order_ns)
    print(f"tick to order over real Kafka; {describe()}\n")
    print(f"{'milliseconds':44} {'n':>6} {'p50':>8} {'p99':>8} {'max':>8}")
    print(_line("platform: receipt to bytes for the venue", orders_ms))
    print(_line(f"bare aiokafka, {len(WAY)} topics, before", chains[0]))
    print(_line(f"bare aiokafka, {len(WAY)} topics, after", chains[1]))
    p50 = quantiles_ms(orders_ms)[0]
    print(f"\naim p50 <= {AIM_MS:g} ms: {'reached' if p50 <= AIM_MS else 'NOT reached'}")
    print("\nwhere it goes (from a stage's input in Kafka's hands to its output there):")
    for stage, values in hops.items():
        if values:
            print(_line(f"  {stage}", values))
    print(f"\nper second, over {demo.took_s:.0f} s: {'records in':>22} {'batches':>10} {'records out':>12}")
    for name, counters in sorted(demo.stages.items()):
        if counters.get("records", 0) + counters.get("external", 0):
            taken = (counters["records"] + counters["external"]) / demo.took_s
            print(
                f"  {name:32} {taken:15.1f} {counters['batches'] / demo.took_s:10.1f}"
                f" {counters['events_out'] / demo.took_s:12.1f}"
            )
    print(f"\nCPU seconds per process over {demo.took_s:.0f} s:")
    for name, used_s in demo.cpu_s.items():
        print(f"  {name:60} {used_s:6.1f}  {100 * used_s / demo.took_s:4.0f} %")


def measure(directory: Path, seconds: float) -> bool:
    """Run chain, platform and chain on one broker and print; False when there was nothing to print.

    Raises ServerFailed when a server or a worker cannot be started.
    """
    with ExitStack() as stack:
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        chains = [_bare_chain(kafka.bootstrap, "before", _CHAIN_PER_S)]
        plan = DemoPlan(directory=directory / "run", broker=kafka.bootstrap, duration_s=seconds, more=_PROBES)
        demo = MeasuredDemo(plan)
        if asyncio.run(demo.run()) is None or not demo.tick_to_order_ns:
            sys.stderr.write("The run ended without an order whose latency is known.\n")
            return False
        chains.append(_bare_chain(kafka.bootstrap, "after", _CHAIN_PER_S))
        _report(demo, chains, kafka.bootstrap)
        return True


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 2 when real Kafka or the platform cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tradermind-bench-") as folder:
        directory = Path(folder)
        directory.chmod(0o755)  # The database runs as another user, who must reach its folder.
        try:
            return 0 if measure(directory, options.seconds) else 1
        except ServerFailed as error:
            sys.stderr.write(f"{error}\n")
            return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
