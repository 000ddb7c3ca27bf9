"""Order flow, trade flow and VPIN against their definitions, by hand and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_inputs import UNIT, book, diff, trade

from agents.features.order_flow import LEVELS, LevelFlow, OrderFlow
from agents.features.trade_flow import TradeFlow
from agents.features.vpin import Vpin
from agents.market.book import Book
from schemas.values import Side

Top = tuple[int, int, int, int]


def _flow(*tops: Top) -> int:
    flow = OrderFlow()
    for bid, bid_quantity, ask, ask_quantity in tops:
        flow.move(bid, bid_quantity, ask, ask_quantity)
    return flow.running


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((100, 5, 110, 5), 0),
        ((100, 8, 110, 5), 3),
        ((100, 2, 110, 5), -3),
        ((101, 2, 110, 5), 2),
        ((99, 7, 110, 5), -5),
        ((100, 5, 110, 9), -4),
        ((100, 5, 109, 9), -9),
        ((100, 5, 111, 9), 5),
        ((101, 3, 111, 9), 8),
    ],
)
def test_the_flow_of_one_change_is_cont_kukanov_and_stoikovs(after: Top, expected: int) -> None:
    assert _flow((100, 5, 110, 5), after) == expected


TOPS = st.lists(
    st.tuples(st.integers(90, 99), st.integers(0, 9), st.integers(101, 110), st.integers(0, 9)), min_size=1, max_size=30
)


@given(TOPS)
def test_the_flow_mirrors_when_bid_and_ask_change_places(tops: list[Top]) -> None:
    mirrored = [(200 - ask, ask_quantity, 200 - bid, bid_quantity) for bid, bid_quantity, ask, ask_quantity in tops]
    assert _flow(*mirrored) == -_flow(*tops)


@given(TOPS)
def test_a_repeated_state_adds_nothing(tops: list[Top]) -> None:
    assert _flow(*[top for top in tops for _ in range(2)]) == _flow(*tops)


@given(TOPS)
def test_over_one_level_of_equal_prices_the_flow_is_the_change_of_quantities(tops: list[Top]) -> None:
    still = [(100, bid_quantity, 110, ask_quantity) for _, bid_quantity, _, ask_quantity in tops]
    expected = (still[-1][1] - still[0][1]) - (still[-1][3] - still[0][3])
    assert _flow(*still) == expected


def test_the_window_is_whole_buckets_over_the_mean_depth_per_side() -> None:
    flow = OrderFlow()
    flow.move(100, 10, 101, 10)
    flow.roll(1, 100)
    flow.move(100, 14, 101, 10)
    assert flow.imbalance(2) is None
    flow.roll(1, 100)
    # 4 were added; the depths at the ends of the buckets are 20 and 24, so 11 per side.
    assert flow.imbalance(2) == pytest.approx(4 / 11)
    assert flow.imbalance(1) == pytest.approx(4 / 12)
    flow.roll(5, 100)
    assert flow.imbalance(5) == 0
    assert flow.imbalance(7) == pytest.approx(4 / ((20 + 6 * 24) / 7 / 2))


@pytest.mark.parametrize("missing", [(None, 1, 101, 1), (100, None, 101, 1), (100, 1, None, 1), (100, 1, 101, None)])
def test_what_is_missing_is_not_zero_and_breaks_the_window(missing: tuple[int | None, ...]) -> None:
    flow = OrderFlow()
    flow.move(100, 1, 101, 1)
    flow.roll(10, 100)
    assert flow.imbalance(10) == 0
    flow.move(*missing)
    flow.roll(20, 100)
    assert flow.imbalance(1) is None
    flow.move(100, 5, 101, 5)
    assert flow.running == 0
    flow.roll(1, 100)
    assert flow.imbalance(1) == 0


def _ladder(quantity: int = 5) -> Book:
    rebuilt = Book()
    rebuilt.replace_all(book(0, 1, {100 - k: quantity for k in range(8)}, {110 + k: quantity for k in range(8)}))
    return rebuilt


def _level_flow(**changes: dict[int, int]) -> float:
    rebuilt, flow = _ladder(), LevelFlow()
    flow.move(rebuilt)
    rebuilt.apply(diff(0, (2, 2), **changes))
    flow.move(rebuilt)
    return flow.running / UNIT


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bids": {97: 9}}, 4),
        ({"asks": {113: 9}}, -4),
        ({"bids": {95: 50}}, 0),
        # A better bid shifts all five levels up: each is at a higher price, so each counts in full.
        ({"bids": {101: 3}}, 3 + 4 * 5),
        # The best ask goes: each level is further away, and what was at each is gone.
        ({"asks": {110: 0}}, 5 * 5),
    ],
)
def test_the_levels_flow_is_the_sum_of_five_best_levels(changes: dict[str, dict[int, int]], expected: int) -> None:
    assert _level_flow(**changes) == expected


def test_the_levels_flow_is_over_the_mean_depth_per_level() -> None:
    rebuilt, flow = _ladder(), LevelFlow()
    flow.move(rebuilt)
    rebuilt.apply(diff(0, (2, 2), {99: 15}))
    flow.move(rebuilt)
    flow.roll(1, 100)
    assert flow.imbalance(1) == pytest.approx(10 / 6)


def test_a_book_without_five_levels_has_no_levels_flow() -> None:
    rebuilt, flow = _ladder(), LevelFlow()
    flow.move(rebuilt)
    flow.roll(10, 100)
    rebuilt.apply(diff(0, (2, 2), {100 - k: 0 for k in range(8 - LEVELS + 1)}))
    flow.move(rebuilt)
    flow.roll(10, 100)
    assert flow.imbalance(1) is None


def test_trade_flow_is_signed_volume_over_volume() -> None:
    flow = TradeFlow()
    assert flow.imbalance(1) is None
    flow.take(trade(0, quantity=3))
    flow.take(trade(0, quantity=1, aggressor=Side.SELL))
    flow.roll(1, 100)
    assert flow.imbalance(1) == 0.5
    flow.roll(9, 100)
    assert flow.imbalance(1) == 0.0
    assert flow.imbalance(10) == 0.5
    assert flow.rate(10, 10) == 2
    assert flow.rate(11, 10) is None


@pytest.mark.parametrize("unsigned", [{"quantity": None}, {"aggressor": None}])
def test_an_unsigned_trade_leaves_no_flow_but_is_counted(unsigned: dict[str, None]) -> None:
    flow = TradeFlow()
    flow.take(trade(0))
    flow.roll(10, 100)
    flow.take(trade(1, **unsigned))
    flow.roll(1, 100)
    assert flow.imbalance(1) is None
    assert flow.rate(1, 10) == 10
    flow.take(trade(2))
    flow.roll(1, 100)
    assert flow.imbalance(1) == 1.0


SIGNED = st.lists(st.tuples(st.integers(1, 500), st.sampled_from(Side)), max_size=80)


def _vpin(trades: list[tuple[int, Side]], size: int = 7, buckets: int = 5) -> Vpin:
    vpin = Vpin(bucket_volume=size * UNIT, buckets=buckets)
    for quantity, side in trades:
        vpin.take(trade(0, quantity=quantity, aggressor=side))
    return vpin


@given(SIGNED)
def test_vpin_is_that_of_unit_lots_poured_into_buckets(trades: list[tuple[int, Side]]) -> None:
    lots = [side.sign for quantity, side in trades for _ in range(quantity)]
    full = [lots[start : start + 7] for start in range(0, len(lots) - 6, 7)]
    kept = full[-5:]
    expected = sum(abs(sum(bucket)) for bucket in kept) / (7 * len(kept)) if kept else None
    assert _vpin(trades).value(1) == (None if expected is None else pytest.approx(expected))


@given(SIGNED, st.integers(1, 9))
def test_vpin_does_not_depend_on_how_a_trade_is_reported(trades: list[tuple[int, Side]], parts: int) -> None:
    split = [(1, side) for quantity, side in trades for _ in range(quantity)]
    assert _vpin(trades, size=parts) == _vpin(split, size=parts)


def test_vpin_needs_enough_buckets_and_a_bucket_volume() -> None:
    assert _vpin([(7, Side.BUY)] * 3).value(4) is None
    assert _vpin([(7, Side.BUY)] * 4).value(4) == 1.0
    assert _vpin([(7, Side.BUY)] * 4, size=0).value(1) is None


@pytest.mark.parametrize("unsigned", [{"quantity": None}, {"aggressor": None}])
def test_vpin_never_guesses_an_aggressor(unsigned: dict[str, None]) -> None:
    vpin = _vpin([(7, Side.BUY)] * 5)
    vpin.take(trade(0, **unsigned))
    assert vpin.value(1) is None


def test_a_trade_of_any_size_takes_bounded_work() -> None:
    vpin = Vpin(bucket_volume=1, buckets=50)
    vpin.take(trade(0, quantity=10**9))
    assert vpin.value(50) == 1.0
    assert (vpin.bought, vpin.sold) == (0, 0)
