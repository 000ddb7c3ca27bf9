"""What a worker does when its surroundings are wrong: it goes on, or it ends with one sentence and the right code."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import engine_toys
import msgspec
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from engine_runs import (
    CODEC,
    ROOT,
    Feed,
    ToyRun,
    engine_of,
    eventually,
    exit_code,
    fresh_topics,
    holders,
    text_of,
    trade,
)

from infra.kafka import client_settings, log_ends
from infra.postgres.checkpoints import Checkpoint, RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.servers import EmbeddedBroker, Launch, RealKafka, free_port, start_process
from schemas.event import derive_id, stamp_position
from schemas.topics import DECISION, MARKET_EVENT, MARKET_MARK
from streams.engine.shard import Progress
from streams.offline.log_reader import LogReader
from streams.offline.recompute import recompute_shard

MakeRun = Callable[..., ToyRun]
MakeBroker = Callable[[Mapping[str, int]], EmbeddedBroker]


@pytest.fixture
def runs(tmp_path: Path, database: str) -> Iterator[MakeRun]:
    """A function that makes a run on a broker; whatever still lives at the end is killed."""
    migrate(database)
    made: list[ToyRun] = []

    def make(bootstrap: str, **settings: object) -> ToyRun:
        made.append(ToyRun(bootstrap, database, tmp_path, dict(settings)))
        return made[-1]

    yield make
    for run in made:
        for child in run.workers.values():
            child.send(signal.SIGCONT)
        run.kill_all()


def marks(run: ToyRun) -> int:
    """Return how many marks the toy experts have written."""
    return log_ends(run.bootstrap, [(MARKET_MARK.name, 0)])[MARKET_MARK.name, 0]


def stepped(run: ToyRun) -> int:
    """Return how many records the experts' checkpoints have passed."""
    with psycopg.connect(run.dsn) as connection:
        rows = connection.execute("SELECT progress FROM shard WHERE stage = 'experts' AND progress <> ''").fetchall()
    progress = [msgspec.msgpack.decode(bytes(row[0]), type=Progress) for row in rows]
    return sum(sum(one.next_offsets.values()) for one in progress)


def assert_one_sentence(text: str) -> None:
    """A person reads this: one line, no traceback."""
    assert "Traceback" not in text
    assert len([line for line in text.splitlines() if line.strip()]) == 1, text


@pytest.mark.slow
def test_no_broker_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    run = ToyRun(f"127.0.0.1:{free_port()}", "dbname=none", tmp_path, {})
    child = run.start("experts")
    assert exit_code(child, 60) == 2
    assert f"No Kafka broker answers at {run.bootstrap}" in text_of(child)
    assert_one_sentence(text_of(child))


@pytest.mark.embedded
def test_no_database_ends_with_1_and_one_sentence(embedded_broker: MakeBroker, tmp_path: Path) -> None:
    broker = embedded_broker(engine_toys.topic_partitions())
    run = ToyRun(broker.bootstrap, f"host=127.0.0.1 port={free_port()} dbname=none", tmp_path, {"embedded": True})
    child = run.start("experts")
    assert exit_code(child, 90) == 1
    assert "Postgres did not answer" in text_of(child)
    assert_one_sentence(text_of(child))


@pytest.mark.embedded
def test_a_worker_comes_up_while_the_broker_is_away_that_is_named_first(
    embedded_broker: MakeBroker, runs: MakeRun
) -> None:
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(f"127.0.0.1:{free_port()},{broker.bootstrap}", embedded=True)
    run.start("experts")
    Feed(broker.bootstrap).trades(10)
    eventually("all marks", lambda: marks(run) == 10, run, timeout_s=30)
    assert run.stop_all() == {"experts": 0}


