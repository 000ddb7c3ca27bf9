"""Projections: every event finds its table, twice is once, older never beats newer, and a batch is all or nothing."""

import asyncio
import random
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from every_event import RECORDS, example
from money_events import ONE, PERP, T0, account_mark, approved, decision, entry, fill, order_event, tally
from psycopg.rows import dict_row

from infra.postgres.migrate import migrate, row_counts
from infra.postgres.projection_list import NOT_KEPT, PROJECTIONS
from infra.postgres.projections import DeadLetterRow, Projections, drop_market_days
from schemas.event import Event
from schemas.market import DepthUpdate, Quote, Trade
from schemas.opinions import Vote
from schemas.orders import OrderStatus, Posting
from schemas.values import NS_PER_S, Side

pytestmark = pytest.mark.embedded
DAY_NS = 86_400 * NS_PER_S
TABLES = {projection.table for projections in PROJECTIONS.values() for projection in projections}


@pytest.fixture
def records(database: str) -> str:
    """The DSN of a database with our tables."""
    migrate(database)
    return database


def write(dsn: str, *batches: Sequence[Event], dead_letters: Sequence[DeadLetterRow] = ()) -> list[int]:
    """Write batches through one writer; return the rows that each added or renewed."""

    async def run() -> list[int]:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            projections = Projections(connection)
            return [await projections.write(batch, dead_letters) for batch in batches]

    return asyncio.run(run())


