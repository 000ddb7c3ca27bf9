"""What must hold at the end of any run of the whole platform, whatever was done to it: books, orders, readers."""

from collections import Counter
from collections.abc import Callable, Mapping

from campaign import Platform

from schemas.codec import Codec
from schemas.orders import Fill
from schemas.schema_table import SchemaTable
from schemas.topics import ACCOUNT_EVENT, Topic
from streams.offline.log_reader import LogReader


def more_orders(run: Platform, count: int) -> Callable[[], bool]:
    """Return what tells whether so many more orders have reached the exchange and the record than now."""
    at_venue, recorded = len(run.venue_orders()) + count, run.count("orders") + count
    return lambda: len(run.venue_orders()) >= at_venue and run.count("orders") >= recorded


def positions(run: Platform) -> Mapping[str, int]:
    """Return the positions that our record has."""
    rows = run.rows("SELECT instrument, sum(quantity) FROM positions GROUP BY instrument")
    return {str(name): int(quantity * 10**8) for name, quantity in rows}


def positions_there(run: Platform) -> Mapping[str, int]:
    """Return the positions that the exchange has."""
    return run.venue_accounts()["main"].positions


def assert_one_order_per_intent(run: Platform) -> None:
    """Whatever is at the exchange is an intent of ours with one outcome, and none is there twice."""
    at_venue = run.venue_orders()
    sent = Counter(order.order_id for order in at_venue)
    status = dict(run.rows("SELECT order_id, status FROM orders"))
    assert sent.keys() <= status.keys(), "the exchange has an order that is no intent of ours"
    assert set(sent.values()) == {1}
    assert {order.order_id: order.status.value for order in at_venue} == {name: status[name] for name in sent}
    final = Counter(str(row[0]) for row in run.rows("SELECT order_id FROM order_events WHERE final"))
    assert set(final.values()) == {1}, "more than one final outcome"


def assert_books_equal_the_exchange(run: Platform) -> None:
    """Fills, positions and fees are the exchange's, and the ledger balances."""
    theirs = {
        fill.fill_id: (order.order_id, fill.price, fill.quantity, fill.fee)
        for order in run.venue_orders()
        for fill in order.fills
    }
    ours = run.rows("SELECT fill_id, order_id, price, quantity, fee FROM fills")
    assert len(ours) == len(theirs) > 0, "a fill was booked twice, or never"
    assert {str(name): (str(order), int(p * 10**8), int(q * 10**8), fee) for name, order, p, q, fee in ours} == theirs
    assert positions(run) == positions_there(run)
    assert run.rows("SELECT * FROM ledger_imbalance") == []
    (fees,) = run.rows("SELECT sum(amount) FROM ledger WHERE ledger_account LIKE 'expense/fees/%'")[0]
    assert fees == sum(run.venue_accounts()["main"].fees.values())


def assert_a_reader_takes_each_event_once(run: Platform, topic: Topic) -> None:
    """Whoever reads a topic from its begin and drops by (source, generation, seq) loses no event and doubles none."""
    codec = Codec(SchemaTable.committed())
    newest: dict[tuple[int, str], tuple[int, int]] = {}
    # A Heartbeat goes to every partition under one id.
    taken: Counter[tuple[int, str]] = Counter()
    written: set[tuple[int, str]] = set()
    for partition in range(topic.partitions(run.run.settings.kafka.instrument_partitions)):
        reader = LogReader(run.bootstrap, (topic.name, partition))
        while (record := reader.next()) is not None:
            event = codec.decode(record.topic, record.value, record.headers)
            written.add((partition, event.event_id))
            if (event.generation, event.seq) > newest.get((partition, event.source), (0, 0)):
                newest[partition, event.source] = (event.generation, event.seq)
                taken[partition, event.event_id] += 1
        reader.close()
    assert taken.keys() == written, f"{topic.name}: lost to a reader"
    doubled = [place for place, times in taken.items() if times > 1]
    assert not doubled, f"{topic.name}: doubled {doubled[:5]} of {len(taken)}"
    assert len(taken) > 8


def assert_a_reader_hears_of_every_fill(run: Platform) -> None:
    """Whoever reads ``account.event`` and keeps one row for each fill id, as we tell readers to, has the exchange's."""
    codec = Codec(SchemaTable.committed())
    reader = LogReader(run.bootstrap, (ACCOUNT_EVENT.name, 0))
    heard: dict[str, tuple[str, int, int]] = {}
    while (record := reader.next()) is not None:
        event = codec.decode(record.topic, record.value, record.headers)
        if isinstance(event, Fill):
            told = (event.order_id, event.price, event.quantity)
            assert heard.setdefault(event.fill_id, told) == told, "a fill is told twice, and otherwise"
    reader.close()
    theirs = {
        fill.fill_id: (order.order_id, fill.price, fill.quantity)
        for order in run.venue_orders()
        for fill in order.fills
    }
    assert heard == theirs
