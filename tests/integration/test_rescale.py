"""A rescale on real Kafka, killed after every one of its steps: each state is once where it belongs, none is lost."""

import asyncio
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import engine_toys
import msgspec
import psycopg
import pytest
import rescale_toys
from confluent_kafka import Producer
from engine_runs import CODEC, ROOT, effects, trade

from infra.kafka import client_settings, cluster_id, log_ends, topic_partitions
from infra.kafka_remake import delete_topics
from infra.kafka_topics import mend_topics
from infra.postgres.checkpoints import ClaimRefused, RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.postgres.rescales import Rescale, why_no_worker_may_start
from infra.servers import ChildProcess, Launch, RealKafka, start_process
from infra.settings import load_settings
from infra.topic_specs import keyed_topics, topic_specs
from schemas.event import ORDINALS_PER_OFFSET, Heartbeat, stamp_identity, stamp_position
from schemas.partition import partition_of
from schemas.topics import EXPERT_VOTE, FEATURE_SNAPSHOT, MARKET_EVENT, MARKET_MARK, TOPICS
from streams.engine.shard import Progress
from streams.rescale_state import RescaleRefused

STAGES = ["experts", "voting", "decider", "feedback"]
HALF = 350


class Died(BaseException):
    """The command ended in the middle: nothing of it may catch this and go on."""


def _die() -> NoReturn:
    raise Died


class Toys:
    """One worker that hosts all stages, a feed, and the command."""

    def __init__(self, bootstrap: str, dsn: str, directory: Path) -> None:
        self.bootstrap, self.dsn, self.directory = bootstrap, dsn, directory
        self.sent = 0
        self.lives = 0

    def worker(self, partitions: int) -> ChildProcess:
        self.lives += 1
        arguments: dict[str, Any] = {"stages": STAGES, "instrument_partitions": partitions}
        program = rescale_toys.command("worker", arguments | {"bootstrap": self.bootstrap, "dsn": self.dsn})
        log = self.directory / f"worker.{self.lives}.log"
        return start_process(Launch("worker", program, log, {"PYTHONPATH": str(ROOT)}))

    def rescale(self, partitions: int, **more: Any) -> Rescale | None:
        """Run the command here; ``die_after`` a step it ends by an exception that nothing of it catches."""
        arguments = {"partitions": partitions, "bootstrap": self.bootstrap, "dsn": self.dsn, **more}
        return rescale_toys.toy_rescaling(arguments, _die).run()

    def killed_rescale(self, partitions: int, step: str) -> int:
        """Run the command as a process that ends after a step without another instruction; return its exit code."""
        arguments = {"partitions": partitions, "bootstrap": self.bootstrap, "dsn": self.dsn, "die_after": step}
        command = rescale_toys.command("rescale", arguments)
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=ROOT, timeout=120, env=environment, check=False).returncode

    def feed(self, count: int, partitions: int) -> None:
        producer = Producer({**client_settings(self.bootstrap), "enable.idempotence": True})
        for number in range(self.sent, self.sent + count):
            event = trade(number)
            value = CODEC.encode(MARKET_EVENT.name, event)
            place = partition_of(event.key, partitions)
            producer.produce(MARKET_EVENT.name, value, key=event.key.encode(), partition=place)
        assert producer.flush(30) == 0
        self.sent += count

    def settle(self, worker: ChildProcess, partitions: int) -> None:
        """Wait until every input has had its effect and nothing waits to be sent; then stop in order."""
        deadline = time.monotonic() + 60
        while not (self.has_read_all(partitions) and self.decisions() == self.sent):
            assert worker.alive(), worker.last_lines(20)
            assert time.monotonic() < deadline, (self.decisions(), self.sent, worker.last_lines(20))
            time.sleep(0.2)
        time.sleep(0.5)
        worker.send(15)
        assert worker.popen.wait(20) == 0, worker.last_lines(20)

    def has_read_all(self, partitions: int) -> bool:
        """Tell whether the checkpoints of all keyed topics are at their logs' ends and no outbox has a row."""
        slots = [(topic.name, number) for topic in keyed_topics() for number in range(partitions)]
        ends = {f"{topic}/{number}": end for (topic, number), end in log_ends(self.bootstrap, slots).items() if end}
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("SELECT progress FROM shard WHERE progress <> ''").fetchall()
            unsent = connection.execute("SELECT count(*) FROM shard_outbox").fetchone()
        read: dict[str, int] = {}
        for (progress,) in rows:
            read |= msgspec.msgpack.decode(bytes(progress))["next_offsets"]
        return unsent == (0,) and all(read.get(lane) == end for lane, end in ends.items())

    def decisions(self) -> int:
        return sum(count for key, count in effects(self.dsn).items() if key.startswith("Decision:"))

    def states(self, stage: str) -> dict[str, tuple[str, engine_toys.Tally]]:
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("SELECT key, shard, value FROM shard_state WHERE stage = %s", (stage,)).fetchall()
        assert len({key for key, _, _ in rows}) == len(rows), "a key lies in two shards"
        return {key: (shard, msgspec.msgpack.decode(bytes(v), type=engine_toys.Tally)) for key, shard, v in rows}


