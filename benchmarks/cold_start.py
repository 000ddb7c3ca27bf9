"""How long each worker takes from exec to ready, and what memory it holds then and under load: ``make bench-workers``.

Every stage is a process of its own, on real Kafka and Postgres. Workers are started one after the other, each once the
one before is ready, so that none is measured while another starts; then the simulated market is paced, and each
process's memory is looked at until the end. ``/readyz`` says when a worker is ready, ``/proc`` what it holds.
"""

import asyncio
import http.client
import json
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import cpu_seconds, describe
from benchmarks.measured_demo import MeasuredDemo
from benchmarks.results import add_json_option, resident_mib, run_in_directory, say, table, write_json
from infra.servers.ports import LOOPBACK
from infra.servers.process import ChildProcess, ServerFailed
from streams.demo.plan import DemoPlan
from streams.demo.status import Snapshot
from streams.launch import WORKERS
from streams.metrics_port import worker_name

_READY_S: Final = 90.0
_POLL_S: Final = 0.02
_REST_S: Final = 5.0
_STARTED: Final = tuple((name,) for name in reversed(WORKERS))
"""Who reads first, before whoever writes; the feed comes last, so that all the others are seen at rest."""


class StartedDemo(MeasuredDemo):
    """A demo that starts one worker after the other, and looks at each one's memory."""

    def __init__(self, plan: DemoPlan, ticks_per_s: float) -> None:
        super().__init__(plan, ticks_per_s)
        self.ready_s: dict[str, float] = {}
        self.ready_cpu_s: dict[str, float] = {}
        self.rest_mib: dict[str, float] = {}
        self.load_mib: dict[str, float] = {}

    def _start_workers(self, run_file: Path) -> None:
        self._run_file = run_file
        ports = json.loads(run_file.read_text())["metrics"]
        for group in self.plan.groups:
            if self._stop.is_set():
                return
            began = time.monotonic()
            worker = self._start_worker(group)
            self._workers.append(worker)
            name = worker_name(group)
            _wait_until_ready(worker, int(ports[name]))
            self.ready_s[name] = time.monotonic() - began
            self.ready_cpu_s[name] = cpu_seconds(worker.pid)
            say(f"{name}: ready after {self.ready_s[name]:.2f} s")
            if len(self._workers) == len(self.plan.groups) - 1:
                time.sleep(_REST_S)
                self._look(self.rest_mib)
        self.rest_mib[name] = resident_mib(self._workers[-1].pid)

    def _is_over(self, snapshot: Snapshot, ready_at: float) -> bool:
        self._look(self.load_mib)
        return super()._is_over(snapshot, ready_at)

    def _look(self, found: dict[str, float]) -> None:
        """Keep the most that each process has held."""
        for group, worker in zip(self.plan.groups, self._workers, strict=False):
            name = worker_name(group)
            found[name] = max(found.get(name, 0.0), resident_mib(worker.pid))


def _wait_until_ready(worker: ChildProcess, port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while not _is_ready(port):
        if not worker.alive() or time.monotonic() > deadline:
            raise ServerFailed(f"{worker.name} did not become ready: {worker.last_lines()}.")
        time.sleep(_POLL_S)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def measure(directory: Path, seconds: float, per_s: float) -> dict[str, Any] | None:
    """Return the figures of each worker; None when the run was ended. Raises ServerFailed."""
    plan = DemoPlan(directory=directory / "run", broker="kafka", duration_s=seconds, groups=_STARTED)
    demo = StartedDemo(plan, per_s)
    if asyncio.run(demo.run()) is None:
        return None
    workers = [
        {
            "worker": name,
            "ready_s": round(demo.ready_s[name], 2),
            "ready_cpu_s": round(demo.ready_cpu_s[name], 2),
            "rest_mib": round(demo.rest_mib[name], 1),
            "load_mib": round(demo.load_mib[name], 1),
            "cpu_s": round(cpu_s, 1),
        }
        for (name,), cpu_s in zip(_STARTED, demo.cpu_s.values(), strict=True)
    ]
    return {
        "machine": describe(),
        "asked_per_s": per_s,
        "reached_per_s": round(demo.reached_per_s, 1),
        "seconds": seconds,
        "workers": workers,
    }


def show(result: dict[str, Any]) -> str:
    """Return the result as people read it."""
    header = ("worker", "ready, s", "of it processor, s", "at rest, MiB", "under load, MiB", "processor, s")
    rows: Sequence[Sequence[object]] = [
        (
            one["worker"],
            f"{one['ready_s']:.2f}",
            f"{one['ready_cpu_s']:.2f}",
            one["rest_mib"],
            one["load_mib"],
            one["cpu_s"],
        )
        for one in result["workers"]
    ]
    told = f"{result['reached_per_s']:,.0f} messages/s for {result['seconds']:g} s; {result['machine']}"
    return f"{table(header, rows)}\n{told}"


def main() -> int:
    """Measure and tell."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the load lasts")
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second of the simulated market")
    add_json_option(parser)
    given = parser.parse_args()

    def measured(directory: Path) -> bool:
        result = measure(directory, given.seconds, given.rate)
        if result is None:
            return False
        print(show(result))
        write_json(given.json, result)
        return True

    return run_in_directory(measured)


if __name__ == "__main__":
    raise SystemExit(main())
