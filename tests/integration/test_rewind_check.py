"""The look at Kafka and at the database before a shard is claimed, and what a restore finds on Kafka, on a broker."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import engine_toys
import msgspec
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from engine_toys import HOSTINGS
from trading_desk import Desk

from infra.kafka import client_settings, log_ranges
from infra.kafka_watermarks import watermarks
from infra.postgres.migrate import migrate
from infra.postgres.rescales import ShardRow
from infra.servers import EmbeddedBroker
from infra.settings import load_settings
from schemas.event import derive_id, stamp_position
from schemas.topics import DECISION, EXPERT_ALERT, MARKET_MARK, ORDER_APPROVED
from streams.composition import compose
from streams.engine.ports import EngineSettings, WorkerFailed
from streams.engine.rewind import Cleared, Hosted, RewindCheck
from streams.engine.shard import Progress
from streams.restore import RestoreOrder, Restoring
from streams.restore_money import MoneyMending

MakeBroker = Callable[[Mapping[str, int]], EmbeddedBroker]
CODEC = engine_toys.toy_codec()
RUN = compose(load_settings(Path(__file__).parents[2] / "tradermind.toml"))
MARKS, DECISIONS, APPROVED = f"{MARKET_MARK.name}/0", f"{DECISION.name}/0", f"{ORDER_APPROVED.name}/0"
WRITTEN = 40
DECIDER = Hosted(HOSTINGS["decider"], "0", ((MARKET_MARK.name, 0), (EXPERT_ALERT.name, 0)))


@dataclass
class Scene:
    """A broker on which the toy decider has made decisions, and a database that says what the test wants."""

    bootstrap: str
    cluster_id: str
    dsn: str

    @property
    def engine(self) -> EngineSettings:
        """What a worker would be told."""
        facts: dict[str, Any] = {"settings_hash": "toy", "code_version": "1", "codec": CODEC}
        return EngineSettings(bootstrap=self.bootstrap, dsn=self.dsn, instrument_partitions=2, **facts)

    def checkpoint(self, progress: Progress | None) -> None:
        """Put the decider's checkpoint where it shall be, or nowhere."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute("DELETE FROM shard")
            if progress is not None:
                connection.execute(
                    "INSERT INTO shard (stage, shard, epoch, holder, holder_pid, cluster_id, generation, code_version,"
                    " settings_hash, progress, updated_at)"
                    " VALUES ('decider', '0', 1, '', 0, %s, 1, '1', 'toy', %s, now() - interval '1 hour')",
                    (self.cluster_id, msgspec.msgpack.encode(progress)),
                )

    def commit(self, offset: int) -> None:
        """Let the decider's group have committed an offset of the marks."""
        consumer = Consumer({**client_settings(self.bootstrap), "group.id": "tradermind.decider"})
        consumer.commit(offsets=[TopicPartition(MARKET_MARK.name, 0, offset)], asynchronous=False)
        consumer.close()

    def look(self) -> Cleared:
        """Do what a worker does before it claims."""
        return asyncio.run(RewindCheck(self.engine, "tradermind.decider").refuse_rewound([DECIDER]))["decider", "0"]


@pytest.fixture
def scene(embedded_broker: MakeBroker, database: str) -> Scene:
    """A broker with marks, the decisions about them, and nothing else."""
    migrate(database)
    broker = embedded_broker(engine_toys.topic_partitions())
    producer = Producer(client_settings(broker.bootstrap))
    stage, state = engine_toys.ToyDecider(), engine_toys.ShardState()
    for number in range(WRITTEN):
        mark = engine_toys.mark("TOY:I1", number + 1, number, number + 1)
        mark = msgspec.structs.replace(mark, event_id=derive_id("toy", "mark", number))
        stamp_position(mark, "experts/toy", 1, number)
        (decision,) = stage.step(state, mark)[1]
        decision = msgspec.structs.replace(decision, event_id=derive_id("toy", "decision", number))
        stamp_position(decision, "decider/0", 1, number + 1)
        for topic, event in ((MARKET_MARK, mark), (DECISION, decision)):
            producer.produce(topic.name, CODEC.encode(topic.name, event), partition=0)
    assert producer.flush(30) == 0
    return Scene(broker.bootstrap, broker.cluster_id, database)


