"""Tick to order over real Kafka, beside a bare aiokafka chain of as many hops: ``python -m benchmarks.tick_to_order``.

The whole platform runs as in ``tradermind demo BROKER=kafka``: every worker a process, every decision through six
stages and five topics, four of the stages committing to Postgres before they send. Market data comes at the rate that
is asked for, one tick a message; a probe flips at each ballot, so that there are orders to count. The clock starts when
ingestion takes the tick that closes the grid step and ends when the order's bytes leave for the venue. Each rate has a
broker and a database of its own, and a chain before and after the platform.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.aiokafka_chain import ChainRun, run_chain
from benchmarks.hops import WAY, hop_latencies_ms
from benchmarks.machine import describe
from benchmarks.measured_demo import MeasuredDemo
from benchmarks.results import add_json_option, quantile, run_in_directory, say, table, write_json
from infra.kafka import TopicSpec, apply_topics
from infra.servers import start_kafka
from infra.settings import load_settings
from schemas.codec import Codec
from schemas.schema_table import SchemaTable
from streams.demo.plan import DemoPlan

AIM_MS: Final = 20.0
RATES: Final = (20.0, 200.0, 1000.0)
ORDERS_FOR_P999: Final = 1000
_CHAIN_S: Final = 10.0
_GRID_MS: Final = 1000
_QUICK_GRID_MS: Final = 200
_QUICK_PER_S: Final = 100.0
_HEADER: Final = ("milliseconds", "ticks/s", "n", "p50", "p99", "p99.9", "max")
_SHARES: Final = (0.5, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. A run ends with its ``orders`` or after ``seconds``.

    ``grid_ms``: so often a ballot of each instrument opens, and at most so often it trades; None suits the rate.
    """

    seconds: float
    orders: int
    grid_ms: int | None
    chain_records: int

    def grid_of(self, per_s: float) -> int:
        """Return how often ballots open: a market of few ticks must not be one of our own trades."""
        return self.grid_ms if self.grid_ms is not None else (_QUICK_GRID_MS if per_s >= _QUICK_PER_S else _GRID_MS)


def settings_of(grid_ms: int) -> dict[str, Any]:
    """Return what a run must be told so that both instruments trade at every grid step and no limit stops them."""
    strategy = {
        "horizon_s": 1,
        "parameters": {"every": 1, "size": 0.5},
        "risk_budget": "0.02",
    }
    return {
        "grid.step_ms": grid_ms,
        "grid.horizons_s": [1],
        "strategies.pulse": strategy,
        "strategies.committee": {"policy": "null", "horizon_s": 1},
        # The second one is spot: flipping needs the short side, too.
        "instruments": {"SIM:ETHUSD": {"shortable": True}},
        "limits.global": {
            "messages_max": 1_000,
            "duplicate_window_ms": 1,
            "daily_loss_max": 90_000,
            "drawdown_max": "0.9",
        },
    }


def _chain(bootstrap: str, name: str, per_s: float, least: int) -> ChainRun:
    topics = [f"bench.{name}.{hop}" for hop in range(len(WAY))]
    apply_topics(bootstrap, [TopicSpec(topic, 1, {}) for topic in topics])
    return asyncio.run(run_chain(bootstrap, topics, max(least, round(per_s * _CHAIN_S)), per_s))


def _figures(values: Sequence[float], reached_per_s: float) -> dict[str, float | int | None]:
    p50, p99, p999 = (quantile(values, share) for share in _SHARES)
    return {
        "ticks_per_s": round(reached_per_s, 1),
        "n": len(values),
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_9_ms": p999,
        "max_ms": max(values, default=None),
    }


def measure_rate(directory: Path, per_s: float, options: Options) -> dict[str, Any] | None:
    """Run chain, platform and chain at one rate on one broker; None when no order's latency is known.

    Raises ServerFailed when a server or a worker cannot be started.
    """
    with ExitStack() as stack:
        kafka = start_kafka(directory / "kafka")
        stack.callback(kafka.stop)
        say(f"{per_s:g} ticks/s: the bare chain")
        before = _chain(kafka.bootstrap, "before", per_s, options.chain_records)
        say(f"{per_s:g} ticks/s: the platform, until {options.orders:,} orders or {options.seconds:g} s")
        more = tuple(settings_of(options.grid_of(per_s)).items())
        plan = DemoPlan(directory=directory / "run", broker=kafka.bootstrap, duration_s=options.seconds, more=more)
        demo = MeasuredDemo(plan, per_s, options.orders)
        if asyncio.run(demo.run()) is None or not demo.tick_to_order_ns:
            return None
        say(f"{per_s:g} ticks/s: the bare chain again")
        after = _chain(kafka.bootstrap, "after", per_s, options.chain_records)
        result = _result(demo, per_s, (before, after), kafka.bootstrap)
        return result | {"grid_ms": options.grid_of(per_s)}


