"""``kill -9`` of every worker of the whole platform on real Kafka, in turn and all at once, and what must then hold.

Recomputing every stage over its inputs gives the same outputs to the byte; each intent has at most one order at the
exchange and exactly one final outcome; positions and ledger equal the exchange's own record; nothing is lost, and
nothing is doubled. The moments of the kills come from a seed; every wait is for progress.
"""

import asyncio
import gzip
import itertools
import operator
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from audit_stories import assert_it_holds_the_record
from campaign import PROBE, SIMULATED, Platform
from captures import USDM_20240808

from infra.postgres.projection_list import PROJECTIONS
from infra.servers import KafkaMissing, RealKafka, start_kafka
from schemas.codec import Codec
from schemas.event import Event, Heartbeat
from schemas.orders import AccountMark, Fill, OrderEvent
from schemas.schema_table import SchemaTable
from schemas.topics import TOPICS
from schemas.values import Side, notional
from streams.engine.shard import Progress
from streams.launch import WORKERS
from streams.offline.log_reader import LogReader
from streams.offline.verify import StageVerdict, verify_run

pytestmark = pytest.mark.campaign
SEED = 20_240_808
CODEC = Codec(SchemaTable.committed())
EXACT = Decimal("1e-9")
"""Average prices are kept to 18 places: sums of them may differ by less than this."""

CAPTURED_LINES = 12_000
CAPTURED: dict[str, Any] = {
    "run.clock": "capture",
    "feed.kind": "capture",
    "feed.speed": "max",
    "grid.step_ms": 500,
    "grid.horizons_s": [1],
    "strategies.committee": PROBE,
}

StartPlatform = Callable[[Mapping[str, Any]], Platform]


@pytest.fixture
def own_kafka(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealKafka]:
    """A Kafka that has seen no other run. Without java or mvn the shared fixture says loudly that it is missing."""
    try:
        server = start_kafka(tmp_path / "kafka")
    except KafkaMissing:
        request.getfixturevalue("real_kafka")
        raise
    yield server
    server.stop()


@pytest.fixture
def platform(tmp_path: Path, own_kafka: RealKafka, database: str) -> Iterator[StartPlatform]:
    """A function that starts the exchange and makes the topics of a run; its workers are started by the test."""
    made: list[Platform] = []

    def make(changes: Mapping[str, Any]) -> Platform:
        made.append(Platform(tmp_path / "run", own_kafka.bootstrap, database, changes))
        return made[-1]

    yield make
    for run in made:
        run.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_every_worker_is_killed_in_turn_and_all_at_once(platform: StartPlatform) -> None:
    run = platform(SIMULATED)
    run.start_all()
    run.until("the first orders", lambda: len(run.venue_orders()) >= 5 and run.count("orders") >= 5)
    _kill_at_random(run, random.Random(SEED))
    run.until("orders after the last kill", _more_orders(run, 20))
    run.stop("ingestion")
    run.come_to_rest()
    run.cancel_everything()
    run.until("an outcome of every order", lambda: _all_final(run))
    run.come_to_rest()
    run.stop(*run.workers)

    assert len(run.venue_orders()) >= 50, "a campaign without trading proves nothing"
    assert_it_holds_the_record(run.dsn, run.directory)
    _assert_recomputes(asyncio.run(verify_run(run.run)))
    _assert_one_order_and_one_outcome_per_intent(run)
    _assert_books_equal_the_exchange(run)
    _assert_tables_equal_topics(run)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_capture_goes_on_where_it_was_when_ingestion_was_killed(platform: StartPlatform, tmp_path: Path) -> None:
    """At full speed, ingestion killed twice and everything once: as if nothing had happened."""
    run = platform(CAPTURED | {"feed.paths": [str(_beginning_of(USDM_20240808, tmp_path, CAPTURED_LINES))]})
    dice = random.Random(SEED)
    run.start_all()
    for share, victims in ((0.2, ("ingestion",)), (0.45, WORKERS), (0.7, ("ingestion", "execution"))):
        line = int(CAPTURED_LINES * (share + 0.1 * dice.random()))
        run.until(f"line {line}", lambda line=line: _capture_line(run) >= line)
        run.kill(*victims)
        for name in victims:
            run.start(name)
    run.until("the end of the capture", lambda: _capture_line(run) == CAPTURED_LINES)
    run.come_to_rest()
    run.stop(*run.workers)

    verdicts = {verdict.stage: verdict for verdict in asyncio.run(verify_run(run.run))}
    assert {name: v.first_difference for name, v in verdicts.items() if v.first_difference} == {}
    ingestion = verdicts["ingestion"]
    # Every line and the capture's end were stepped; what a reader takes of market.event is exactly what follows.
    assert ingestion.inputs == CAPTURED_LINES + 1
    assert ingestion.matched == ingestion.outputs > CAPTURED_LINES * 0.9
    assert all(verdict.matched == verdict.outputs for verdict in verdicts.values())
    assert len(run.venue_orders()) > 0
    _assert_one_order_at_most(run)
    _assert_books_equal_the_exchange(run)
    _assert_tables_equal_topics(run)


