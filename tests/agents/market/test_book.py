"""The book against a dict of everything, with far more levels than it keeps in order."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_inputs import KEY, book, diff

from agents.market.book import KEPT, REFILL_BELOW, Book
from schemas.market import BookSnapshot, DepthUpdate

LEVEL = st.tuples(st.integers(1, 40), st.integers(0, 3))


def _naive_apply(bids: dict[int, int], asks: dict[int, int], update: DepthUpdate) -> None:
    for levels, prices, quantities in (
        (bids, update.bid_prices, update.bid_quantities),
        (asks, update.ask_prices, update.ask_quantities),
    ):
        for price, quantity in zip(prices, quantities, strict=True):
            levels.pop(price, None)
            if quantity:
                levels[price] = quantity


def _assert_same(rebuilt: Book, bids: dict[int, int], asks: dict[int, int]) -> None:
    assert rebuilt.bids == bids
    assert rebuilt.asks == asks
    best_bids, best_asks = sorted(bids, reverse=True), sorted(asks)
    assert rebuilt.best_bid == (best_bids[0] if best_bids else None)
    assert rebuilt.best_ask == (best_asks[0] if best_asks else None)
    prices, quantities = rebuilt.top_bids(REFILL_BELOW)
    assert prices[::-1] == best_bids[:REFILL_BELOW]
    assert quantities[::-1] == [bids[price] for price in best_bids[:REFILL_BELOW]]
    prices, quantities = rebuilt.top_asks(REFILL_BELOW)
    assert [-price for price in reversed(prices)] == best_asks[:REFILL_BELOW]
    assert quantities[::-1] == [asks[price] for price in best_asks[:REFILL_BELOW]]
    assert rebuilt.crossed == bool(bids and asks and best_bids[0] >= best_asks[0])


@given(st.lists(st.tuples(st.lists(LEVEL, max_size=8), st.lists(LEVEL, max_size=8)), max_size=20))
def test_a_small_book_equals_the_naive_one_after_every_update(updates: list) -> None:
    rebuilt = Book()
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    for number, (bid_levels, ask_levels) in enumerate(updates):
        update = diff(0, (number, number), dict(bid_levels), dict(ask_levels))
        rebuilt.apply(update)
        _naive_apply(bids, asks, update)
        _assert_same(rebuilt, bids, asks)
        assert rebuilt.update_id == number


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_a_deep_book_that_drifts_equals_the_naive_one(seed: int) -> None:
    draw = random.Random(seed)
    levels = 6 * KEPT
    middle = 100_000
    snapshot = book(
        0,
        1,
        {middle - 1 - step: draw.randint(1, 9) for step in range(levels)},
        {middle + step: draw.randint(1, 9) for step in range(levels)},
    )
    rebuilt = Book()
    rebuilt.replace_all(snapshot)
    bids = dict(zip(snapshot.bid_prices, snapshot.bid_quantities, strict=True))
    asks = dict(zip(snapshot.ask_prices, snapshot.ask_quantities, strict=True))
    for number in range(120):
        drift = draw.choice((-40, 0, 40))
        middle += drift
        near = {middle + draw.randint(-300, 300): draw.choice((0, 0, 1, 5)) for _ in range(120)}
        # A drift eats one side: its best levels go away, which is what empties the ordered part.
        eaten = {price // 100_000_000: 0 for price in sorted(asks)[: max(drift, 0)]}
        update = diff(0, (number + 2, number + 2), near, {**{middle + 600 + k: 2 for k in range(9)}, **eaten})
        rebuilt.apply(update)
        _naive_apply(bids, asks, update)
        _assert_same(rebuilt, bids, asks)


def test_it_survives_a_round_trip_in_the_middle() -> None:
    rebuilt = Book()
    rebuilt.replace_all(book(0, 5, {100 - k: k + 1 for k in range(90)}, {101 + k: k + 1 for k in range(90)}))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(rebuilt), type=Book)
    for copy in (rebuilt, again):
        copy.apply(diff(0, (6, 9), {100: 0, 99: 7}, {101: 0}))
    assert again == rebuilt
    assert again.update_id == 9


def test_its_snapshot_is_the_whole_book_best_first() -> None:
    whole = book(3, 5, {90: 1, 100: 2, 95: 3}, {110: 1, 101: 2})
    rebuilt = Book()
    rebuilt.replace_all(whole)
    given_out = rebuilt.snapshot(KEY, whole.event_time_ns, whole.available_at_ns)
    assert given_out == whole
    assert isinstance(given_out, BookSnapshot)


def test_sides_of_unequal_length_end_the_process() -> None:
    broken = msgspec.structs.replace(diff(0, (1, 1), {100: 1}), bid_quantities=())
    with pytest.raises(ValueError, match="shorter"):
        Book().apply(broken)
