"""An executor that was stopped, replaced and goes on neither writes nor sends; `make test-split-brain`: 50 runs."""

from pathlib import Path

import pytest
from split_brain import Way, report, rivals_on

from infra.servers import RealKafka


@pytest.mark.kafka
@pytest.mark.slow(seconds=25)
def test_two_executors_make_one_order_of_each_intent(tmp_path: Path, real_kafka: RealKafka, database: str) -> None:
    """On a venue that knows no epochs: the age of its requests is all that stops the first."""
    with rivals_on(tmp_path / "run", real_kafka.bootstrap, database, seed=5, fences_epochs=False) as rivals:
        rivals.once(Way(held=True, waits=False, early=False))
        toll = rivals.finish()
    assert toll.violations == 0, report(toll)
    assert toll.late_requests, "a run in which nothing came late proves nothing"
