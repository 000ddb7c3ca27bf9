"""The id that a venue knows an order by says which order of ours it is, and which claim has sent it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.venues.binance.orders import CLIENT_ID
from schemas.client_ids import client_order_id, parse_client_order_id
from schemas.event import derive_id


@given(number=st.integers(0, 2**128 - 1), epoch=st.integers(0, 10**10 - 1))
def test_our_ids_go_there_and_back_within_what_venues_take(number: int, epoch: int) -> None:
    order_id = f"{number:032x}"
    told = client_order_id(order_id, epoch)
    assert re.fullmatch(r"[0-9a-z-]{1,36}", told)
    assert CLIENT_ID.fullmatch(told)
    assert parse_client_order_id(told) == (order_id, epoch)


@given(
    numbers=st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1)),
    epochs=st.tuples(st.integers(0, 10**10 - 1), st.integers(0, 10**10 - 1)),
)
def test_two_intents_never_share_an_id(numbers: tuple[int, int], epochs: tuple[int, int]) -> None:
    first, second = (client_order_id(f"{number:032x}", epoch) for number, epoch in zip(numbers, epochs, strict=True))
    assert (first == second) is ((numbers[0], epochs[0]) == (numbers[1], epochs[1]))


def test_it_is_the_same_every_time() -> None:
    assert client_order_id(derive_id("a", "order", 0), 7) == "0zhrk6iwfzlkstn5on7jukar4-7"
    assert client_order_id("open-1", 12) == "open-1-12"
    assert parse_client_order_id("open-1-12") == ("open-1", 12)


@pytest.mark.parametrize("stranger", ["", "web_1f0a", "x-07", "-7", "zzzzzzzzzzzzzzzzzzzzzzzzz-1", "abc-"])
def test_what_is_not_ours_is_nobody_s(stranger: str) -> None:
    assert parse_client_order_id(stranger) is None


def test_an_id_that_could_be_taken_for_another_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        client_order_id("a" * 25, 1)
