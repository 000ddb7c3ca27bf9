"""The one place that starts a child process, waits until it serves, and makes sure that it ends.

A child dies with its parent (PR_SET_PDEATHSIG), so that a killed run leaves neither process nor port behind.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_POLL_S: Final = 0.02


class ServerFailed(Exception):
    """A server that could not be started or reached, in one clear sentence."""


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@dataclass(slots=True)
class ChildProcess:
    """A running child. ``name`` is for people; its output is in ``log_file``."""

    name: str
    log_file: Path
    popen: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self.popen.poll() is None

    def exit_code(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self.popen.poll()

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.alive():
            self.popen.send_signal(number)

    def terminate(self, grace_s: float = 10.0, *, number: int = signal.SIGTERM) -> int:
        """Ask it to end, wait ``grace_s``, then kill it. Return its exit code."""
        self.send(number)
        try:
            return self.popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kill it (SIGKILL) and reap it."""
        self.send(signal.SIGKILL)
        return self.popen.wait(10)

    def last_lines(self, count: int = 5) -> str:
        """Return the end of its log, for an error message."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return " | ".join(line.strip() for line in text.splitlines()[-count:])


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a child: its command, where its output goes, and what it inherits."""

    name: str
    command: Sequence[str]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    directory: Path | None = None


def start_process(launch: Launch) -> ChildProcess:
    """Start a child in a session of its own. Raises ServerFailed when the command cannot be run."""
    launch.log_file.parent.mkdir(parents=True, exist_ok=True)
    with launch.log_file.open("ab") as log:
        try:
            popen = subprocess.Popen(
                list(launch.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.environment},
                cwd=launch.directory,
                user=launch.user,
                group=launch.user,
                extra_groups=[] if launch.user is not None else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise ServerFailed(f"{launch.name} could not be started: {error}.") from error
    return ChildProcess(launch.name, launch.log_file, popen)


def wait_until_ready(child: ChildProcess, ready: Callable[[], bool], deadline_s: float) -> None:
    """Return when ``ready`` says so. Raises ServerFailed, and kills the child, when it dies or is too slow."""
    end = time.monotonic() + deadline_s
    while not ready():
        if not child.alive():
            raise ServerFailed(f"{child.name} ended with code {child.exit_code()}: {child.last_lines()}")
        if time.monotonic() > end:
            child.kill()
            raise ServerFailed(f"{child.name} was not ready after {deadline_s:g} s: {child.last_lines()}")
        time.sleep(_POLL_S)


def port_is_open(port: int) -> bool:
    """Return whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