def rows(dsn: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(query).fetchall()


def test_every_type_of_every_internal_topic_is_kept_or_listed_as_not_kept() -> None:
    assert set(RECORDS) == set(PROJECTIONS) | set(NOT_KEPT)


@pytest.mark.parametrize("record", sorted(PROJECTIONS, key=str), ids=lambda record: record.__name__)
def test_every_event_type_is_written_once_however_often_it_comes(records: str, record: type[Event]) -> None:
    first, again = write(records, [example(record)], [example(record), example(record)])
    assert first >= len({projection.table for projection in PROJECTIONS[record] if not projection.lateral})
    assert again == sum(1 for projection in PROJECTIONS[record] if projection.newest_of), "only the newest are renewed"
    counts = row_counts(records)
    assert sum(counts[table] for table in TABLES) == first


def test_a_heartbeat_leaves_no_row(records: str) -> None:
    assert write(records, [example(record) for record in NOT_KEPT]) == [0]


def test_prices_become_exact_decimals_and_missing_ones_null(records: str) -> None:
    quote = example(Quote, bid_price=9_223_372_036_854_775_807, bid_quantity=1, ask_price=None, ask_quantity=None)
    write(records, [quote])
    (row,) = rows(records, "SELECT * FROM market_data")
    assert row["bid_price"] == Decimal("92233720368.54775807")
    assert row["bid_quantity"] == Decimal("0.00000001")
    assert row["ask_price"] is None
    assert (row["kind"], row["instrument"], row["event_id"]) == ("QUOTE", quote.key, quote.event_id)


def test_depth_keeps_its_levels_in_order(records: str) -> None:
    write(records, [example(DepthUpdate, bid_prices=(5, 3), bid_quantities=(0, 7), ask_prices=(), ask_quantities=())])
    (row,) = rows(records, "SELECT bid_prices, bid_quantities, ask_prices FROM market_data")
    assert row == {"bid_prices": [5, 3], "bid_quantities": [0, 7], "ask_prices": []}


def test_money_keeps_all_its_places(records: str) -> None:
    amount = Decimal("12345678901234567890.123456789012345678")
    write(records, [account_mark(equity=amount, equity_peak=amount)])
    assert rows(records, "SELECT equity FROM account_marks") == [{"equity": amount}]


def test_market_data_lies_in_the_partition_of_its_day_and_whole_days_can_be_dropped(records: str) -> None:
    trades = [example(Trade, event_id=f"{number:032x}", available_at_ns=T0 + number * DAY_NS) for number in range(3)]
    write(records, trades)
    assert [
        row["relid"]
        for row in rows(records, "SELECT tableoid::regclass::text AS relid FROM market_data ORDER BY available_at_ns")
    ] == ["market_data_20231114", "market_data_20231115", "market_data_20231116"]

    async def drop() -> list[str]:
        async with await psycopg.AsyncConnection.connect(records, autocommit=True) as connection:
            return await drop_market_days(connection, T0 + 2 * DAY_NS)

    assert asyncio.run(drop()) == ["market_data_20231114", "market_data_20231115"]
    assert row_counts(records)["market_data"] == 1


def test_a_time_beyond_all_days_is_still_kept(records: str) -> None:
    write(records, [example(Trade, available_at_ns=2**63 - 1), example(Trade, available_at_ns=-5)])
    assert {row["relid"] for row in rows(records, "SELECT tableoid::regclass::text AS relid FROM market_data")} == {
        "market_data_default"
    }


def test_two_writers_make_the_same_new_day_at_once(records: str) -> None:
    async def run() -> None:
        async def one(number: int) -> None:
            async with await psycopg.AsyncConnection.connect(records, autocommit=True) as connection:
                await Projections(connection).write([example(Trade, event_id=f"{number:032x}", available_at_ns=T0)])

        await asyncio.gather(*(one(number) for number in range(6)))

    asyncio.run(run())
    assert row_counts(records)["market_data"] == 6


def life_of_an_order() -> list[Event]:
    order = approved()
    steps = [
        (OrderStatus.PENDING_NEW, 0),
        (OrderStatus.NEW, 0),
        (OrderStatus.PARTIALLY_FILLED, ONE // 4),
        (OrderStatus.FILLED, ONE),
    ]
    return [
        order_event(order, status, filled_quantity=filled, event_id=f"e{number}", generation=2, seq=number)
        for number, (status, filled) in enumerate(steps)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_the_newest_event_of_an_order_wins_whatever_order_and_batches_they_come_in(records: str, seed: int) -> None:
    events = life_of_an_order() * 2
    draws = random.Random(seed)
    draws.shuffle(events)
    cut = draws.randrange(len(events) + 1)
    write(records, events[:cut], events[cut:])
    (row,) = rows(records, "SELECT status, filled_quantity, final, seq FROM orders")
    assert row == {"status": "FILLED", "filled_quantity": Decimal(1), "final": True, "seq": 3}
    assert row_counts(records)["order_events"] == 4


def test_a_newer_generation_beats_any_seq_of_an_older_one(records: str) -> None:
    order = approved()
    write(records, [order_event(order, OrderStatus.NEW, event_id="a", generation=1, seq=10**12)])
    write(records, [order_event(order, OrderStatus.UNKNOWN, event_id="b", generation=2, seq=1)])
    write(records, [order_event(order, OrderStatus.FILLED, event_id="c", generation=1, seq=10**13)])
    assert rows(records, "SELECT status FROM orders") == [{"status": "UNKNOWN"}]


def test_weights_are_those_of_the_newest_tally_of_each_horizon(records: str) -> None:
    older = tally(1, generation=1, seq=1, entries=(entry("momentum", 0.5, 0.2), entry("order_flow", 0.5, 0.2)))
    newer = tally(2, generation=1, seq=2, entries=(msgspec.structs.replace(entry("momentum", 0.1, 0.2), weight=0.9),))
    other = tally(3, generation=1, seq=3, horizon_ns=60 * NS_PER_S)
    write(records, [newer, other, older])
    found = rows(records, "SELECT expert, horizon_ns / 1000000000 AS horizon_s, weight FROM weights ORDER BY 1, 2")
    assert found == [
        {"expert": "momentum", "horizon_s": 1, "weight": 0.9},
        {"expert": "momentum", "horizon_s": 60, "weight": 0.5},
        {"expert": "order_flow", "horizon_s": 1, "weight": 0.5},
    ]


def postings(*amounts: str) -> tuple[Posting, ...]:
    return tuple(Posting(ledger_account=f"a{n}", asset="USD", amount=Decimal(x)) for n, x in enumerate(amounts))


def test_each_line_of_the_ledger_is_kept_once_and_an_imbalance_shows(records: str) -> None:
    balanced = fill(
        1, Side.BUY, ONE, 100 * ONE, postings=postings("100.1", "-100.000000000000000001", "-0.099999999999999999")
    )
    funding = account_mark(postings=postings("1", "-1"))
    write(records, [balanced, funding], [balanced], [funding])
    lines = rows(records, "SELECT event_id, line, kind, amount FROM ledger ORDER BY event_id DESC, line")
    assert [(line["line"], line["kind"]) for line in lines] == [
        (1, "FILL"),
        (2, "FILL"),
        (3, "FILL"),
        (1, "FUNDING"),
        (2, "FUNDING"),
    ]
    assert lines[1]["amount"] == Decimal("-100.000000000000000001")
    assert rows(records, "SELECT * FROM ledger_imbalance") == []
    write(records, [fill(2, Side.BUY, ONE, 100 * ONE, postings=postings("1", "-0.999999999999999999"))])
    assert [row["amount"] for row in rows(records, "SELECT amount FROM ledger_imbalance")] == [Decimal("1e-18")]


def test_a_batch_that_fails_leaves_nothing_and_the_next_one_goes_through(records: str) -> None:
    too_large = fill(1, Side.BUY, ONE, ONE, fee=Decimal("1e25"))

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(records, autocommit=True) as connection:
            projections = Projections(connection)
            with pytest.raises(psycopg.Error):
                await projections.write([example(Vote), too_large])
            assert row_counts(records)["votes"] == 0
            await projections.write([example(Vote)])

    asyncio.run(run())
    assert row_counts(records)["votes"] == 1


def test_a_type_without_a_table_is_refused_loudly(records: str) -> None:
    class Unknown(Event, frozen=True, kw_only=True, gc=False):
        """A type that nobody knows."""

    with pytest.raises(KeyError):
        write(records, [Unknown(key="a", event_time_ns=1, available_at_ns=1)])


@pytest.mark.parametrize("name", ["a\0b", 'quote " and \\', "\\u0000", "\\\\\0", "üñî 🙂", "'; DROP TABLE votes; --"])
def test_any_foreign_text_is_kept_but_for_nul_which_postgres_cannot_hold(records: str, name: str) -> None:
    write(records, [example(Vote, expert=name, evidence={name: 1.0})])
    (row,) = rows(records, "SELECT expert, evidence FROM votes")
    assert row == {"expert": name.replace("\0", "\ufffd"), "evidence": {name.replace("\0", "\ufffd"): 1.0}}


def dead_letter(offset: int) -> DeadLetterRow:
    return DeadLetterRow(
        dlq_topic="t.dlq",
        dlq_partition=0,
        dlq_offset=offset,
        topic="t",
        partition=3,
        offset=99,
        reason="MALFORMED",
        detail="why\0not",
        recorded_at_ns=T0,
        headers={"a": "b\0"},
        key=None,
        value=b"\x00\xff",
    )


def test_dead_letters_keep_their_bytes_and_come_once(records: str) -> None:
    write(records, [], [], dead_letters=[dead_letter(1), dead_letter(2)])
    found = rows(records, 'SELECT dlq_offset, "offset", value, detail, headers FROM dead_letters ORDER BY 1')
    assert [row["dlq_offset"] for row in found] == [1, 2]
    assert found[0]["value"] == b"\x00\xff"
    assert (found[0]["detail"], found[0]["headers"]) == ("why\ufffdnot", {"a": "b\ufffd"})


def test_the_agent_logs_show_what_each_expert_and_the_policy_saw_and_said(records: str) -> None:
    spoken = msgspec.structs.replace(entry("momentum", 0.5, 0.2), evidence={"return_10s": 0.25})
    write(records, [tally(1, entries=(spoken,)), decision(0.5, observation={"p_up": 0.5})])
    logs = rows(records, "SELECT role, name, decision_id, saw, said FROM agent_logs ORDER BY role")
    assert [(log["role"], log["name"], log["decision_id"]) for log in logs] == [
        ("expert", "momentum", "decision-1"),
        ("policy", "baseline", "decision-1"),
    ]
    assert logs[0]["saw"] == {"return_10s": 0.25}
    assert logs[0]["said"]["p_up"] == 0.5
    assert logs[1]["saw"] == {"p_up": 0.5}
    assert logs[1]["said"]["target"] == 0.5


def test_market_rows_are_written_in_bulk(records: str) -> None:
    events: list[Event] = [
        example(Trade, event_id=f"{number:032x}", available_at_ns=T0 + number, key=PERP) for number in range(40_000)
    ]
    started = time.perf_counter()
    write(records, *(events[start : start + 4_000] for start in range(0, 40_000, 4_000)))
    elapsed_s = time.perf_counter() - started
    assert row_counts(records)["market_data"] == 40_000
    assert 40_000 / elapsed_s > 2_000, "a tenth of the aim, so that a loaded machine does not fail it"
