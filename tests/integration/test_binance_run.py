"""A whole run on a local Binance: its market in, our orders there, and every side of the books in agreement."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from binance_venue_server import KEY, SECRET, BinanceVenueServer, running_binance
from demo_process import DemoProcess, running_demo

pytestmark = [pytest.mark.embedded, pytest.mark.slow]
ORDERS = 4


@contextlib.contextmanager
def _binance_beside() -> Iterator[tuple[BinanceVenueServer, str]]:
    """A venue that runs in a thread of its own."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[tuple[BinanceVenueServer, str]] = []

    async def serve() -> None:
        async with running_binance() as venue:
            found.append(venue)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def _changes(folder: Path, url: str) -> list[tuple[str, str]]:
    for name, text in (("key", KEY), ("secret", SECRET)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    socket = url.replace("http", "ws", 1)
    feed = f'kind = "binance"\ninstruments = ["BINANCE:BTCUSD"]\nwebsocket_url = "{socket}"\nrest_url = "{url}"'
    files = f'api_key_file = "{folder / "key"}"\nsecret_file = "{folder / "secret"}"'
    return [
        ('kind = "simulated"', feed),
        ("# [venues.binance]", f'[venues.binance]\n{files}\nrest_url = "{url}"\nsocket_url = "{socket}/ws-api/v3"'),
        # The strategy that trades by the clock flips every other second; it may go short, or it would buy only once.
        ("horizon_s = 10", "horizon_s = 60"),
        ("horizon_s = 10", "horizon_s = 1"),
        ('instruments = ["SIM:BTCUSD"', 'instruments = ["BINANCE:BTCUSD"]'),
        ("parameters = { every", "parameters = { every = 2, size = 0.5 }"),
        ('[instruments."BINANCE:BTCUSDT"]', '[instruments."ELSEWHERE:BTCUSDT"]'),
        ('[instruments."SIM:BTCUSD"]', '[instruments."BINANCE:BTCUSD"]'),
        ("funding_rate", ""),
        ("funding_interval_s", ""),
    ]


def _filled(demo: DemoProcess) -> int:
    return int(demo.rows("SELECT count(*) FROM orders WHERE status = 'FILLED'")[0][0])


def test_a_run_on_binance_ends_with_one_order_for_each_intent_and_equal_books(tmp_path: Path) -> None:
    with _binance_beside() as (server, url):
        with running_demo(tmp_path, ["--feed", "binance"], _changes(tmp_path, url)) as demo:
            demo.until(lambda: _filled(demo) >= ORDERS, 60)
            words = ["reconcile", "--run", str(demo.run), "--settings", str(tmp_path / "tradermind.toml"), "--json"]
            command = [sys.executable, "-m", "streams.entry", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert json.loads(done.stdout)["compared"]["fills"] >= ORDERS, done.stdout
            logs = "".join(path.read_text(errors="replace") for path in (demo.run / "logs").iterdir())
        ids = [listed.client_id for listed in server.orders]
        assert len(ids) == len(set(ids)) >= ORDERS
        assert all(not listed.order.live for listed in server.orders)
        assert SECRET not in logs + demo.told() and KEY not in logs + demo.told()
