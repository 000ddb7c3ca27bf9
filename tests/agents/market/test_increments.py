"""Increments guessed from records: exact on a real capture's first records, an error without any."""

import itertools

import pytest
from captures import SPOT_20240808, USDM_20240808
from market_inputs import UNIT, book, diff, quote, raw_events, trade

from agents.market.increments import infer_increments


def test_steps_are_the_greatest_common_divisors() -> None:
    events = [trade(1, 100, 6), quote(1, 105, 110, (None, 9)), diff(1, (1, 1), {120: 0}), book(1, 1, {90: 3}, {})]
    assert infer_increments(events) == (5 * UNIT, 3 * UNIT)


def test_without_sizes_the_lot_is_one() -> None:
    assert infer_increments([quote(1, 100, 101, (None, None))]) == (UNIT, UNIT)


def test_without_a_price_there_is_nothing_to_infer() -> None:
    with pytest.raises(ValueError, match="no price"):
        infer_increments([])


def test_the_first_records_of_real_captures_give_the_venues_increments() -> None:
    assert infer_increments(itertools.islice(raw_events(USDM_20240808), 200)) == (10_000_000, 100_000)
    assert infer_increments(itertools.islice(raw_events(SPOT_20240808), 200)) == (1_000_000, 1_000)
