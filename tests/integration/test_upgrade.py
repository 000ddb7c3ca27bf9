"""Two releases at once: the next takes over worker by worker while the platform trades, and one worker goes back."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from campaign import SETTINGS, SIMULATED, Platform, platform_on_fresh_topics
from next_release import NEXT, make_next_release, start_next_worker
from platform_books import (
    assert_a_reader_takes_each_event_once,
    assert_books_equal_the_exchange,
    assert_one_order_per_intent,
    more_orders,
)

from infra.servers import RealKafka
from schemas.topics import DECISION, EXPERT_VOTE, FEATURE_SNAPSHOT, ORDER_APPROVED, VOTE_TALLY
from streams.launch import WORKERS

BESIDE = "experts"
"""The worker of which both releases work at the same time, each on some of its partitions."""
DOWNSTREAM_FIRST = ("sinks", "feedback", "execution", "risk", "decider", "voting", "control", "ingestion")
WITHOUT_SHARDS = ("sinks", "control")
"""Handlers: nobody but the process itself says which version they are of."""


@pytest.fixture
def platform(tmp_path: Path, real_kafka: RealKafka, database: str) -> Iterator[Platform]:
    """The exchange and the topics of a run; its workers are started by the test."""
    with platform_on_fresh_topics(tmp_path / "run", real_kafka.bootstrap, database, SIMULATED) as made:
        yield made


@pytest.fixture
def next_tree(tmp_path: Path) -> Path:
    """The sources of the next release."""
    return make_next_release(tmp_path / "next")


@pytest.mark.kafka
@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize(
    "rolled", [("risk",), pytest.param(DOWNSTREAM_FIRST, marks=pytest.mark.campaign)], ids=["two", "all"]
)
def test_a_release_takes_over_while_the_platform_trades(
    platform: Platform, next_tree: Path, rolled: Sequence[str]
) -> None:
    run = platform
    run.start_all()
    run.until("the first orders", more_orders(run, 4))
    this = _versions(run, BESIDE)
    assert len(this) == 1

    migrated = _next_cli(next_tree, "migrate", "--dsn", run.dsn)
    assert migrated.returncode == 0 and NEXT in migrated.stdout, migrated.stderr

    _start_next(run, next_tree, BESIDE)
    run.until("both releases at work on experts", lambda: len(_versions(run, BESIDE)) == 2, 60)
    run.until("orders of both", more_orders(run, 4))
    run.stop(BESIDE)
    run.until("the next release on all of experts", lambda: len(_versions(run, BESIDE) | this) == 2, 60)
    for stage in rolled:
        _start_next(run, next_tree, stage)
        run.stop(stage)
        if stage not in WITHOUT_SHARDS:
            run.until(f"the next {stage}", lambda stage=stage: not _versions(run, stage) <= this, 60)
    run.until("orders of the next release", more_orders(run, 4))

    # One worker goes back, onto a schema and a state that the next release has written.
    run.stop("next-risk")
    run.start("risk")
    run.until("this release's risk again", lambda: _versions(run, "risk") == this, 60)
    run.until("orders of both again", more_orders(run, 4))

    _come_to_rest(run)
    run.stop(*run.workers)
    _assert_the_next_release_wrote_its_field(run)
    assert_one_order_per_intent(run)
    assert_books_equal_the_exchange(run)
    for topic in (FEATURE_SNAPSHOT, EXPERT_VOTE, VOTE_TALLY, DECISION, ORDER_APPROVED):
        assert_a_reader_takes_each_event_once(run, topic)
    assert run.count("dead_letters") == 0, run.rows("SELECT * FROM dead_letters LIMIT 3")
    assert run.rows("SELECT ballot_id, expert FROM votes GROUP BY 1, 2 HAVING count(*) > 1") == []

    with psycopg.connect(run.dsn) as connection:  # A revision after that takes away what this release needs.
        connection.execute(
            f"CREATE OR REPLACE FUNCTION oldest_release_served() RETURNS text LANGUAGE sql AS $$ SELECT '{NEXT}' $$"
            .encode()
        )  # fmt: skip
    run.start("risk")
    refused = run.workers.pop("risk")
    assert refused.popen.wait(60) == 2
    assert f"serves releases from {NEXT} on" in refused.last_lines(3)
    assert "Traceback" not in refused.log_file.read_text()


def _start_next(run: Platform, tree: Path, stage: str) -> None:
    child = start_next_worker(tree, stage, run.run_file, SETTINGS, run.directory, f"next-{stage}")
    run.workers[f"next-{stage}"] = child


def _next_cli(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streams.cli", *words]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, "--settings", str(SETTINGS)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _versions(run: Platform, stage: str) -> set[str]:
    """Return the versions of the code that hold shards of a stage."""
    return {str(version) for (version,) in run.rows(f"SELECT code_version FROM shard WHERE stage = '{stage}'")}


def _come_to_rest(run: Platform) -> None:
    feed = "ingestion" if "ingestion" in run.workers else "next-ingestion"
    run.stop(feed)
    run.come_to_rest()
    run.cancel_everything()
    run.until("an outcome of every order", lambda: run.count("orders WHERE NOT final") == 0)
    run.come_to_rest()


def _assert_the_next_release_wrote_its_field(run: Platform) -> None:
    """Both releases have read each other's states: the field is in what the next one wrote."""
    states = run.rows("SELECT value FROM shard_state WHERE stage = 'experts' AND key LIKE '%features%'")
    assert states and all(b"of_the_next_release" in bytes(value) for (value,) in states)
    assert set(WORKERS) >= {BESIDE, *DOWNSTREAM_FIRST}
