"""The matching engine against a reference that is too simple to be wrong, and what price-time priority promises."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sim.generator import Generator, seeded
from agents.sim.matching import Incoming, MatchingBook
from schemas.values import Side, TimeInForce


@dataclass
class NaiveBook:
    """All resting orders in one list, in order of arrival; every match looks through all of them."""

    resting: list[list[object]] = field(default_factory=list)

    def place(self, order: Incoming) -> tuple[list[tuple[str, int, int]], int, int, bool]:
        def meets(other: list[object]) -> bool:
            if other[1] is order.side:
                return False
            price = other[2]
            assert isinstance(price, int)
            return order.price is None or (price <= order.price if order.side is Side.BUY else price >= order.price)

        candidates = [other for other in self.resting if meets(other)]
        candidates.sort(key=lambda other: other[2] if order.side is Side.BUY else -other[2])  # type: ignore[operator]
        if order.time_in_force is TimeInForce.POST_ONLY and (candidates or order.price is None):
            return [], 0, 0, True
        if order.time_in_force is TimeInForce.FOK and sum(o[3] for o in candidates) < order.quantity:  # type: ignore[misc]
            return [], 0, order.quantity, False
        left, matches = order.quantity, []
        for other in candidates:
            quantity = min(left, other[3])  # type: ignore[type-var]
            if quantity:
                other[3] -= quantity  # type: ignore[operator]
                left -= quantity
                matches.append((other[0], other[2], quantity))
        self.resting = [other for other in self.resting if other[3]]
        if left and order.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY) and order.price is not None:
            self.resting.append([order.order_id, order.side, order.price, left])
            return matches, left, 0, False
        return matches, 0, left, False

    def levels(self, side: Side) -> list[tuple[int, int]]:
        prices = sorted({other[2] for other in self.resting if other[1] is side}, reverse=side is Side.BUY)
        return [
            (price, sum(o[3] for o in self.resting if o[1] is side and o[2] == price))  # type: ignore[misc]
            for price in prices
        ]


_ORDERS = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.integers(1, 9),
        st.one_of(st.none(), st.integers(95, 105)),
        st.sampled_from(list(TimeInForce)),
        st.integers(0, 5),
    ),
    max_size=60,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(orders=_ORDERS)
def test_the_engine_equals_the_naive_reference(orders: list[tuple[Side, int, int | None, TimeInForce, int]]) -> None:
    book, naive = MatchingBook(), NaiveBook()
    for number, (side, quantity, price, time_in_force, cancel) in enumerate(orders):
        if cancel == 0 and naive.resting:
            victim = naive.resting.pop(number % len(naive.resting))
            assert book.cancel(str(victim[0])) == victim[3]
        order = Incoming(str(number), "", side, quantity, price, time_in_force)
        placed = book.place(order)
        matches, resting, expired, refused = naive.place(order)
        assert [(m.maker_id, m.price, m.quantity) for m in placed.matches] == matches
        assert (placed.resting, placed.expired, placed.refused is not None) == (resting, expired, refused)
        for each in Side:
            assert book.levels(each, 100) == naive.levels(each)
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        assert bid is None or ask is None or bid < ask, "no book is ever crossed"


@settings(max_examples=100, deadline=None)
@given(orders=_ORDERS)
def test_what_changed_rebuilds_the_book(orders: list[tuple[Side, int, int | None, TimeInForce, int]]) -> None:
    book = MatchingBook()
    seen: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    for number, (side, quantity, price, time_in_force, _) in enumerate(orders):
        book.place(Incoming(str(number), "", side, quantity, price, time_in_force))
        for changed, at, displayed in book.take_changed():
            seen[changed][at] = displayed
            if displayed == 0:
                del seen[changed][at]
    for side in Side:
        assert dict(book.levels(side, 1_000)) == seen[side]


def test_first_come_first_served_at_a_price() -> None:
    book = MatchingBook()
    for name in ("first", "second"):
        book.place(Incoming(name, "", Side.SELL, 5, 100, TimeInForce.GTC))
    placed = book.place(Incoming("taker", "", Side.BUY, 7, 100, TimeInForce.IOC))
    assert [(match.maker_id, match.quantity, match.maker_left) for match in placed.matches] == [
        ("first", 5, 0),
        ("second", 2, 3),
    ]


def test_an_order_that_becomes_smaller_keeps_its_place() -> None:
    book = MatchingBook()
    for name in ("first", "second"):
        book.place(Incoming(name, "", Side.SELL, 5, 100, TimeInForce.GTC))
    book.take_changed()
    book.reduce("first", 2)
    assert book.take_changed() == [(Side.SELL, 100, 7)]
    placed = book.place(Incoming("taker", "", Side.BUY, 3, 100, TimeInForce.IOC))
    assert [(match.maker_id, match.quantity) for match in placed.matches] == [("first", 2), ("second", 1)]
    with pytest.raises(AssertionError):
        book.reduce("second", 6)


def test_splitmix64_draws_the_published_numbers() -> None:
    """The reference output of the authors' C code for the seed 1234567."""
    draws = Generator(1234567)
    assert [draws.word() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_the_distributions_have_their_moments() -> None:
    draws = seeded("moments")
    count = 50_000
    normal = [draws.normal() for _ in range(count)]
    assert abs(sum(normal) / count) < 0.02
    assert abs(sum(value * value for value in normal) / count - 1.0) < 0.03
    assert abs(sum(draws.count(3.0) for _ in range(count)) / count - 3.0) < 0.03
    assert abs(sum(draws.uniform() for _ in range(count)) / count - 0.5) < 0.01
    assert {draws.below(7) for _ in range(1_000)} == set(range(7))
