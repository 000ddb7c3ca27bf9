"""Other systems write two thousand records a second into a running platform: each has its one effect, and is seen."""

import sys
from pathlib import Path

import pytest
from other_systems import check, load, told, watched_demo

RATE = 2_000
SECONDS = 8


@pytest.mark.kafka
@pytest.mark.slow(seconds=45)
@pytest.mark.usefixtures("other_clients", "prometheus_programs")
def test_two_thousand_records_a_second_by_kcat_and_java(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watched_demo(tmp_path) as (demo, prometheus):
        found = load(demo, prometheus, RATE, SECONDS)
    check(found)
    assert found.lag_max < 2 * RATE * SECONDS / 3
    with capsys.disabled():
        sys.stdout.write(f"\n{told(found)}\n")
