"""Micro-price, imbalance, returns, volatility: definitions, nulls, limits."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_inputs import UNIT, book

from agents.features.book_features import depth, microprice_offset, mid_price, share_imbalance
from agents.features.returns import trailing_return
from agents.features.rings import push, push_same, window_sum
from agents.features.volatility import realised, realised_fast
from agents.market.book import Book

QUANTITY = st.integers(0, 10**12)


@given(st.integers(1, 10**13), st.integers(1, 10**10), QUANTITY, QUANTITY)
def test_the_micro_price_leans_towards_the_thinner_side(bid: int, spread: int, bid_size: int, ask_size: int) -> None:
    ask = bid + spread
    offset = microprice_offset(bid, ask, bid_size, ask_size)
    if bid_size + ask_size == 0:
        assert offset is None
        return
    micro = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
    middle = (bid + ask) / 2
    assert offset == pytest.approx((micro - middle) / middle, abs=1e-14)
    assert offset * (bid_size - ask_size) >= 0


@given(QUANTITY, QUANTITY)
def test_imbalance_is_antisymmetric_and_bounded(bid_size: int, ask_size: int) -> None:
    imbalance = share_imbalance(bid_size, ask_size)
    if imbalance is None:
        assert bid_size == ask_size == 0
    else:
        assert -1 <= imbalance <= 1
        assert share_imbalance(ask_size, bid_size) == -imbalance


def test_a_mid_needs_both_sides() -> None:
    assert mid_price(100, 103) == 101
    assert mid_price(None, 103) is None
    assert mid_price(100, None) is None


def test_depth_is_the_sum_of_the_best_levels_and_needs_both_sides() -> None:
    rebuilt = Book()
    rebuilt.replace_all(book(0, 1, {100: 1, 99: 2, 98: 4}, {101: 8}))
    assert depth(rebuilt, 2) == (3 * UNIT, 8 * UNIT)
    rebuilt.asks, rebuilt.ask_order = {}, []
    assert depth(rebuilt, 2) is None


def test_a_return_needs_both_mids() -> None:
    assert trailing_return([100, 0, 110], 2) == pytest.approx(0.1)
    assert trailing_return([100, 0, 110], 1) is None
    assert trailing_return([100, 0, 110], 3) is None
    assert trailing_return([100, 110, 0], 1) is None


def test_volatility_of_a_random_walk_is_its_own() -> None:
    draw = random.Random(7)
    sigma, mids = 2e-4, [10**12]
    for _ in range(600):
        mids.append(round(mids[-1] * math.exp(draw.gauss(0, sigma / math.sqrt(10)))))
    assert realised(mids, 10) == pytest.approx(sigma, rel=0.2)
    assert realised_fast(mids, 10) == pytest.approx(sigma, rel=0.5)


def test_volatility_needs_enough_seconds_and_skips_what_is_missing() -> None:
    steady = [100] * 101
    assert realised(steady[:100], 10) is None
    assert realised(steady, 10) == 0.0
    assert realised_fast(steady[:50], 10) is None
    assert realised_fast(steady[:51], 10) == 0.0
    assert realised([0] * 50 + steady, 10) == 0.0
    assert realised([*steady, 0], 10) is None
    assert realised_fast([0] * 101, 10) is None


def test_volatility_looks_back_no_further_than_its_window() -> None:
    wild = [100 if k % 20 < 10 else 200 for k in range(600)]
    assert realised(wild + [100] * 601, 10) == 0.0
    assert realised_fast(wild + [100] * 101, 10) == 0.0


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 30)), max_size=40), st.integers(1, 8))
def test_a_ring_sums_as_the_whole_list_would(pushed: list[tuple[int, int]], kept: int) -> None:
    ring: list[int] = []
    whole: list[int] = []
    for value, count in pushed:
        push_same(ring, value, count, kept)
        push(ring, value, kept)
        whole += [value] * (count + 1)
        assert len(ring) <= 2 * kept
        for width in range(1, kept + 1):
            assert window_sum(ring, width) == (sum(whole[-width:]) if len(whole) >= width else None)