def _beginning_of(capture: Path, directory: Path, lines: int) -> Path:
    """Write the first lines of a capture to a file of the same name."""
    path = directory / capture.name
    with gzip.open(capture, "rb") as whole, gzip.open(path, "wb", compresslevel=1) as part:
        part.writelines(itertools.islice(whole, lines))
    return path


def _capture_line(run: Platform) -> int:
    """Return how many lines ingestion's checkpoint has behind it."""
    rows = run.rows("SELECT progress FROM shard WHERE stage = 'ingestion' AND progress <> ''")
    return max((msgspec.msgpack.decode(bytes(row[0]), type=Progress).external for row in rows), default=0)


def _kill_at_random(run: Platform, dice: random.Random) -> None:
    """Kill each worker in turn, then all at once, then two together; between two kills the order path must work."""
    singles = [(name,) for name in dice.sample(WORKERS, len(WORKERS))]
    pair = tuple(dice.sample(("decider", "risk", "execution", "feedback", "voting"), 2))
    for victims in (*singles, WORKERS, pair):
        run.until(f"orders before the kill of {victims}", _more_orders(run, 4))
        # The moment is any: nothing that is checked hangs on it.
        time.sleep(dice.random() * 0.4)
        run.kill(*victims)
        for name in victims:
            run.start(name)


def _more_orders(run: Platform, count: int) -> Callable[[], bool]:
    """Tell when the exchange, and by the sinks our record, have so many more orders than now."""
    at_venue, recorded = len(run.venue_orders()) + count, run.count("orders") + count
    return lambda: len(run.venue_orders()) >= at_venue and run.count("orders") >= recorded


def _all_final(run: Platform) -> bool:
    return run.count("orders WHERE NOT final") == 0 and not any(order.live for order in run.venue_orders())


def _assert_recomputes(verdicts: list[StageVerdict]) -> None:
    """Every stage gave exactly what follows from its inputs, and all of it lies in Kafka."""
    by_stage = {verdict.stage: verdict for verdict in verdicts}
    assert {verdict.stage: verdict.first_difference for verdict in verdicts if verdict.first_difference} == {}
    for name in WORKERS:
        if name not in ("ingestion", "sinks"):
            assert by_stage[name].inputs > 0, f"{name} was not recomputed"
            assert by_stage[name].matched == by_stage[name].outputs, f"{name} has not sent all"
    for name in ("experts", "voting", "decider", "risk", "execution", "feedback", "control"):
        assert by_stage[name].outputs > 0, f"{name} gave nothing"


def _assert_one_order_and_one_outcome_per_intent(run: Platform) -> None:
    at_venue = run.venue_orders()
    sent = {order.order_id for order in at_venue}
    intents = {str(row[0]) for row in run.rows("SELECT order_id FROM orders")}
    _assert_one_order_at_most(run)
    final = Counter(str(row[0]) for row in run.rows("SELECT order_id FROM order_events WHERE final"))
    again = [order for order, times in final.items() if times != 1]
    # A fill that comes after the final outcome is told as a further event of the same, final, state.
    assert not again, f"more than one final outcome: {again}"
    assert final.keys() == intents, "an intent without an outcome"
    status = dict(run.rows("SELECT order_id, status FROM orders"))
    for order in at_venue:
        assert status[order.order_id] == order.status.value, order
    for order_id in intents - sent:
        assert status[order_id] in ("NOT_SENT", "DENIED", "REJECTED"), (order_id, status[order_id])


def _assert_one_order_at_most(run: Platform) -> None:
    """Whatever is at the exchange is an intent of ours, and none is there twice."""
    at_venue = run.venue_orders()
    sent = Counter(order.order_id for order in at_venue)
    intents = {str(row[0]) for row in run.rows("SELECT order_id FROM orders")}
    assert sent.keys() <= intents, "the exchange has an order that is no intent of ours"
    assert set(sent.values()) <= {1}, "an intent has two orders at the exchange"
    assert len({order.venue_order_id for order in at_venue}) == len(at_venue)


