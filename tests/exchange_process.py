"""Starts and ends the exchange as the process that it is, for the tests that talk to it over its sockets."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from streams.exchange_core import ExchangeConfig

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 20.0


class ExchangeProcess:
    """A running exchange; ``url`` is where it listens."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "mode": "full",
            "instruments": tuple(SIM_INSTRUMENTS.values()),
            "start_prices": START_PRICES,
            "record": str(folder / "record.jsonl"),
        }
        self.config = ExchangeConfig(**fields | changes)
        self.folder = folder
        (folder / "config.json").write_bytes(msgspec.json.encode(self.config))
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "streams.exchange", "--config", str(self.folder / "config.json")]
        process = subprocess.Popen(
            [*command, "--port-file", str(port_file)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        limit = time.monotonic() + START_LIMIT_S
        while not port_file.exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < limit, "the exchange did not open its port"
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        return process

    def kill(self) -> None:
        """Kill it as kill -9 does."""
        self.process.kill()
        self.process.wait(10)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def restart(self) -> None:
        """Start it again on the same record and on the same port, so that its clients find it."""
        port = int(self.url.rsplit(":", 1)[1])
        changed = msgspec.structs.replace(self.config, port=port)
        (self.folder / "config.json").write_bytes(msgspec.json.encode(changed))
        self.process = self._start()

    def stop(self) -> int:
        """End it in order; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(10)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


@contextlib.contextmanager
def running_exchange(folder: Path, **changes: Any) -> Iterator[ExchangeProcess]:
    """Yield a running exchange and end it."""
    exchange = ExchangeProcess(folder, **changes)
    try:
        yield exchange
    finally:
        if exchange.process.poll() is None:
            exchange.stop()
