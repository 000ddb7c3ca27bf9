"""A kill reaches the venue while Kafka stands still, and with nothing alive but the database and the executor."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign import SETTINGS, Platform

from infra.kafka_remake import delete_topics
from infra.postgres.commands import Command, insert_command
from infra.servers import RealKafka
from infra.settings import load_settings
from schemas.control import ControlAction
from schemas.values import Level
from streams.topic_specs import topic_specs

CHANGES: dict[str, Any] = {
    "run.seed": 11,
    "feed.kind": "simulated",
    "grid.step_ms": 200,
    "grid.horizons_s": [1],
    # Orders that rest: there is something to cancel whenever the kill comes.
    "strategies.pulse": {
        "policy": "probe",
        "horizon_s": 1,
        "parameters": {"every": 4, "size": 0.5},
        "risk_budget": "0.02",
        "time_in_force": "GTC",
    },
    "staleness": {"mark_ms": 30_000, "market_ms": 30_000, "decision_ms": 30_000},
}


@pytest.fixture
def platform(tmp_path: Path, real_kafka: RealKafka, database: str) -> Iterator[Platform]:
    """The exchange and the topics of a run; its workers are started by the test."""
    topics = [spec.name for spec in topic_specs(load_settings(SETTINGS, {}))]
    delete_topics(real_kafka.bootstrap, topics)
    made = Platform(tmp_path / "run", real_kafka.bootstrap, database, CHANGES)
    yield made
    made.close()
    delete_topics(real_kafka.bootstrap, topics)


def _live(run: Platform) -> list[str]:
    return [order.order_id for order in run.venue_orders() if order.live]


@contextlib.contextmanager
def _standing_still(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_kill_needs_neither_kafka_nor_any_worker_but_the_executor(platform: Platform, real_kafka: RealKafka) -> None:
    run = platform
    run.start_all()
    run.until("orders that rest", lambda: len(_live(run)) > 0 and len(run.venue_orders()) > 5)
    run.kill(*(name for name in run.workers if name != "execution"))
    assert _live(run)
    with _standing_still(real_kafka.process.popen.pid):
        kill = Command("somebody", "it does what it should not", ControlAction.SET_LEVEL, level=Level.HALTED)
        insert_command(run.dsn, kill)
        run.until("every order to be cancelled", lambda: not _live(run), 20)
        known = {order.order_id for order in run.venue_orders()}
    for name in ("ingestion", "experts", "voting", "decider", "risk", "feedback", "control", "sinks"):
        run.start(name)
    # The command comes once more, by Kafka, and risk hears of it for the first time.
    run.until("a denial for the kill", lambda: run.count("order_verdicts WHERE 'KILLED' = ANY(reasons)") > 0)
    assert {order.order_id for order in run.venue_orders()} == known, "after the kill nothing has left"
    run.stop(*run.workers)