def _assert_books_equal_the_exchange(run: Platform) -> None:
    """Fills one by one, positions per instrument, fees and cash, and equity at the newest marks."""
    instruments = run.run.instruments
    theirs = {
        fill.fill_id: (order.order_id, fill.price, fill.quantity, fill.fee)
        for order in run.venue_orders()
        for fill in order.fills
    }
    ours = {
        str(fill_id): (str(order_id), int(price * 10**8), int(quantity * 10**8), fee)
        for fill_id, order_id, price, quantity, fee in run.rows(
            "SELECT fill_id, order_id, price, quantity, fee FROM fills"
        )
    }
    assert ours == theirs
    assert run.count("fills") == len(theirs) > 0

    account = run.venue_accounts()["main"]
    positions = {
        str(name): int(quantity * 10**8)
        for name, quantity in run.rows("SELECT instrument, sum(quantity) FROM positions GROUP BY instrument")
    }
    assert positions == account.positions
    assert run.rows("SELECT * FROM ledger_imbalance") == []
    (fees,) = run.rows("SELECT sum(amount) FROM ledger WHERE ledger_account LIKE 'expense/fees/%'")[0]
    assert fees == sum(account.fees.values())

    spent = Decimal(0)
    for name, side, price, quantity in run.rows("SELECT instrument, side, price, quantity FROM fills"):
        signed = int(quantity * 10**8) * (1 if side == Side.BUY.value else -1)
        spent += notional(int(price * 10**8), signed, instruments[name].multiplier)
    (cash,) = account.cash.values()
    assert cash == -spent - fees
    _assert_equity(run, account.positions, cash)


def _assert_equity(run: Platform, positions: Mapping[str, int], cash: Decimal) -> None:
    """The account's newest equity is the exchange's cash and positions at mids of our newest marks.

    The newest mark was made before the last orders were cancelled, but after the last fill that is in it: fills
    without a later mark are taken out again, at their price. Of the other instruments it knows a mark that may be a few
    off the grid newer than their own account mark.
    """
    (equity, generation, seq), *_ = run.rows(
        "SELECT equity, generation, seq FROM account_marks ORDER BY generation DESC, seq DESC LIMIT 1"
    )
    held = {name: Decimal(quantity).scaleb(-8) for name, quantity in positions.items()}
    for name, side, price, quantity, fee in run.rows(
        f"SELECT instrument, side, price, quantity, fee FROM fills WHERE (generation, seq) > ({generation}, {seq})"
    ):
        signed = quantity if side == Side.BUY.value else -quantity
        held[name] -= signed
        cash += signed * price + fee
    capital = run.run.settings.accounts["main"].capital
    mids = [_newest_mids(run, name) for name in held]
    worths = (sum(map(operator.mul, held.values(), choice)) for choice in itertools.product(*mids))
    assert any(abs(equity - (capital + cash + worth)) < EXACT for worth in worths)


def _newest_mids(run: Platform, instrument: str) -> list[Decimal]:
    """Return the mids of an instrument's newest marks, each once."""
    marks = f"SELECT mid FROM market_marks WHERE instrument = '{instrument}' AND mid IS NOT NULL"
    return list(dict.fromkeys(mid for (mid,) in run.rows(f"{marks} ORDER BY available_at_ns DESC LIMIT 20")))


def _assert_tables_equal_topics(run: Platform) -> None:
    """Each event that lies in Kafka is in its table once, and nothing else is: 0 lost, 0 doubled."""
    events = _events_in_kafka(run)
    for record, projections in PROJECTIONS.items():
        found = events.get(record, [])
        for projection in projections:
            if projection.newest_of or projection.lateral:
                continue
            kind = projection.expressions.get("kind") if projection.table == "market_data" else None
            kind = kind or (projection.expressions.get("verdict") if projection.table == "order_verdicts" else None)
            column = "verdict" if projection.table == "order_verdicts" else "kind"
            where = f" WHERE {column} = {kind}" if kind else ""
            table = Counter(str(row[0]) for row in run.rows(f"SELECT event_id FROM {projection.table}{where}"))
            assert table == Counter(event.event_id for event in found), f"{projection.table} of {record.__name__}"
    newest = {event.order_id: event.event_id for event in events[OrderEvent] if isinstance(event, OrderEvent)}
    assert dict(run.rows("SELECT order_id, event_id FROM orders")) == newest
    postings = sum(
        len(event.postings) for event in events[Fill] + events[AccountMark] if isinstance(event, Fill | AccountMark)
    )
    assert run.count("ledger") == postings
    assert run.count("dead_letters") == 0


def _events_in_kafka(run: Platform) -> dict[type[Event], list[Event]]:
    """Return all events by type, each once as a reader takes them. An id that comes twice is a doubled event."""
    events: dict[type[Event], list[Event]] = {}
    for (topic, partition), end in run.log_ends().items():
        if end == 0 or TOPICS[topic].public:
            continue
        seen: dict[str, tuple[int, int]] = {}
        for event in _read(run, topic, partition):
            position = (event.generation, event.seq)
            if position > seen.get(event.source, (0, -1)):
                seen[event.source] = position
                events.setdefault(type(event), []).append(event)
    for record, found in events.items():
        ids = Counter(event.event_id for event in found)
        if record is not Heartbeat:
            assert max(ids.values()) == 1, f"{record.__name__} twice: {ids.most_common(3)}"
    return events


def _read(run: Platform, topic: str, partition: int) -> Iterator[Event]:
    reader = LogReader(run.bootstrap, (topic, partition))
    try:
        while (record := reader.next()) is not None:
            event: Event = CODEC.decode(record.topic, record.value, record.headers)
            yield event
    finally:
        reader.close()
