"""What a venue says is not under our control: a word that a stage refuses ends no worker, and is a dead letter."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import psycopg
from engine_runs import CODEC, trade
from engine_toys import HOSTINGS, PARTITIONS, ToyDecider, mark
from memory_log import MemoryLog
from msgspec.structs import replace as replaced

from agents.stage import ShardState
from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from infra.postgres.dead_letters import LetterFilter, find_letters
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from infra.postgres.queries import open_record
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.event import Event, stamp_identity, stamp_position
from schemas.orders import ReportKind, VenueReport
from schemas.topics import DECISION, MARKET_MARK
from streams.engine.dead_letter import ERRORS
from streams.engine.outbox import OutboxShard
from streams.engine.ports import EngineSettings
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.offline.question import WHOLE
from streams.offline.recompute import recompute_shard_over
from streams.sinks import dead_letter_row

REPORT = VenueReport(
    key="main",
    event_time_ns=1,
    available_at_ns=5_000_000,
    event_id="r1",
    order_id="a stranger's",
    instrument="SIM:A",
    kind=ReportKind.ACCEPTED,
)
LETTERS = (DECISION.dead_letters, 0)


class Refusing(ToyDecider):
    """Knows no order at all."""

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Refuse every report."""
        if isinstance(event, VenueReport):
            raise BadRecord(DeadLetterReason.INVALID_VALUE, "not an order of ours")
        return super().step(state, event)


HOSTING = replace(HOSTINGS["decider"], make_stage=Refusing, wall_clock=False, event_types=(VenueReport,))


def test_a_report_on_a_strangers_order_is_a_dead_letter_with_all_it_said_and_the_shard_goes_on() -> None:
    core = ShardCore(HOSTING, "0", 0, CODEC, PARTITIONS)
    assert core.take_event(REPORT) == ()
    assert core.counters.by_reason == {DeadLetterReason.INVALID_VALUE: 1}
    assert core.counters.dead_letters == 1
    (letter,), requests, _ = core.drain()
    assert (requests, core.touched_state(), core.reached_ns) == ([], {}, 5_000_000)
    assert ((letter.topic, letter.partition), letter.key) == (LETTERS, b"main")
    said = json.loads(letter.value or b"")
    assert (said["order_id"], said["kind"], said["event_id"]) == ("a stranger's", "ACCEPTED", "r1")
    facts = {name.removeprefix(ERRORS): value.decode() for name, value in letter.headers}
    assert next(iter(facts)) == "reason"
    assert (facts["reason"], facts["stage"], facts["record.type"]) == ("INVALID_VALUE", "decider", "VenueReport")
    assert (facts["exception.message"], facts["timestamp"]) == ("not an order of ours", "5")
    assert not {"topic", "partition", "offset"} & set(facts), "it has no place on a topic"


def test_five_hundred_of_them_stop_no_line() -> None:
    core = ShardCore(HOSTING, "0", 0, CODEC, PARTITIONS)
    for number in range(500):
        core.take_event(replaced(REPORT, event_id=str(number)))
    assert core.counters.dead_letters == 500


def test_it_is_in_the_record_once_and_changes_nothing_of_what_a_replay_compares(database: str) -> None:
    """The batch is sent twice, as after a crash between sending and noting it; outputs before and after are equal."""
    migrate(database)
    log = MemoryLog()
    facts = RunFacts("cluster", "1", "toy")
    for number in (1, 2):
        event = mark(trade(1).key, number, number, number)
        stamp_identity(event, f"cause {number}", "experts", 0)
        stamp_position(event, "experts/0", 1, number)
        log.append((MARKET_MARK.name, 0), event.key.encode(), CODEC.encode(MARKET_MARK.name, event))
    marks = log.lanes[MARKET_MARK.name, 0]

    async def scenario() -> None:
        core = ShardCore(HOSTING, "0", 0, CODEC, PARTITIONS)
        store = ShardStore(database, ShardName("decider", "0", "test"), durable=True)
        shard = OutboxShard(core, store, facts, Sender(SimpleNamespace(producer=log)), 100)
        await shard.take_up(await store.claim(facts))
        running = asyncio.ensure_future(shard.run())
        async with asyncio.timeout(20):
            await shard.offer(marks[:1])
            await shard.inject(REPORT)
            await shard.offer(marks[1:])
            while shard.committed_offsets.get(f"{MARKET_MARK.name}/0") != 2 or LETTERS not in log.lanes:
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        (letter,) = log.lanes[LETTERS]
        log.append(LETTERS, letter.key, letter.value, letter.headers)
        rows = [dead_letter_row(record) for record in log.lanes[LETTERS]]
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await Projections(connection).write([], rows)

    asyncio.run(scenario())
    with open_record(database) as record:
        (row,) = find_letters(record, LetterFilter())
    assert (row["status"], row["stage"], row["reason"], row["key"]) == ("OPEN", "decider", "INVALID_VALUE", b"main")
    assert (row["topic"], row["partition"], row["offset"]) == (DECISION.name, None, None)
    engine = EngineSettings(
        bootstrap="none",
        dsn=database,
        instrument_partitions=PARTITIONS,
        settings_hash="toy",
        code_version="1",
        codec=CODEC,
    )
    result = recompute_shard_over(engine, HOSTING, "0", WHOLE, log)
    assert (result.first_difference, result.inputs, result.outputs, result.matched) == (None, 3, 2, 2)


def test_the_same_word_twice_is_two_letters_only_when_it_was_said_twice() -> None:
    core = ShardCore(HOSTING, "0", 0, CODEC, PARTITIONS)
    for event_id in ("r1", "r2"):
        core.take_event(replaced(REPORT, event_id=event_id))
    first, second = core.drain()[0]
    assert first.value != second.value