@pytest.mark.embedded
def test_a_rescale_that_is_under_way_ends_with_2_and_one_sentence(
    embedded_broker: MakeBroker, runs: MakeRun, database: str
) -> None:
    """The command line looks before it starts a worker; one that was started past it, or during it, says the same."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO topic_rescales (partitions_before, partitions_after, step, cluster_id, author, why)"
            " VALUES (2, 3, 'CLAIMED', 'c', 'kim', 'test')"
        )
    broker = embedded_broker(engine_toys.topic_partitions())
    child = runs(broker.bootstrap, embedded=True).start("experts")
    assert exit_code(child, 60) == 2
    assert "a rescale is under way: finish it with `tradermind topics rescale`." in text_of(child)
    assert_one_sentence(text_of(child))


@pytest.mark.embedded
def test_sigterm_writes_a_checkpoint_and_another_cluster_is_refused(embedded_broker: MakeBroker, runs: MakeRun) -> None:
    broker = embedded_broker(engine_toys.topic_partitions())
    # Within an hour no checkpoint comes by itself: what stands in the database afterwards came by SIGTERM.
    run = runs(broker.bootstrap, embedded=True, checkpoint_interval_s=3600.0)
    child = run.start("experts")
    Feed(broker.bootstrap).trades(100)
    eventually("all marks", lambda: marks(run) == 100, run)
    assert stepped(run) == 0
    child.send(signal.SIGTERM)
    assert exit_code(child) == 0, text_of(child)
    assert stepped(run) == 100

    other = embedded_broker(engine_toys.topic_partitions())
    moved = ToyRun(other.bootstrap, run.dsn, run.directory, run.settings)
    refused = moved.start("experts", slot="moved")
    assert exit_code(refused, 60) == 2
    assert broker.cluster_id in text_of(refused)
    assert other.cluster_id in text_of(refused)
    assert_one_sentence(text_of(refused))
    assert stepped(run) == 100


@pytest.mark.embedded
@pytest.mark.parametrize(("version", "written"), [("1", 200), ("2", 100)])
def test_another_version_does_not_send_again_what_the_former_had_sent(
    embedded_broker: MakeBroker, runs: MakeRun, version: str, written: int
) -> None:
    """The same version repeats itself, since it can do so to the byte; another one keeps silent instead."""
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True, checkpoint_interval_s=3600.0)
    run.start("experts")
    feed = Feed(broker.bootstrap)
    feed.trades(100)
    eventually("all marks", lambda: marks(run) == 100, run)
    run.kill_all()
    feed.trades(50)
    child = run.start("experts", code_version=version)
    eventually("the new marks", lambda: marks(run) >= written + 50, run)
    assert run.stop_all() == {"experts": 0}
    assert marks(run) == written + 50
    assert stepped(run) == 150, "its state saw all of them"
    assert ("goes on with code 2" in text_of(child)) == (version == "2")


@pytest.mark.embedded
def test_bad_records_become_dead_letters_until_the_line_stops(embedded_broker: MakeBroker, runs: MakeRun) -> None:
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True)
    child = run.start("experts")
    feed = Feed(broker.bootstrap)
    feed.raw(MARKET_EVENT.name, b"\xffgarbage", 0, b"key", [("trace", b"\x00\x01"), ("again", b"1"), ("again", b"2")])
    feed.trades(20)
    eventually("marks of the good ones", lambda: marks(run) == 20, run)
    letter = LogReader(run.bootstrap, (MARKET_EVENT.dead_letters, 0)).next()
    assert letter is not None
    assert (letter.key, letter.value) == (b"key", b"\xffgarbage")
    assert list(letter.headers)[:3] == [("trace", b"\x00\x01"), ("again", b"1"), ("again", b"2")]
    why = {name.removeprefix("__tradermind.errors."): value for name, value in list(letter.headers)[3:]}
    assert (why["reason"], why["topic"], why["offset"]) == (b"MALFORMED", MARKET_EVENT.name.encode(), b"0")

    for _ in range(30):
        feed.raw(MARKET_EVENT.name, b"drain", 0)
    feed.flush()
    assert exit_code(child) == 1
    assert f"Too many bad records on {MARKET_EVENT.name}" in text_of(child)
    assert_one_sentence(text_of(child))
    again = run.start("experts")
    assert exit_code(again) == 1, "nothing was acknowledged past it"


@pytest.mark.embedded
def test_an_unknown_type_on_a_money_topic_stops_its_reader(embedded_broker: MakeBroker, runs: MakeRun) -> None:
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True)
    child = run.start("feedback")
    feed = Feed(broker.bootstrap)
    value = CODEC.encode(MARKET_EVENT.name, trade(1))
    feed.raw(DECISION.name, value, 0)
    feed.flush()
    assert exit_code(child) == 1
    assert "Trade on tradermind.decision.target.v1: this version does not know it" in text_of(child)
    assert_one_sentence(text_of(child))


def put_marks(feed: Feed, first: int, count: int) -> None:
    """Write marks as experts would."""
    for number in range(first, first + count):
        event = engine_toys.mark(f"TOY:I{number % 7}", number, number, number)
        event = msgspec.structs.replace(event, event_id=derive_id("toy", "mark", number))
        stamp_position(event, "experts/toy", 1, number)
        feed.raw(MARKET_MARK.name, CODEC.encode(MARKET_MARK.name, event), 0, event.key.encode())
    feed.flush()


def decisions(run: ToyRun) -> list[int]:
    """Return the numbers of the decisions that a reader takes, in order."""
    reader = LogReader(run.bootstrap, (DECISION.name, 0))
    numbers: list[int] = []
    while (record := reader.next()) is not None:
        event = CODEC.decode(record.topic, record.value)
        if not numbers or event.seq > numbers[-1]:
            assert event.mid == event.seq - 1, "decision n is about mark n"
            numbers.append(event.seq)
    reader.close()
    return numbers


@pytest.mark.embedded
def test_a_worker_whose_shard_was_claimed_ends_with_1_and_writes_nothing_more(
    embedded_broker: MakeBroker, runs: MakeRun
) -> None:
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True)
    older = run.start("decider")
    feed = Feed(broker.bootstrap)
    put_marks(feed, 0, 50)
    eventually("first decisions", lambda: len(decisions(run)) == 50, run)
    claimed = asyncio.run(claim(run, "decider"))
    put_marks(feed, 50, 50)
    assert exit_code(older) == 1
    assert "decider/0 belongs to another worker now" in text_of(older)
    assert_one_sentence(text_of(older))
    assert decisions(run) == list(range(1, 51))
    assert asyncio.run(claim(run, "decider")).batch == claimed.batch


@pytest.mark.embedded
def test_a_worker_that_cannot_say_why_it_ends_ends_all_the_same(embedded_broker: MakeBroker, runs: MakeRun) -> None:
    """Where its log goes the disk is full: it must neither live on without its shard nor trade."""
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True)
    arguments = {"stages": ["decider"], "bootstrap": run.bootstrap, "dsn": run.dsn, "embedded": True}
    mute = start_process(Launch("mute", engine_toys.command(arguments), Path("/dev/full"), {"PYTHONPATH": str(ROOT)}))
    try:
        feed = Feed(broker.bootstrap)
        put_marks(feed, 0, 50)
        eventually("first decisions", lambda: len(decisions(run)) == 50, run)
        asyncio.run(claim(run, "decider"))
        put_marks(feed, 50, 50)
        assert mute.popen.wait(30) == 1
        assert decisions(run) == list(range(1, 51))
    finally:
        mute.kill()


async def claim(run: ToyRun, stage: str) -> Checkpoint:
    """Claim a stage's only shard, as another worker would."""
    store = ShardStore(run.dsn, ShardName(stage, "0", "the test"), durable=True)
    checkpoint = await store.claim(RunFacts("", "", ""))
    await store.close()
    return checkpoint


