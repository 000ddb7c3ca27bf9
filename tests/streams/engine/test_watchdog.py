"""When a partition counts as stuck, and when not: on told time, and on a virtual loop with a world that is told."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka import Slot
from streams.engine.ports import WorkerFailed
from streams.engine.watchdog import Held, Place, Watch, Watchdog, places_of
from streams.simulation.virtual_time import VirtualLoop, run_virtually

LIMIT_S = 80.0
SHARD = ("voting", "3")
BEHIND = Place(SHARD, "t/3", 10, 20, 10)


def _looks(dog: Watchdog, place: Place, seconds: float, *, excused: bool = False, start_s: float = 0.0) -> list[Place]:
    found: list[Place] = []
    looks = int(seconds / dog.interval_s)
    for number in range(looks + 1):
        found = dog.look(start_s + number * dog.interval_s, [place], excused=excused)
    return found


def test_behind_and_not_moved_for_the_limit_is_stuck_and_not_a_moment_sooner() -> None:
    dog = Watchdog(LIMIT_S)
    assert _looks(dog, BEHIND, LIMIT_S - dog.interval_s) == []
    assert dog.facts(SHARD) == {"behind_records": 10, "still_s": LIMIT_S - dog.interval_s}
    assert dog.look(LIMIT_S, [BEHIND], excused=False) == [BEHIND]


@pytest.mark.parametrize("moved", [replace(BEHIND, position=11), replace(BEHIND, lowest=9)])
def test_one_record_in_time_or_one_of_the_stage_it_waits_for_begins_anew(moved: Place) -> None:
    dog = Watchdog(LIMIT_S)
    _looks(dog, BEHIND, LIMIT_S - dog.interval_s)
    assert dog.look(LIMIT_S, [moved], excused=False) == []
    assert dog.facts(SHARD)["still_s"] == 0


def test_whoever_has_read_all_may_stand_still_for_ever() -> None:
    dog = Watchdog(LIMIT_S)
    assert _looks(dog, replace(BEHIND, position=20, lowest=20), 10 * LIMIT_S) == []
    assert dog.facts(SHARD) == {"behind_records": 0, "still_s": 0.0}


def test_the_time_in_which_the_world_is_away_does_not_count() -> None:
    dog = Watchdog(LIMIT_S)
    _looks(dog, BEHIND, LIMIT_S / 2)
    assert _looks(dog, BEHIND, 100 * LIMIT_S, excused=True, start_s=LIMIT_S) == []
    still_s = dog.facts(SHARD)["still_s"]
    assert still_s <= LIMIT_S / 2
    assert _looks(dog, BEHIND, LIMIT_S, start_s=102 * LIMIT_S) == [BEHIND], "afterwards it counts on"


def test_one_long_step_of_the_process_counts_as_one_look() -> None:
    dog = Watchdog(LIMIT_S)
    dog.look(0, [BEHIND], excused=False)
    assert dog.look(1000 * LIMIT_S, [BEHIND], excused=False) == []
    assert dog.facts(SHARD)["still_s"] <= 2 * dog.interval_s


def test_a_partition_that_comes_back_after_a_rebalance_begins_anew() -> None:
    dog = Watchdog(LIMIT_S)
    _looks(dog, BEHIND, LIMIT_S - dog.interval_s)
    dog.look(LIMIT_S, [], excused=False)
    assert dog.look(LIMIT_S + 1, [BEHIND], excused=False) == []
    assert dog.facts(("other", "0")) == {"behind_records": 0, "still_s": 0}


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.sampled_from([1.0, 5.0, 40.0])), max_size=60
    )
)
def test_it_agrees_with_a_plain_count_of_still_seconds(looks: Sequence[tuple[int, int, bool, float]]) -> None:
    dog = Watchdog(20.0)
    position = end = 0
    was = -1
    now_s = still_s = 0.0
    for moved, added, excused, passed_s in looks:
        position, end = min(position + moved, end), end + added
        now_s += passed_s
        stuck = dog.look(now_s, [Place(SHARD, "t/0", position, end, position)], excused=excused)
        counted_s = 0.0 if excused else min(passed_s, 2 * dog.interval_s)
        still_s = 0.0 if position == end or position != was else still_s + counted_s
        assert bool(stuck) == (still_s >= 20.0)
        was = position


def test_a_partition_of_which_nothing_was_read_stands_at_its_start() -> None:
    held: list[Held] = [(SHARD, ("t", 3), None), (SHARD, ("u", 3), 5), (("other", "3"), ("u", 3), 9)]
    ends = {("t", 3): 7, ("u", 3): 9}
    assert places_of(held, ends, {("t", 3): 2}) == [
        Place(SHARD, "t/3", 2, 7, 2),
        Place(SHARD, "u/3", 5, 9, 5),
        Place(("other", "3"), "u/3", 9, 9, 5),
    ]
    assert places_of(held, {}, {}) == [], "of a broker that is away nothing is known"


@dataclass
class ToldWorld:
    """A world whose broker and database are away when they are told to be."""

    loop: VirtualLoop
    away: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    records: bool = True
    closed: bool = False

    def _is_away(self, what: str) -> bool:
        since_s, until_s = self.away.get(what, (0.0, 0.0))
        return since_s <= self.loop.time() < until_s

    async def ends(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        return {} if self._is_away("broker") else dict.fromkeys(slots, 20)

    async def starts(self, slots: Sequence[Slot]) -> Mapping[Slot, int]:
        return {} if self._is_away("broker") else dict.fromkeys(slots, 0)

    async def database_answers(self) -> bool:
        return not self._is_away("database")

    async def broker_answers(self) -> bool:
        return not self._is_away("broker")

    @property
    def clock_offset_s(self) -> float | None:
        return None

    async def has_record(self, place: Place) -> bool:
        return self.records

    async def close(self) -> None:
        self.closed = True


def _ended_at(loop: VirtualLoop, world: ToldWorld, held: Sequence[Held], for_s: float = 1000.0) -> float | None:
    """Return when (s) the watch ended its worker, None when it did not within ``for_s``."""

    async def scenario() -> float | None:
        watch = Watch(LIMIT_S, world, lambda: held)
        try:
            async with asyncio.timeout(for_s):
                await watch.run()
        except TimeoutError:
            return None
        except WorkerFailed as failure:
            assert failure.exit_code == 1
            assert str(failure).startswith("voting/3 is stuck: t/3 ")
            return loop.time()
        raise AssertionError("the watch returned")

    return run_virtually(loop, scenario())


STUCK: Sequence[Held] = [(SHARD, ("t", 3), 10)]


def test_the_watch_ends_a_stuck_worker_after_the_limit() -> None:
    loop = VirtualLoop()
    world = ToldWorld(loop)
    ended_s = _ended_at(loop, world, STUCK)
    assert ended_s is not None and LIMIT_S <= ended_s <= LIMIT_S + 10
    assert world.closed


@pytest.mark.parametrize("part", ["broker", "database"])
def test_the_watch_waits_as_long_as_a_part_of_the_world_is_away(part: str) -> None:
    loop = VirtualLoop()
    ended_s = _ended_at(loop, ToldWorld(loop, {part: (20.0, 620.0)}), STUCK)
    assert ended_s is not None and LIMIT_S + 600 - 10 <= ended_s <= LIMIT_S + 610


def test_the_watch_leaves_alone_who_has_read_all_or_has_only_marks_before_it() -> None:
    loop = VirtualLoop()
    assert _ended_at(loop, ToldWorld(loop), [(SHARD, ("t", 3), 20)]) is None
    loop = VirtualLoop()
    assert _ended_at(loop, ToldWorld(loop, records=False), STUCK) is None
