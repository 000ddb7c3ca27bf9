"""A reader takes each (generation, seq) of a source once per lane, and each id of an outsider once in its window."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Heartbeat
from streams.engine.dedupe import WINDOW_MAX, SeenPositions

POSITIONS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20)), max_size=60)


def _event(source: str, generation: int, seq: int, event_id: str = "") -> Heartbeat:
    return Heartbeat(
        key="k", event_time_ns=0, available_at_ns=0, event_id=event_id, source=source, generation=generation, seq=seq
    )


@given(POSITIONS)
def test_only_what_lies_above_everything_before_it_is_new(positions: list[tuple[int, int]]) -> None:
    seen = SeenPositions()
    taken = [position for position in positions if seen.is_new("t/0", _event("a", *position))]
    assert taken == [
        position for number, position in enumerate(positions) if position > max(positions[:number], default=(0, -1))
    ]


@given(POSITIONS)
def test_sources_and_lanes_do_not_shadow_each_other(positions: list[tuple[int, int]]) -> None:
    seen, alone = SeenPositions(), SeenPositions()
    for position in positions:
        expected = alone.is_new("t/0", _event("a", *position))
        assert seen.is_new("t/0", _event("a", *position)) == expected
        assert seen.is_new("t/0", _event("b", *position)) == expected
        assert seen.is_new("t/1", _event("a", *position)) == expected


def test_a_resent_stretch_is_dropped_and_a_new_generation_begins_anew() -> None:
    seen = SeenPositions()
    taken = [seq for seq in (1, 2, 3, 2, 3, 4) if seen.is_new("t/0", _event("a", 1, seq))]
    assert taken == [1, 2, 3, 4]
    assert seen.is_new("t/0", _event("a", 2, 0))
    assert not seen.is_new("t/0", _event("a", 1, 99)), "an older generation is a zombie's"


def test_the_window_of_outsiders_is_bounded_and_forgets_the_oldest() -> None:
    seen = SeenPositions()
    for number in range(WINDOW_MAX + 1):
        assert seen.is_new("t/0", _event("", 0, 0, f"id{number}"))
    assert not seen.is_new("t/0", _event("", 0, 0, f"id{WINDOW_MAX}"))
    assert not seen.is_new("t/0", _event("", 0, 0, "id1"))
    assert seen.is_new("t/0", _event("", 0, 0, "id0")), "the oldest was forgotten"
    assert len(seen.windows["t/0"]) == WINDOW_MAX


@given(POSITIONS, st.lists(st.sampled_from("abc"), max_size=10))
def test_it_survives_a_checkpoint(positions: list[tuple[int, int]], ids: list[str]) -> None:
    seen = SeenPositions()
    for position in positions:
        seen.is_new("t/0", _event("a", *position))
    for name in ids:
        seen.is_new("t/0", _event("", 0, 0, name))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(seen), type=SeenPositions)
    assert again == seen
    assert [list(window) for window in again.windows.values()] == [list(window) for window in seen.windows.values()]
