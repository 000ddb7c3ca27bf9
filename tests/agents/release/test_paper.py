"""Two paths of targets on paper: each pays its own changes at one cost, and earns what it held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.release.paper import Pair, paper_result

ONE = 100_000_000


def pair(at: int, mid: float | None, incumbent: float, challenger: float, **changes: object) -> Pair:
    fields = {"line": "committee|BTC", "one_way": 0.001} | changes
    units = None if mid is None else round(mid * ONE)
    return Pair(at_ns=at, mid=units, incumbent=incumbent, challenger=challenger, **fields)  # type: ignore[arg-type]


def test_each_side_earns_what_it_held_and_pays_for_what_it_changed() -> None:
    found = paper_result([pair(1, 100, 0.5, -1.0), pair(2, 101, 0.5, 1.0), pair(3, 99, 0.0, 0.0)])
    assert found.incumbent.tolist() == pytest.approx([0.5 * 0.01 - 0.0005, 0.5 * -2 / 101])
    assert found.challenger.tolist() == pytest.approx([-0.01 - 0.001, -2 / 101 - 0.002])
    assert found.differences.tolist() == pytest.approx((found.challenger - found.incumbent).tolist())
    assert (found.decisions, found.differing) == (2, 1.0)


def test_what_nobody_could_trade_is_passed_over_and_its_move_counts_for_who_held() -> None:
    pairs = [
        pair(1, 100, 1.0, 0.0),
        pair(2, None, 1.0, 0.0),
        pair(3, 90, 1.0, 0.0, one_way=None),
        pair(4, 110, 1.0, 0.0),
    ]
    found = paper_result(pairs)
    assert found.incumbent.tolist() == pytest.approx([0.1 - 0.001])
    assert found.challenger.tolist() == [0.0]


def test_lines_are_held_apart_and_their_decisions_ordered_by_time() -> None:
    mine = [pair(1, 100, 1.0, 1.0), pair(3, 110, 1.0, 1.0), pair(5, 110, 1.0, 1.0)]
    other = [pair(2, 50, 1.0, 0.0, line="committee|ETH"), pair(4, 60, 1.0, 0.0, line="committee|ETH")]
    found = paper_result([*other, *mine])
    assert found.incumbent.tolist() == pytest.approx([0.1 - 0.001, 0.2 - 0.001, 0.0])
    assert found.differing == pytest.approx(1 / 3)


def test_of_nothing_nothing_is_known() -> None:
    found = paper_result([pair(1, 100, 1.0, 0.0)])
    assert (found.decisions, found.differing) == (0, 0.0)


@given(
    st.lists(st.tuples(st.floats(50, 150), st.sampled_from((-1.0, -0.5, 0.0, 0.5, 1.0))), min_size=2, max_size=20),
    st.floats(0, 0.01),
)
def test_who_wants_the_same_earns_the_same(path: list[tuple[float, float]], one_way: float) -> None:
    found = paper_result([pair(at, mid, wanted, wanted, one_way=one_way) for at, (mid, wanted) in enumerate(path)])
    assert found.differences.tolist() == [0.0] * (len(path) - 1)
    assert found.differing == 0.0
