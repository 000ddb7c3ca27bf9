"""A demo into a real InfluxDB that is killed, and hangs, while it trades; afterwards a rebuild fills what is missing.

What the outage costs is told and not asserted: a wall clock proves nothing on a machine that does other things.
Asserted is what must not depend on InfluxDB: orders are filled, and each is in the record, while it is away.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from demo_process import ROOT, DemoProcess, running_demo
from influx_points import all_points, ask, differing

from infra.influx.rebuild import sources
from infra.influx.schema import MEASUREMENTS, OF_AN_ENTRY
from infra.servers import RealInflux, start_influx

PULSE = "parameters = { every = 2, size = 0.5 }"
TOOK = (
    "SELECT count(*), coalesce(max(available_at_ns - event_time_ns), 0) / 1e6, count(DISTINCT order_id) FROM fills"
    " WHERE available_at_ns > %s"
)
NEVER_IN_A_DEMO = {
    *("venue_bar", "ballot_request", "ballot_voided", "outcome", "alert", "model_release", "command", "order_denied"),
}
"""What a minute of a quiet simulated market may not have; tests/infra/test_influx_real.py writes them all."""


def changes(real: RealInflux) -> list[tuple[str, str]]:
    return [
        ('# url = "http://host:8086"', f'url = "{real.url}"'),
        ("# org = ", f'org = "{real.org}"'),
        ("# bucket = ", f'bucket = "{real.bucket}"'),
        ("# token_file = ", f'token_file = "{real.token_file}"'),
        ("# queue_events = ", "queue_events = 300"),
        ("# timeout_ms = 5000", "timeout_ms = 400"),
        ("parameters = { every = 5", PULSE),
    ]


def sinks(demo: DemoProcess) -> dict[str, int]:
    return demo.stages()["sinks"]


def has_everything(demo: DemoProcess) -> bool:
    """Whether the record has at least a row of whatever makes points in a demo."""
    wanted = [source for name, source in sources().items() if name not in NEVER_IN_A_DEMO]
    return all(demo.rows(source.count(), 0, 2**63 - 1)[0][0] > 0 for source in wanted)


def while_away(demo: DemoProcess, end: Callable[[], None], again: Callable[[], None]) -> dict[str, Any]:
    """Let it be away until it has cost points and orders were filled all the same; return what was counted."""
    began_ns = demo.rows("SELECT max(available_at_ns) FROM account_marks")[0][0]
    end()
    before = sinks(demo)
    demo.until(lambda: sinks(demo)["metrics_dropped"] > before["metrics_dropped"])
    # An order may be filled in parts: three fills may be of one.
    demo.until(lambda: demo.rows(TOOK, began_ns)[0][2] >= 3)
    fills, slowest_ms, orders = demo.rows(TOOK, began_ns)[0]
    away = sinks(demo)
    again()
    demo.until(lambda: sinks(demo)["points_written"] > away["points_written"])
    dropped = away["metrics_dropped"] - before["metrics_dropped"]
    return {"orders": orders, "fills": fills, "slowest_ms": float(slowest_ms), "dropped": dropped}


def rebuild(run: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "streams.entry", "rebuild", "influx", "--json", "--run", str(run), *options]
    done = subprocess.run(command, cwd=run.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.embedded
@pytest.mark.slow(seconds=40)
def test_it_trades_on_while_influxdb_is_killed_and_hangs_and_a_rebuild_fills_the_gap(
    tmp_path: Path, real_influx: RealInflux
) -> None:
    # One of its own, to be killed; where it cannot be had ``real_influx`` has said so, loudly.
    real = start_influx(tmp_path / "influxdb")
    try:
        with running_demo(tmp_path, ("--policy", "probe"), changes(real)) as demo:
            demo.until(lambda: sinks(demo).get("points_written", 0) > 1_000)
            demo.until(lambda: demo.rows("SELECT count(*) FROM fills")[0][0] >= 2)
            for name, end, again in (("killed", real.kill, real.restart), ("hangs", real.pause, real.resume)):
                told = while_away(demo, end, again)
                sys.stdout.write(f"{name}: {told}\n")
                assert told["dropped"] > 0
            demo.until(lambda: has_everything(demo), 120)
            assert demo.rows("SELECT count(*) FROM ledger_imbalance") == [(0,)]
            run = demo.run
        the_sinks_wrote = all_points(real, real.bucket)
        points = rebuild(run, "--dry-run")["points"]
        sys.stdout.write(f"points {points}, lost {points - len(the_sinks_wrote)}\n")
        said = rebuild(run)
        filled = all_points(real, real.bucket)
        assert len(filled) == said["points"] > len(the_sinks_wrote)
        kept = {identity: fields for identity, fields in filled.items() if identity in the_sinks_wrote}
        assert differing(the_sinks_wrote, kept) == "", "a rebuild changes no point"
        real.drop_bucket(real.bucket)
        real.make_bucket(real.bucket)
        rebuild(run)
        assert differing(filled, all_points(real, real.bucket)) == "", "the record alone has them all"
        assert {name for name, _, _ in filled} >= {*MEASUREMENTS.values(), OF_AN_ENTRY} - NEVER_IN_A_DEMO
        queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "influx.md").read_text(), re.DOTALL)
        assert len(queries) >= 10
        for query in queries:
            values = [
                value for one in ask(real, real.bucket, query.strip()) for row in one["values"] for value in row[1:]
            ]
            assert any(value is not None for value in values), query
    finally:
        real.kill()
