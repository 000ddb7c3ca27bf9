"""Runs the whole platform as people do, ``tradermind demo``, for the tests that look at it from outside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 180.0
STOP_LIMIT_S = 60.0
PUBLIC = ("trade", "quote", "depth", "vote", "request", "outcome")
OWN = ("sinks", "decider", "risk", "execution", "feedback", "control", "voting", "experts", "ingestion")
STAGES = frozenset(OWN) | {f"ingress.{name}" for name in PUBLIC}


class DemoProcess:
    """A running demo: ``bootstrap``, ``registry`` and ``dsn`` are where outsiders find it."""

    def __init__(self, folder: Path, flags: Sequence[str] = (), changes: Sequence[tuple[str, str]] = ()) -> None:
        self.folder = folder
        self.run = folder / "run"
        settings = folder / "tradermind.toml"
        settings.write_text(changed_settings(changes))
        command = [sys.executable, "-m", "streams.entry", "demo", "--duration", "3600"]
        command += ["--settings", str(settings), "--directory", str(self.run), *flags]
        self._began = time.monotonic()
        with (folder / "demo.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    @property
    def age_s(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._began

    def wait_until_ready(self) -> None:
        """Return when every worker has reported; the demo must live that long."""
        described: dict[str, Any] = {}
        limit = time.monotonic() + START_LIMIT_S
        while "registry" not in described:
            self._must_live(limit)
            with contextlib.suppress(FileNotFoundError, ValueError):
                described = json.loads((self.run / "run.json").read_text())
        self.bootstrap: str = described["overrides"]["kafka.bootstrap"]
        self.dsn: str = described["overrides"]["postgres.dsn"]
        self.registry: str = described["registry"]
        while not set(self.stages()) >= STAGES:
            self._must_live(limit)

    def _must_live(self, limit: float) -> None:
        assert self.process.poll() is None, self.told()
        assert time.monotonic() < limit, self.told()
        time.sleep(0.1)

    def told(self) -> str:
        """Return what the demo has printed."""
        return (self.folder / "demo.log").read_text(errors="replace")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what Postgres answers."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query, values).fetchall()

    def stages(self) -> dict[str, dict[str, int]]:
        """Return the counters of each stage, its shards summed."""
        total: dict[str, dict[str, int]] = {}
        for stage, counters in self.rows("SELECT stage, counters FROM worker_status"):
            sums = total.setdefault(stage, {})
            for name, value in counters.items():
                if isinstance(value, int):
                    sums[name] = sums.get(name, 0) + value
        return total

    def until(self, holds: Callable[[], Any], limit_s: float = 60.0) -> Any:
        """Ask until the answer is true, and return it; the demo must live that long."""
        limit = time.monotonic() + limit_s * PATIENCE
        while not (answer := holds()):
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < limit, f"not within {limit_s * PATIENCE:g} s; {self.stages()}"
            time.sleep(0.1)
        return answer

    def pid_of(self, stage: str) -> int:
        """Return the process that hosts a stage."""
        for pid in children_of(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if "worker" in words and stage in words:
                return pid
        raise AssertionError(f"no process hosts {stage}")

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        """End it whatever it does; its children end with it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_LIMIT_S)


@contextlib.contextmanager
def running_demo(
    folder: Path, flags: Sequence[str] = (), changes: Sequence[tuple[str, str]] = ()
) -> Iterator[DemoProcess]:
    """A demo that is ready, and ended by Ctrl-C afterwards; its exit code is checked."""
    demo = DemoProcess(folder, flags, changes)
    try:
        demo.wait_until_ready()
        yield demo
        assert demo.interrupt() == 0, demo.told()
    finally:
        demo.kill()


def changed_settings(changes: Sequence[tuple[str, str]]) -> str:
    """Return the project's settings with lines replaced: (the line's start, the whole new line)."""
    lines = (ROOT / "tradermind.toml").read_text().splitlines()
    for start, line in changes:
        found = [number for number, old in enumerate(lines) if old.startswith(start)]
        assert found, f"no line of tradermind.toml begins with {start!r}"
        lines[found[0]] = line
    tomllib.loads("\n".join(lines))
    return "\n".join(lines)


def children_of(parent: int) -> list[int]:
    """Return the running children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX" and int(ppid) == parent:
                    found.append(int(entry.name))
    return found


def descendants_of(ancestor: int) -> list[int]:
    """Return the running descendants of a process."""
    found: list[int] = []
    for child in children_of(ancestor):
        found += [child, *descendants_of(child)]
    return found


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
