"""Runs ``tradermind up`` as people do, for the tests that look at it from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from demo_process import changed_settings, descendants_of

READY_LIMIT_S = 120.0
END_LIMIT_S = 60.0


class UpProcess:
    """A platform in ``folder``, which holds its settings; its data is in ``folder/data``."""

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.folder, self.data = folder, folder / "data"
        settings = folder / "tradermind.toml"
        if not settings.exists():
            settings.write_text(changed_settings(()))
        command = [sys.executable, "-m", "streams.entry", "up", "--settings", str(settings)]
        command += ["--directory", str(self.data), *flags]
        with (folder / "up.log").open("ab") as log:
            self._begins_at = log.tell()
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def wait_until_ready(self) -> None:
        """Return when every worker has reported since this start."""
        limit = time.monotonic() + READY_LIMIT_S
        while (found := self._note()).get("pid") != self.process.pid:
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < limit, self.told()
            time.sleep(0.1)
        self.addresses: dict[str, str] = found["addresses"]

    def _note(self) -> dict[str, Any]:
        note = self.data / "up.json"
        try:
            return dict(json.loads(note.read_text()))
        except FileNotFoundError:
            return {}

    def told(self) -> str:
        """Return what it has printed since this start."""
        return (self.folder / "up.log").read_bytes()[self._begins_at :].decode(errors="replace")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what Postgres answers."""
        with psycopg.connect(self.addresses["Postgres"]) as connection:
            return connection.execute(query).fetchall()

    def until(self, query: str, least: int, limit_s: float = 60.0) -> int:
        """Ask for a number until it is large enough, and return it."""
        limit = time.monotonic() + limit_s
        while (found := int(self.rows(query)[0][0])) < least:
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < limit, f"{query} gives {found}, not {least}; {self.told()}"
            time.sleep(0.2)
        return found

    def ask(self, *words: str) -> Any:
        """Return the JSON that a command of ours answers about this run; its exit code must be 0."""
        command = [sys.executable, "-m", "streams.entry", *words, "--run", str(self.data), "--json"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def end(self) -> int:
        """End it by SIGTERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_LIMIT_S)

    def kill_all(self) -> None:
        """``kill -9`` it and every process below it, as a power cut would."""
        doomed = [self.process.pid, *descendants_of(self.process.pid)] if self.process.poll() is None else []
        for pid in doomed:
            os.kill(pid, signal.SIGSTOP)
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(END_LIMIT_S)