def _result(demo: MeasuredDemo, per_s: float, chains: tuple[ChainRun, ChainRun], bootstrap: str) -> dict[str, Any]:
    partitions = load_settings(None).kafka.instrument_partitions
    hops = hop_latencies_ms(bootstrap, partitions, Codec(SchemaTable.committed()), demo.tick_to_order_ns)
    latencies_ms = [latency_ns / 1e6 for latency_ns in demo.tick_to_order_ns.values()]
    before, after = (_figures(chain.latencies_ms, chain.reached_per_s) for chain in chains)
    return {
        "asked_per_s": per_s,
        "machine": describe(),
        "platform": _figures(latencies_ms, demo.reached_per_s),
        "chain_before": before,
        "chain_after": after,
        "orders": demo.orders,
        "denials": demo.denials,
        "hops": {stage: _figures(values, demo.reached_per_s) for stage, values in hops.items() if values},
        "took_s": demo.took_s,
        "stages": demo.stages,
        "cpu_s": demo.cpu_s,
    }


def _row(name: str, figures: dict[str, Any]) -> list[object]:
    return [name, *(figures[key] for key in ("ticks_per_s", "n", "p50_ms", "p99_ms", "p99_9_ms", "max_ms"))]


def report(results: Sequence[dict[str, Any]]) -> None:
    """Print the table of all rates, and for each where the time goes."""
    rows: list[list[object]] = []
    for result in results:
        rows.append(_row("platform: receipt to bytes for the venue", result["platform"]))
        rows.append(_row(f"bare aiokafka, {len(WAY)} topics, before", result["chain_before"]))
        rows.append(_row(f"bare aiokafka, {len(WAY)} topics, after", result["chain_after"]))
    print(f"tick to order over real Kafka; {describe()}\n\n{table(_HEADER, rows)}")
    print(f"(p99.9 is given from {ORDERS_FOR_P999:,} on; ticks/s is what was reached)")
    for result in results:
        _report_rate(result)


def _report_rate(result: dict[str, Any]) -> None:
    measured, orders = result["platform"]["n"], sum(result["orders"].values())
    p50 = result["platform"]["p50_ms"]
    reached = p50 is not None and p50 <= AIM_MS
    print(f"\n{result['asked_per_s']:g} ticks/s asked, a ballot every {result['grid_ms']} ms; {result['machine']}")
    print(f"aim p50 <= {AIM_MS:g} ms: {'reached' if reached else 'NOT reached'}")
    print(f"orders {orders:,} {result['orders']}, denied by risk {result['denials'] or 'none'}")
    print(f"of these {measured:,} were closed by a tick and are counted; the others by a Heartbeat, which nobody sent")
    print("from a stage's input in Kafka's hands to its output there:")
    print(table(_HEADER, [_row(f"  {stage}", figures) for stage, figures in result["hops"].items()]))
    took_s = result["took_s"]
    rows = [
        [
            f"  {name}",
            (counters["records"] + counters["external"]) / took_s,
            counters["batches"] / took_s,
            counters["events_out"] / took_s,
        ]
        for name, counters in sorted(result["stages"].items())
        if counters.get("records", 0) + counters.get("external", 0)
    ]
    print(table((f"per second, over {took_s:.0f} s", "records in", "batches", "records out"), rows))
    used = [[f"  {name}", cpu_s, 100 * cpu_s / took_s] for name, cpu_s in result["cpu_s"].items()]
    print(table(("CPU", "seconds", "percent"), used))


def _measure(options: Options, rates: Sequence[float], json_file: Path | None, directory: Path) -> bool:
    results = []
    for per_s in rates:
        result = measure_rate(directory / f"{per_s:g}", per_s, options)
        if result is None:
            sys.stderr.write(f"At {per_s:g} ticks/s the run ended without an order whose latency is known.\n")
            return False
        results.append(result)
        write_json(json_file, results)
    report(results)
    return True


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 2 when real Kafka or the platform cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=list(RATES), help="ticks a second, one run each")
    parser.add_argument("--orders", type=int, default=1_200, help="a run ends when so many are measured")
    parser.add_argument("--seconds", type=float, default=1_500.0, help="or after so many, once all workers are up")
    parser.add_argument(
        "--grid-ms", type=int, help="a ballot of each instrument so often; 1000, or 200 from 100 ticks/s"
    )
    parser.add_argument("--chain-records", type=int, default=ORDERS_FOR_P999, help="at least, of each bare chain")
    add_json_option(parser)
    given = parser.parse_args(arguments)
    options = Options(given.seconds, given.orders, given.grid_ms, given.chain_records)
    return run_in_directory(partial(_measure, options, given.rate, given.json))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