def _progress(read: int, numbered: int, end: int) -> Progress:
    return Progress(next_offsets={MARKS: read}, numbers={DECISIONS: numbered}, output_ends={DECISIONS: end})


@pytest.mark.embedded
def test_what_is_in_flight_is_no_rewind_and_what_the_database_has_forgotten_is(scene: Scene) -> None:
    scene.checkpoint(_progress(WRITTEN, WRITTEN, WRITTEN))
    # The next time it looks from there: not at the whole of a log, say, in which it has never written.
    assert scene.look().output_ends[DECISIONS] == WRITTEN
    scene.checkpoint(_progress(WRITTEN, WRITTEN, 0))
    scene.look()
    scene.checkpoint(_progress(WRITTEN, WRITTEN + 5, 7))
    scene.look()
    scene.checkpoint(_progress(20, 20, 20))
    with pytest.raises(WorkerFailed, match="holds at offset 20 number 21 of generation 1 of decider/0") as refused:
        scene.look()
    assert refused.value.exit_code == 2
    scene.checkpoint(None)
    with pytest.raises(WorkerFailed, match="holds at offset 0 number 1 of generation 1"):
        scene.look()

    scene.commit(30)
    scene.checkpoint(_progress(30, WRITTEN, WRITTEN))
    scene.look()
    scene.checkpoint(_progress(29, WRITTEN, WRITTEN))
    with pytest.raises(WorkerFailed, match=r"stands at offset 29 of .*, but it had come to 30") as refused:
        scene.look()
    assert refused.value.exit_code == 2
    scene.checkpoint(None)
    with pytest.raises(WorkerFailed, match="This database knows nothing of decider/0"):
        scene.look()

    order = RestoreOrder(author="test", why="test", quiet_s=0.1)
    stages = [HOSTINGS[name] for name in ("experts", "decider", "feedback")]
    assert Restoring(scene.engine, stages, order, lambda _: None).run().report["shards"] == 4
    scene.look()


@pytest.mark.embedded
def test_a_restore_takes_up_each_order_that_was_approved_since_once(scene: Scene) -> None:
    desk = Desk()
    producer = Producer(client_settings(scene.bootstrap))
    account = sorted(RUN.settings.accounts)[0]
    strategy = next(name for name, item in RUN.settings.strategies.items() if item.account == account)
    facts: dict[str, Any] = {"account": account, "strategy": strategy, "instrument": sorted(RUN.fed)[0]}
    # Written again after a kill, and cancels without an order: neither is an order of its own.
    for number in (1, 2, 3, 3, 4):
        approval = desk.approval(f"{number:032x}", **facts, quantity=0 if number == 4 else 10**6)
        approval = msgspec.structs.replace(approval, event_id=derive_id("toy", "approval", number))
        stamp_position(approval, "risk/0", 1, number)
        producer.produce(ORDER_APPROVED.name, CODEC.encode(ORDER_APPROVED.name, approval), partition=0)
    assert producer.flush(30) == 0
    before = Progress(next_offsets={APPROVED: 1})
    rows = {
        (stage, "0"): ShardRow(stage, "0", 1, 1, 1, 1, msgspec.msgpack.encode(before), "c", "1", "toy", {})
        for stage in ("execution", "risk", "feedback")
    }
    mending = MoneyMending(RUN, scene.engine, RestoreOrder(author="test", why="test"))
    ranges = log_ranges(scene.bootstrap, [(ORDER_APPROVED.name, 0)])
    assert ranges == watermarks(scene.bootstrap, [(ORDER_APPROVED.name, 0)])
    _, report = mending.states(cast(Any, None), rows, ranges)
    assert report["orders"] == [f"{number:032x}" for number in (2, 3)]
