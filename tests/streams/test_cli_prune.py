"""What is pruned is what no replay within the topics' retention begins with or reads; the rest is equal to the byte."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import psycopg
import pytest
from engine_runs import CODEC, trade
from engine_toys import HOSTINGS, PARTITIONS, mark
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog
from typer.testing import CliRunner, Result

from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.retention import prune
from schemas.event import stamp_identity, stamp_position
from schemas.topics import DECISION, INGEST_TRADE, MARKET_EVENT, MARKET_MARK
from streams.cli import app
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.engine.snapshots import SnapshotPlan, retention_hours
from streams.offline.log_reader import RecomputeImpossible
from streams.offline.question import WHOLE, Question, Stretch
from streams.offline.recompute import Recomputed, recompute_shard_over

RUNNER = CliRunner()
HOSTING = replace(HOSTINGS["decider"], wall_clock=False)
MARKS = 12
S = 1_000_000_000


class Past(NamedTuple):
    """A shard with one batch per mark, whose n-th mark came at second n, and a snapshot after each."""

    dsn: str
    log: MemoryLog

    def age(self, through: int, hours: int, table: str = "shard_journal", column: str = "written_at") -> None:
        """Let the rows of the first batches be so old."""
        with psycopg.connect(self.dsn) as connection:
            aged = f"UPDATE {table} SET {column} = now() - make_interval(hours => %s) WHERE batch <= %s"
            connection.execute(aged.encode(), (hours, through))

    def age_both(self, through: int, hours: int) -> None:
        """Let journal and snapshots be so old."""
        self.age(through, hours)
        self.age(through, hours, "shard_snapshot", "created_at")

    def batches(self, table: str) -> list[int]:
        """Return which batches a table has."""
        with psycopg.connect(self.dsn) as connection:
            return [int(batch) for (batch,) in connection.execute(f"SELECT batch FROM {table} ORDER BY 1").fetchall()]

    def prune(self, *options: str) -> Result:
        """Run the command."""
        return RUNNER.invoke(app, ["prune", "--dsn", self.dsn, *options])

    def recompute(self, ask: Question = WHOLE) -> Recomputed:
        """Recompute as ``replay --verify`` does."""
        facts: dict[str, Any] = {"instrument_partitions": PARTITIONS, "settings_hash": "toy", "code_version": "1"}
        engine = EngineSettings(bootstrap="none", dsn=self.dsn, codec=CODEC, **facts)
        return recompute_shard_over(engine, HOSTING, "0", ask, self.log)


@pytest.fixture
def past(database: str) -> Past:
    migrate(database)
    log = MemoryLog()
    for number in range(1, MARKS + 1):
        event = mark(trade(1).key, number, number, number * S)
        stamp_identity(event, f"cause {number}", "experts", 0)
        stamp_position(event, "experts/0", 1, number)
        log.append((MARKET_MARK.name, 0), event.key.encode(), CODEC.encode(MARKET_MARK.name, event))

    async def run() -> None:
        facts = RunFacts("cluster", "1", "toy")
        store = ShardStore(database, ShardName("decider", "0", "test"), durable=True)
        core = ShardCore(HOSTING, "0", 0, CODEC, PARTITIONS)
        shard = OutboxShard(core, store, facts, Sender(SimpleNamespace(producer=log)), 100)
        shard.snapshots = SnapshotPlan(1e-9, 72)
        await shard.take_up(await store.claim(facts))
        running = asyncio.ensure_future(shard.run())
        async with asyncio.timeout(20):
            for record in log.lanes[MARKET_MARK.name, 0]:
                await shard.offer([record])
                while shard.committed_offsets.get(f"{MARKET_MARK.name}/0", 0) <= record.offset:
                    await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    return Past(database, log)


def test_what_is_old_and_before_the_oldest_kept_snapshot_goes_and_the_rest_is_equal(past: Past) -> None:
    whole = past.recompute()
    past.age_both(5, 73)
    said = json.loads(past.prune("--json", "--dry-run").stdout)
    assert past.batches("shard_journal") == list(range(1, MARKS + 1)), "a dry run removes nothing"
    assert past.recompute().first_difference is None
    (one,) = json.loads(past.prune("--json").stdout)
    assert said == [one | {"dry_run": True}]
    assert (one["stage"], one["shard"], one["hours"]) == ("decider", "0", 72)
    assert (one["journal_rows"], one["snapshots"], one["through_batch"]) == (5, 5, 5)
    assert one["journal_bytes"] > 0
    assert past.batches("shard_journal") == list(range(6, MARKS + 1))
    assert past.batches("shard_snapshot") == list(range(6, len(past.batches("shard_snapshot")) + 6))

    with pytest.raises(RecomputeImpossible) as refused:
        past.recompute()
    assert str(refused.value) == (
        "The journal of decider/0 was pruned up to batch 5: only what came after 1970-01-01T00:00:06.000000 on the"
        " run's clock can be replayed, with --from."
    )
    with pytest.raises(RecomputeImpossible, match="was pruned up to batch 5"):
        past.recompute(Question(Stretch(6 * S, None)))
    kept = past.recompute(Question(Stretch(6 * S + 1, None)))
    assert kept.first_difference is None
    assert (kept.inputs, kept.lead_in) == (MARKS - 6, 0)
    assert 0 < kept.matched == kept.outputs < whole.outputs
    assert "Nothing is old enough." in past.prune().stdout


def test_what_is_young_stays_though_a_snapshot_makes_it_needless(past: Past) -> None:
    past.age(9, 73)
    past.age(3, 73, "shard_snapshot", "created_at")
    (one,) = json.loads(past.prune("--json").stdout)
    assert (one["journal_rows"], one["snapshots"]) == (4, 3), "the oldest kept snapshot is that of batch 4"
    assert past.recompute(Question(Stretch(5 * S, None))).first_difference is None


def test_the_newest_snapshot_stays_however_old_it_is(past: Past) -> None:
    past.age_both(MARKS, 10_000)
    newest = past.batches("shard_snapshot")[-1]
    past.prune()
    assert past.batches("shard_snapshot") == [newest]
    assert past.batches("shard_journal") == list(range(newest + 1, MARKS + 1))


def test_without_a_snapshot_everything_stays(past: Past) -> None:
    with psycopg.connect(past.dsn) as connection:
        connection.execute("DELETE FROM shard_snapshot")
    past.age(MARKS, 10_000)
    assert "Nothing is old enough." in past.prune().stdout
    assert past.recompute().first_difference is None


def test_more_hours_may_be_kept_and_never_fewer_than_the_topics_keep(past: Past) -> None:
    past.age_both(5, 73)
    assert "Nothing is old enough." in past.prune("--keep-hours", "74").stdout
    past.age_both(5, 71)
    assert "Nothing is old enough." in past.prune("--keep-hours", "1").stdout
    past.age_both(5, 73)
    assert "5 journal rows and 5 snapshots removed" in past.prune("--keep-hours", "1").stdout


AGES = st.lists(st.integers(0, 3), min_size=MARKS, max_size=MARKS)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(AGES, AGES)
def test_whatever_the_ages_what_begins_with_a_kept_snapshot_is_equal(
    past: Past, journal: list[int], snapshots: list[int]
) -> None:
    """Ages grow with the past; each example prunes in a transaction that is taken back."""
    with psycopg.connect(past.dsn) as connection, connection.transaction(force_rollback=True):
        for table, column, ages in (
            ("shard_journal", "written_at", journal),
            ("shard_snapshot", "created_at", snapshots),
        ):
            for batch, hours in enumerate(sorted(ages, reverse=True), start=1):
                aged = f"UPDATE {table} SET {column} = now() - make_interval(hours => %s) WHERE batch = %s"
                connection.execute(aged.encode(), (hours, batch))
        before = _batches(connection)
        prune(connection, {"decider": 2}, dry_run=False)
        after = _batches(connection)
        assert after["shard_snapshot"][-1:] == before["shard_snapshot"][-1:]
        oldest = after["shard_snapshot"][0]
        assert set(range(oldest + 1, MARKS + 1)) <= set(after["shard_journal"])
        for table, ages in (("shard_journal", journal), ("shard_snapshot", snapshots)):
            young = {batch for batch, hours in enumerate(sorted(ages, reverse=True), start=1) if hours < 2}
            assert young & set(before[table]) <= set(after[table])


def _batches(connection: psycopg.Connection[Any]) -> dict[str, list[int]]:
    return {
        table: [int(batch) for (batch,) in connection.execute(f"SELECT batch FROM {table} ORDER BY 1").fetchall()]
        for table in ("shard_journal", "shard_snapshot")
    }


def test_checkpoints_outboxes_and_audits_are_not_touched(past: Past) -> None:
    tables = ("shard", "shard_state", "shard_outbox", "shard_version", "dead_letter_actions", "dead_letters")
    with psycopg.connect(past.dsn) as connection:
        connection.execute(
            "INSERT INTO dead_letter_actions (action, author, why, created_at)"
            " VALUES ('DISCARD', 'kim', 'test', now() - interval '9999 hours')"
        )

    def content() -> list[Any]:
        with psycopg.connect(past.dsn) as connection:
            return [connection.execute(f"SELECT * FROM {table}".encode()).fetchall() for table in tables]

    past.age_both(MARKS, 10_000)
    before = content()
    assert past.prune().exit_code == 0
    assert content() == before


def test_no_database_is_one_sentence_and_exit_code_2() -> None:
    refused = RUNNER.invoke(app, ["prune", "--dsn", "host=127.0.0.1 port=1 dbname=none"])
    assert refused.exit_code == 2
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_stage_is_kept_as_long_as_the_least_of_its_topics() -> None:
    assert retention_hours("risk") == MARKET_MARK.retention_hours == 72
    assert retention_hours("ingress.trade") == INGEST_TRADE.retention_hours
    assert retention_hours("ingestion") == MARKET_EVENT.retention_hours
    assert retention_hours("control") == DECISION.retention_hours == 720
    assert retention_hours("a stage of another version") is None