def _hold_to_truth(toys: Toys, partitions: int) -> None:
    """Every trade counted once and in order, every effect once, every state where its instrument belongs."""
    truth: dict[str, engine_toys.Tally] = {}
    for number in range(toys.sent):
        event = trade(number)
        truth[event.key] = truth.get(event.key, engine_toys.Tally()).after(event.trade_id)
    experts = toys.states("experts")
    assert {key: tally for key, (_, tally) in experts.items()} == truth
    assert {key: shard for key, (shard, _) in experts.items()} == {
        key: f"{MARKET_EVENT.name}/{partition_of(key, partitions)}" for key in truth
    }
    voting = toys.states("voting")
    scores = {key.removesuffix("/ExpertScore"): tally.count for key, (_, tally) in voting.items() if "Score" in key}
    assert scores == {key: tally.count for key, tally in truth.items()}, "one score for each trade"
    bars = {key.removesuffix("/Bar"): tally.count for key, (_, tally) in voting.items() if "Bar" in key}
    assert bars == {key: tally.count // engine_toys.BAR_EVERY for key, tally in truth.items()}
    for key, (shard, _) in voting.items():
        assert shard == str(partition_of(key.partition("/")[0], partitions))
    counted = Counter({key: count for key, count in effects(toys.dsn).items() if ":" in key})
    assert counted == Counter(
        {f"{kind}:{number}": 1 for kind in ("Decision", "MarketMark") for number in range(toys.sent)}
    )


@pytest.mark.kafka
@pytest.mark.slow
def test_killed_after_each_step_a_rescale_is_gone_on_with_and_nothing_is_lost(
    real_kafka: RealKafka, database: str, tmp_path: Path
) -> None:
    at = real_kafka.bootstrap
    specs = topic_specs(load_settings(None, {"kafka.instrument_partitions": 2}))
    delete_topics(at, [spec.name for spec in specs])
    mend_topics(at, specs)
    migrate(database)
    toys = Toys(at, database, tmp_path)
    try:
        _rescale_a_run(toys, at)
    finally:
        delete_topics(at, [spec.name for spec in specs])


def _rescale_a_run(toys: Toys, at: str) -> None:
    _capture_that_was_killed(toys, at)
    worker = toys.worker(2)
    toys.feed(HALF, 2)
    while toys.decisions() == 0:
        assert worker.alive(), worker.last_lines(20)
        time.sleep(0.2)
    with pytest.raises(RescaleRefused, match="has members"):
        toys.rescale(5, departure_s=1)
    toys.settle(worker, 2)
    _hold_to_truth(toys, 2)

    with pytest.raises(RescaleRefused, match="The sinks have read"):
        toys.rescale(5, without_sinks=False)
    with pytest.raises(RescaleRefused, match="ingestion/a-capture has written more than its checkpoint knows"):
        toys.rescale(5)
    _keep_capture(toys.dsn, 6)
    assert why_no_worker_may_start(toys.dsn) is None, "a refusal leaves nothing behind"

    for step in ("CLAIMED", "MOVED"):
        assert toys.killed_rescale(5, step) == 9
        assert why_no_worker_may_start(toys.dsn), "until it is finished no worker may start"
        with pytest.raises(ClaimRefused, match="a rescale is under way"):
            _claim(toys.dsn)
    with pytest.raises(RescaleRefused, match="half made"):
        toys.rescale(3)
    for step in (f"DELETED {FEATURE_SNAPSHOT.name}", f"MADE {MARKET_EVENT.name}", "MADE"):
        with pytest.raises(Died):
            toys.rescale(5, die_after=step)
        assert why_no_worker_may_start(toys.dsn)
    done = toys.rescale(5)
    assert done is not None and done.step == "DONE"
    assert why_no_worker_may_start(toys.dsn) is None
    there = topic_partitions(at)
    assert {there[topic.name] for topic in keyed_topics()} == {there[topic.dead_letters] for topic in keyed_topics()}
    assert {there[topic.name] for topic in keyed_topics()} == {5}
    assert {there[topic.name] for topic in TOPICS.values() if topic.public} == {2}, "others' topics stay"
    _hold_to_truth(toys, 5)
    _knows_the_ends_that_go_on(toys)
    assert toys.rescale(5) is None, "done is done"

    worker = toys.worker(5)
    toys.feed(HALF, 5)
    toys.settle(worker, 5)
    _hold_to_truth(toys, 5)
    assert toys.rescale(3) is not None
    _hold_to_truth(toys, 3)
    worker = toys.worker(3)
    toys.feed(HALF, 3)
    toys.settle(worker, 3)
    _hold_to_truth(toys, 3)
    with psycopg.connect(toys.dsn) as connection:
        audit = connection.execute(
            "SELECT partitions_before, partitions_after, step, author, why FROM topic_rescales ORDER BY ordinal"
        ).fetchall()
        assert audit == [(2, 5, "DONE", "test", "test"), (5, 3, "DONE", "test", "test")]
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("DELETE FROM topic_rescales")
    toys.feed(1, 3)
    with pytest.raises(RescaleRefused, match=f"experts has read {MARKET_EVENT.name}"):
        toys.rescale(5)


def _capture_that_was_killed(toys: Toys, at: str) -> None:
    """A capture whose checkpoint says 5 records, and which has already written what follows from the sixth."""
    with psycopg.connect(toys.dsn) as connection:
        connection.execute(
            "INSERT INTO shard (stage, shard, epoch, holder, holder_pid, cluster_id, generation, code_version,"
            " settings_hash, progress, updated_at)"
            " VALUES ('ingestion', 'a-capture', 1, '', 0, %s, 1, '1', 'toy', '', now() - interval '1 hour')",
            (cluster_id(at),),
        )
    _keep_capture(toys.dsn, 5)
    beat = Heartbeat(key="expert.vote", event_time_ns=1, available_at_ns=1)
    stamp_identity(beat, "capture", "ingestion", 0)
    stamp_position(beat, "ingestion/a-capture", 1, 5 * ORDINALS_PER_OFFSET)
    producer = Producer(client_settings(at))
    producer.produce(EXPERT_VOTE.name, CODEC.encode(EXPERT_VOTE.name, beat), partition=1)
    assert producer.flush(30) == 0


def _keep_capture(dsn: str, records: int) -> None:
    progress = msgspec.msgpack.encode(Progress(external=records))
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE shard SET progress = %s WHERE stage = 'ingestion'", (progress,))


def _knows_the_ends_that_go_on(toys: Toys) -> None:
    """Else each shard would read all marks there ever were, before it begins: it has other settings than the former."""
    with psycopg.connect(toys.dsn) as connection:
        rows = connection.execute("SELECT progress FROM shard WHERE stage = 'experts'").fetchall()
    marks = log_ends(toys.bootstrap, [(MARKET_MARK.name, 0)])[MARKET_MARK.name, 0]
    assert marks == toys.sent
    for (progress,) in rows:
        ends = msgspec.msgpack.decode(bytes(progress))["output_ends"]
        assert ends[f"{MARKET_MARK.name}/0"] == marks
        assert not any(lane.startswith(FEATURE_SNAPSHOT.name) for lane in ends)


def _claim(dsn: str) -> None:
    async def claim() -> None:
        store = ShardStore(dsn, ShardName("decider", "0", "stray"), durable=True)
        try:
            await store.claim(RunFacts("", "", ""))
        finally:
            await store.close()

    asyncio.run(claim())