@pytest.mark.embedded
def test_a_worker_that_slept_through_its_replacement_doubles_nothing(
    embedded_broker: MakeBroker, runs: MakeRun
) -> None:
    """Awake again it either finds its shard lost, and ends, or joins anew and stands in line."""
    broker = embedded_broker(engine_toys.topic_partitions())
    run = runs(broker.bootstrap, embedded=True)
    older = run.start("decider", slot="older")
    feed = Feed(broker.bootstrap)
    put_marks(feed, 0, 50)
    eventually("first decisions", lambda: len(decisions(run)) == 50, run)
    ((first_holder, first_epoch),) = holders(run.dsn, "decider")
    older.send(signal.SIGSTOP)
    put_marks(feed, 50, 50)
    run.start("decider", slot="newer")
    eventually("decisions of the newer", lambda: len(decisions(run)) == 100, run)
    ((holder, epoch),) = holders(run.dsn, "decider")
    assert holder != first_holder
    assert epoch > first_epoch
    del run.workers["older"]
    older.send(signal.SIGCONT)
    put_marks(feed, 100, 50)
    eventually("decisions after the older's return", lambda: decisions(run) == list(range(1, 151)), run)
    if not older.alive():
        assert exit_code(older) == 1
        assert "belongs to another worker now" in text_of(older)
    older.kill()
    run.kill_all()
    result = asyncio.run(recompute_shard(engine_of(run), engine_toys.HOSTINGS["decider"], "0"))
    assert result.first_difference is None
    assert result.matched == 150


