"""The rights of the KafkaUsers: with them alone every worker does its work, and each of them is used by its worker."""

import time
from pathlib import Path

import pytest
from rights_in_use import WORKERS, Platform, rights_of, running_platform, summary

from infra.kafka_rights import principals
from infra.postgres.migrate import migrate
from schemas.topics import MARKET_MARK

pytestmark = [pytest.mark.kafka, pytest.mark.slow(seconds=60)]
_LIMIT_S = 180.0
NOT_IN_THIS_RUN = {
    # A stand-by asks; those who hold a partition ask about their own.
    *((f"tradermind-{name}", "DESCRIBE", "Topic", MARKET_MARK.name) for name in ("voting", "control")),
}
"""Rights that this run gives no occasion to use, each with the occasion."""


def test_each_right_is_used_and_none_is_missing(database: str, tmp_path: Path) -> None:
    migrate(database)
    granted = set().union(*(rights_of(principals()[name]) for name in WORKERS)) - NOT_IN_THIS_RUN
    with running_platform(tmp_path, database) as platform:
        platform.write_from_outside()
        platform.order_reducing()
        unused = _wait_until_used(platform, granted)
        denied = platform.decisions("Denied")
        assert not denied, summary(denied)
        assert not unused, summary(unused)
        assert platform.rows("SELECT count(*) FROM fills") > 0
    assert {name: worker.exit_code() for name, worker in platform.workers.items()} == dict.fromkeys(WORKERS, 0)


def _wait_until_used(platform: Platform, granted: set[tuple[str, str, str, str]]) -> set[tuple[str, str, str, str]]:
    limit = time.monotonic() + _LIMIT_S
    while (unused := granted - platform.decisions("Allowed")) and time.monotonic() < limit:
        platform.look_after()
        time.sleep(0.5)
    return unused
