"""The platform of ``tradermind demo`` on real Kafka, with what a benchmark must know of it beside its summary."""

import time
from contextlib import ExitStack
from typing import Any, Final

import psycopg
from rich.console import Console

from benchmarks.machine import cpu_seconds
from benchmarks.paced_exchange import MODULE, step_for
from streams.composition import Run
from streams.demo.plan import DemoPlan
from streams.demo.run import Demo
from streams.demo.servers import exchange_config, launch_exchange
from streams.demo.status import Snapshot, read_snapshot

_EVENTS_PER_ORDER: Final = 5
"""What an order of ours adds to the market data, its trades and the answer of the market: about that, as observed."""


class MeasuredDemo(Demo):
    """A demo that keeps each order's latency, what each process used, and the rate of the market.

    ``ticks_per_s`` paces the simulated market: about that many events a second of all instruments, one a message. The
    run is over when the latencies of ``orders_wanted`` are known, or its time is up.
    """

    def __init__(self, plan: DemoPlan, ticks_per_s: float | None = None, orders_wanted: int | None = None) -> None:
        super().__init__(plan, Console(quiet=True))
        self.tick_to_order_ns: dict[str, int] = {}
        self.orders: dict[str, int] = {}
        self.denials: dict[str, int] = {}
        self.cpu_s: dict[str, float] = {}
        self.stages: dict[str, dict[str, int]] = {}
        self.took_s = 0.0
        self._ticks_per_s = ticks_per_s
        self._orders_wanted = orders_wanted
        self._looks: list[tuple[float, int]] = []

    @property
    def reached_per_s(self) -> float:
        """The messages a second that ingestion took from the feed while all workers ran."""
        (began_s, first), (ended_s, last) = self._looks[0], self._looks[-1]
        return (last - first) / (ended_s - began_s) if ended_s > began_s else 0.0

    def _exchange(self, stack: ExitStack, run: Run) -> dict[str, Any]:
        if self._ticks_per_s is None:
            return super()._exchange(stack, run)
        orders_per_s = len(run.fed) * 1000 / run.settings.grid.step_ms
        of_the_market = max(self._ticks_per_s / 2, self._ticks_per_s - _EVENTS_PER_ORDER * orders_per_s)
        config = step_for(exchange_config(run, self.plan.directory), of_the_market)
        url, _ = launch_exchange(stack, config, self.plan.directory, MODULE)
        return {"venue.url": url}

    def _is_over(self, snapshot: Snapshot, ready_at: float) -> bool:
        self._looks.append((time.monotonic(), snapshot.stages.get("ingestion", {}).get("feed_records", 0)))
        return super()._is_over(snapshot, ready_at) or self._enough_orders()

    def _enough_orders(self) -> bool:
        if self._orders_wanted is None:
            return False
        with psycopg.connect(self._dsn) as connection:
            found = connection.execute("SELECT count(*) FROM order_latencies").fetchone()
        return found is not None and int(found[0]) >= self._orders_wanted

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
            self.orders = _counts(connection, "SELECT status, count(*) FROM orders GROUP BY 1")
            self.denials = _counts(
                connection,
                "SELECT unnest(reasons), count(*) FROM order_verdicts WHERE verdict = 'DENIED' GROUP BY 1",
            )
        self.tick_to_order_ns = {str(order_id): int(latency_ns) for order_id, latency_ns in rows}
        return {}


def _counts(connection: psycopg.Connection[Any], query: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.execute(query.encode()).fetchall()}