@pytest.fixture
def kafka(real_kafka: RealKafka) -> Iterator[RealKafka]:
    """Real Kafka with the platform's topics, empty."""
    with fresh_topics(real_kafka.bootstrap):
        yield real_kafka


@pytest.mark.kafka
def test_a_trimmed_log_ends_with_2_and_one_sentence(kafka: RealKafka, runs: MakeRun) -> None:
    run = runs(kafka.bootstrap)
    feed = Feed(kafka.bootstrap)
    child = run.start("experts", instance_id="experts")
    feed.trades(100)
    eventually("all marks", lambda: marks(run) == 100, run)
    child.send(signal.SIGTERM)
    assert exit_code(child, 30) == 0
    del run.workers["experts"]
    feed.trades(100)
    ends = log_ends(run.bootstrap, [(MARKET_EVENT.name, number) for number in range(engine_toys.PARTITIONS)])
    cut = [TopicPartition(topic, number, end - 1) for (topic, number), end in ends.items()]
    admin = AdminClient(client_settings(run.bootstrap))  # Its answers die with it.
    for trimmed in admin.delete_records(cut).values():
        trimmed.result(timeout=30)
    again = run.start("experts", instance_id="experts")
    assert exit_code(again) == 2
    assert "records are missing" in text_of(again)
    assert_one_sentence(text_of(again))


@pytest.mark.kafka
def test_one_of_two_members_has_all_and_the_other_takes_over(kafka: RealKafka, runs: MakeRun) -> None:
    """A shard's topics are never dealt out to two; an orderly stop hands over at once."""
    run = runs(kafka.bootstrap, session_timeout_s=6.0)
    slots = {slot: run.start("decider", slot=slot, instance_id=None) for slot in ("one", "two")}
    feed = Feed(kafka.bootstrap)
    put_marks(feed, 0, 100)
    eventually("decisions", lambda: len(decisions(run)) == 100, run)
    time.sleep(2.0)
    before = holders(run.dsn, "decider")
    time.sleep(2.0)
    assert holders(run.dsn, "decider") == before, "nobody takes it from the other"
    ((holder, _),) = before
    active = next(slot for slot, child in slots.items() if holder.endswith(f"-{child.pid}"))
    del run.workers[active]
    slots[active].send(signal.SIGTERM)
    assert exit_code(slots[active], 30) == 0
    put_marks(feed, 100, 100)
    eventually("decisions of the standby", lambda: decisions(run) == list(range(1, 201)), run, 20)
    ((after, _),) = holders(run.dsn, "decider")
    assert after != holder
