"""A worker that ends at its n-th SQL statement, on either side of it: nothing lost, nothing doubled.

A sample; ``make test-crash-points`` does every statement.
"""

import sys
from pathlib import Path

import pytest
from sql_crash_points import lives_on, sweep

from infra.servers import RealKafka

POINTS = 3


@pytest.mark.kafka
def test_a_worker_that_ends_at_a_statement_loses_and_doubles_nothing(
    real_kafka: RealKafka, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lives_on(real_kafka.bootstrap, database, tmp_path) as lives:
        counted = sweep(lives, POINTS)
    assert counted.clean, counted
    assert counted.ended == POINTS
    with capsys.disabled():
        sys.stdout.write(f"\n{counted}. All of them: make test-crash-points\n")
