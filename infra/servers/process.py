"""The one place that starts a child process, so that none outlives us and each failure is one clear sentence.

A child gets a session of its own (Ctrl-C reaches us alone, and we stop it in order), a log file, and the kernel's
promise to be signalled when we die, by ``kill -9`` too. That promise is bound to the *thread* that forked, so all
children are forked by one thread that lives as long as the process.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LAUNCHER: Final = Path(__file__).with_name("launch.py")
_POLL_S: Final = 0.02
_LOG_TAIL_BYTES: Final = 16_384


class ServerFailed(Exception):
    """A server that could not be started or reached, in one clear sentence."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a child: its command, where its output goes, and what it inherits.

    ``death_signal`` is what the kernel sends it when we die. ``user`` names whom it runs as, for root only.
    """

    name: str
    command: Sequence[str]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    directory: Path | None = None
    death_signal: signal.Signals = signal.SIGKILL

    def fork(self) -> "subprocess.Popen[bytes]":
        """Start it from the calling thread, whose end will be its end. ``start_process`` is the way in."""
        parent = (str(os.getpid()), str(int(self.death_signal)), self.user or "")
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                (sys.executable, "-I", "-S", str(_LAUNCHER), *parent, *self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                cwd=self.directory,
                start_new_session=True,
            )


class ChildProcess:
    """A running child. ``name`` is for people; its output is in ``log_file``."""

    def __init__(self, name: str, log_file: Path, popen: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.log_file = log_file
        self.popen = popen

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self.popen.poll() is None

    def exit_code(self) -> int | None:
        """Return its exit code, or None while it runs; minus the signal's number when a signal ended it."""
        return self.popen.poll()

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.alive():
            self.popen.send_signal(number)

    def terminate(self, grace_s: float = 10.0, *, number: int = signal.SIGTERM) -> int:
        """Ask it to end, wait ``grace_s``, then kill it. Return its exit code. May be called again."""
        if self.alive():
            self.send(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace_s)
        return self.kill()

    def kill(self) -> int:
        """``kill -9`` it and all its descendants; return its exit code when every one is gone. May be called again."""
        doomed: list[int] = []
        if self.alive():
            # Halted, it makes no further children between the count and the kill.
            self.send(signal.SIGSTOP)
            doomed = _descendants(self.pid)
            self.send(signal.SIGKILL)
        code = self.popen.wait()
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while not _running().keys().isdisjoint(doomed):
            time.sleep(_POLL_S)
        return code

    def last_lines(self, count: int = 2) -> str:
        """Return the end of its log, for an error message."""
        if not self.log_file.is_file():
            return "it wrote no log"
        with self.log_file.open("rb") as file:
            file.seek(max(0, self.log_file.stat().st_size - _LOG_TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-count:]) or "it wrote nothing"


class _Spawner:
    """The thread that forks. A forked copy of this process makes its own, since threads do not survive a fork."""

    def __init__(self) -> None:
        self._pid = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Launch, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()

    def spawn(self, launch: Launch) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._jobs = queue.SimpleQueue()
                threading.Thread(target=self._run, args=(self._jobs,), name="spawner", daemon=True).start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((launch, future))
        return future.result()

    @staticmethod
    def _run(jobs: "queue.SimpleQueue[tuple[Launch, Future[subprocess.Popen[bytes]]]]") -> None:
        while True:
            launch, future = jobs.get()
            try:
                future.set_result(launch.fork())
            except BaseException as error:
                future.set_exception(error)


_SPAWNER: Final = _Spawner()


def start_process(launch: Launch) -> ChildProcess:
    """Start a child in a session of its own. Raises ServerFailed when it cannot be made or its log not written.

    A command that is not there ends the child at once, with the reason in its log: ``wait_until_ready`` tells it.
    """
    try:
        launch.log_file.parent.mkdir(parents=True, exist_ok=True)
        return ChildProcess(launch.name, launch.log_file, _SPAWNER.spawn(launch))
    except OSError as error:
        raise ServerFailed(f"{launch.name} could not be started: {error}.") from error


def wait_until_ready(child: ChildProcess, ready: Callable[[], bool], deadline_s: float) -> None:
    """Return when ``ready`` says so. Raises ServerFailed, and kills the child, when it dies or is too slow."""
    end = time.monotonic() + deadline_s
    while not ready():
        if not child.alive():
            code = child.kill()
            raise ServerFailed(f"{child.name} ended with code {code}: {child.last_lines()} (log: {child.log_file}).")
        if time.monotonic() > end:
            child.kill()
            last = child.last_lines()
            raise ServerFailed(f"{child.name} was not ready after {deadline_s:g} s: {last} (log: {child.log_file}).")
        time.sleep(_POLL_S)


def run_to_end(launch: Launch, deadline_s: float) -> None:
    """Run a child that is no server. Raises ServerFailed when it fails, or is not done within ``deadline_s``."""
    child = start_process(launch)
    try:
        code = child.popen.wait(deadline_s)
    except subprocess.TimeoutExpired:
        child.kill()
        raise ServerFailed(f"{launch.name} was not done after {deadline_s:g} s (log: {launch.log_file}).") from None
    if code != 0:
        raise ServerFailed(f"{launch.name} failed with code {code}: {child.last_lines()} (log: {launch.log_file}).")


def end_descendants(grace_s: float) -> None:
    """Ask every process below this one to end at once, wait ``grace_s`` for them, then kill what is left."""
    asked: set[int] = set()
    end = time.monotonic() + grace_s
    while pids := _descendants(os.getpid()):
        late = time.monotonic() > end
        for pid in pids:
            if late or pid not in asked:
                with contextlib.suppress(ProcessLookupError):
                    # Of PostgreSQL this is the fast shutdown; the polite signal would wait for its clients.
                    os.kill(pid, signal.SIGKILL if late else signal.SIGINT)
        asked.update(pids)
        time.sleep(_POLL_S)


def _running() -> dict[int, int]:
    """Return pid -> parent's pid of every process on the machine, zombies left out."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                # The name stands in brackets and may hold anything, so the fields are counted from its end.
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(entry.name)] = int(parent)
    return parents


def _descendants(ancestor: int) -> list[int]:
    parents = _running()
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {ancestor})
