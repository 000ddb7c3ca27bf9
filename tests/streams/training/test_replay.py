"""The replay buffer against a plain list, and its snapshots against kills, torn bytes and other people's files."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_experiences import BUDGET, BUDGETS, experience

from agents.decider.encoding import MAX_VOTES, VOTE_FEATURES, encode
from agents.decider.policy import TARGETS
from agents.reward.experience import Standing, rewarded
from agents.reward.shaping import RewardTerms
from streams.training.replay import Frozen, Replay
from streams.training.replay_file import SnapshotRefused, find_snapshot, read_snapshot, save_snapshot, snapshot_file
from streams.training.transitions import TransitionTerms, padded

ROOT = Path(__file__).resolve().parents[3]
TERMS = TransitionTerms(BUDGETS)
LINEAGE = experience(1).event_id


def filled(numbers: Iterable[int], capacity: int = 16) -> Replay:
    replay = Replay(capacity, TERMS)
    for number in numbers:
        replay.take(LINEAGE, number, experience(number))
    return replay


def same(one: Frozen, other: Frozen) -> bool:
    told = ("identity", "lineage", "position", "skipped", "standings", "instruments")
    return all(getattr(one, name) == getattr(other, name) for name in told) and all(
        np.array_equal(array, other.arrays[name]) and array.dtype == other.arrays[name].dtype
        for name, array in one.arrays.items()
    )


@given(count=st.integers(0, 40), capacity=st.integers(1, 12))
def test_it_holds_the_newest_from_the_oldest_on(count: int, capacity: int) -> None:
    frozen = filled(range(1, count + 1), capacity).frozen()
    expected: list[tuple[int, float]] = []
    standings: dict[str, Standing] = {}
    for number in range(1, count + 1):
        seen = experience(number)
        standing = standings.get(seen.instrument, Standing())
        standings[seen.instrument], reward = rewarded(standing, seen, BUDGET, RewardTerms())
        expected.append((TARGETS.index(seen.intended), reward))
    expected = expected[-capacity:] if count else []
    assert frozen.position == count
    assert frozen.arrays["action"].tolist() == [action for action, _ in expected]
    np.testing.assert_allclose(frozen.arrays["reward"], [reward for _, reward in expected], rtol=1e-6)
    for row, number in enumerate(range(count - len(expected) + 1, count + 1)):
        encoded, following = encode(experience(number).observation), encode(experience(number).next_observation)
        assert np.array_equal(frozen.arrays["context"][row], encoded.context)
        assert np.array_equal(frozen.arrays["votes"][row][frozen.arrays["present"][row] > 0], encoded.votes)
        assert np.array_equal(frozen.arrays["next_votes"][row][frozen.arrays["next_present"][row] > 0], following.votes)


def test_what_comes_twice_goes_in_once_and_what_was_left_out_is_noticed() -> None:
    replay = filled([1, 2, 3, 3, 2, 1])
    assert (replay.position, replay.count) == (3, 3)
    assert same(replay.frozen(), filled([1, 2, 3]).frozen())
    with pytest.raises(AssertionError, match="those between are missing"):
        replay.take(LINEAGE, 5, experience(5))
    with pytest.raises(AssertionError, match="buffer of"):
        replay.take("other", 4, experience(4))


def test_it_knows_of_which_instruments_its_transitions_are(tmp_path: Path) -> None:
    """Those that the ring has forgotten count no more; a snapshot says the same."""
    replay = Replay(4, TERMS)
    for number, instrument in enumerate(("B:B", "A:A", "C:C", "A:A", "C:C"), start=1):
        replay.take(LINEAGE, number, msgspec.structs.replace(experience(number), instrument=instrument))
    assert replay.frozen().by_instrument() == {"A:A": 2, "C:C": 2}
    file = save_snapshot(tmp_path, 1, replay.frozen())
    again = Replay(3, TERMS)
    again.thaw(read_snapshot(file, TERMS.identity))
    assert again.frozen().by_instrument() == {"A:A": 1, "C:C": 2}
    assert Replay(3, TERMS).frozen().by_instrument() == {}


def test_an_experience_of_a_strategy_without_budget_is_counted_and_left_out() -> None:
    replay = filled([1])
    assert replay.take(LINEAGE, 2, experience(2, strategy="gone"))
    assert (replay.position, replay.count, replay.skipped) == (2, 1, 1)


@pytest.mark.parametrize("wrong", [{"intended": math.nan}, {"effective": math.inf}])
def test_an_experience_without_a_target_is_counted_and_left_out(wrong: dict[str, float]) -> None:
    replay = filled([1])
    assert replay.take(LINEAGE, 2, msgspec.structs.replace(experience(2), **wrong))
    assert (replay.position, replay.count, replay.skipped) == (2, 1, 1)


def test_an_experience_that_knows_next_to_nothing_is_a_transition_all_the_same() -> None:
    replay = filled([1])
    bare = {"observation": {}, "next_observation": {"volatility": math.nan, "vote.a.p_up": 0.5}}
    assert replay.take(LINEAGE, 2, msgspec.structs.replace(experience(2), **bare))
    assert replay.count == 2
    assert all(np.isfinite(array).all() for array in replay.frozen().arrays.values())


def test_of_too_many_votes_those_that_weigh_most_are_kept() -> None:
    votes = np.zeros((MAX_VOTES + 3, len(VOTE_FEATURES)), np.float32)
    weight = VOTE_FEATURES.index("weight")
    votes[:, weight] = np.arange(len(votes)) / 100
    rows, present = padded(votes)
    assert present.sum() == MAX_VOTES
    assert rows[:, weight].min() == np.float32(0.03)


@given(count=st.integers(0, 30), capacity=st.integers(1, 20))
def test_a_snapshot_gives_back_what_was_saved_and_a_smaller_ring_keeps_the_newest(count: int, capacity: int) -> None:
    frozen = filled(range(1, count + 1)).frozen()
    again = Replay(capacity, TERMS)
    again.thaw(frozen)
    kept = min(count, 16, capacity)
    assert (again.position, again.count) == (count, kept)
    assert np.array_equal(again.frozen().arrays["reward"], frozen.arrays["reward"][frozen.count - kept :])
    again.take(LINEAGE, count + 1, experience(count + 1))
    straight = filled(range(1, count + 2), capacity) if capacity <= 16 else filled(range(1, count + 2))
    rows = min(again.count, straight.count)
    assert np.array_equal(again.frozen().arrays["reward"][-rows:], straight.frozen().arrays["reward"][-rows:])


def test_a_snapshot_on_disk_is_the_buffer_to_the_bit(tmp_path: Path) -> None:
    frozen = filled(range(1, 30)).frozen()
    file = save_snapshot(tmp_path / "new" / "place", 3, frozen)
    assert same(read_snapshot(file, TERMS.identity), frozen)
    found = find_snapshot(tmp_path / "new" / "place", TERMS.identity)
    assert found.frozen is not None
    assert same(found.frozen, frozen)
    assert found.refusals == ()


def test_an_empty_place_has_no_snapshot_and_nothing_to_complain_of(tmp_path: Path) -> None:
    assert find_snapshot(tmp_path / "nowhere", TERMS.identity).frozen is None
    assert find_snapshot(tmp_path / "nowhere", TERMS.identity).refusals == ()


def test_a_holder_that_was_replaced_does_not_touch_its_successors_snapshot(tmp_path: Path) -> None:
    old, new = filled(range(1, 9)).frozen(), filled(range(1, 12)).frozen()
    save_snapshot(tmp_path, 1, old)
    save_snapshot(tmp_path, 2, new)
    assert [file.name for file in tmp_path.iterdir()] == [snapshot_file(tmp_path, 2).name]
    save_snapshot(tmp_path, 1, old)
    found = find_snapshot(tmp_path, TERMS.identity).frozen
    assert found is not None
    assert found.position == 11


def test_a_snapshot_by_other_terms_is_refused_in_one_sentence(tmp_path: Path) -> None:
    save_snapshot(tmp_path, 1, filled([1, 2]).frozen())
    other = replace(TERMS, reward=RewardTerms(drawdown_penalty=0.5))
    found = find_snapshot(tmp_path, other.identity)
    assert found.frozen is None
    assert len(found.refusals) == 1
    assert "was made by other terms" in found.refusals[0]


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_torn_or_changed_snapshot_is_refused_wherever_it_was_hit(
    place: float, bit: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    older = filled([1]).frozen()
    file = save_snapshot(directory, 2, filled(range(1, 6)).frozen())
    save_snapshot(directory, 1, older)
    content = bytearray(file.read_bytes())
    where = int(place * len(content))
    if cut:
        del content[where:]
    else:
        content[where] ^= 1 << bit
    file.write_bytes(content)
    found = find_snapshot(directory, TERMS.identity)
    assert found.frozen is not None
    assert same(found.frozen, older), "the one before is gone on with"
    assert len(found.refusals) == 1
    assert str(file) in found.refusals[0]


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    snapshot_file(tmp_path, 1).write_bytes(b"not safetensors at all")
    with pytest.raises(SnapshotRefused, match="cannot be read"):
        read_snapshot(snapshot_file(tmp_path, 1), TERMS.identity)


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from trainer_experiences import BUDGETS, experience
from streams.training.replay import Replay
from streams.training.replay_file import save_snapshot
from streams.training.transitions import TransitionTerms
replay = Replay(64, TransitionTerms(BUDGETS))
for number in range(1, 100_000):
    replay.take(experience(1).event_id, number, experience(number))
    save_snapshot(Path(sys.argv[1]), 1, replay.frozen())
    print(number, flush=True)
"""


@pytest.mark.slow(seconds=12)
def test_killed_at_any_moment_of_writing_it_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    """kill -9 after 1 to 12 more snapshots, at no moment of ours: what was told to be saved is there."""
    program = _WRITER.format(root=str(ROOT), tests=str(ROOT / "tests"))
    for more in range(1, 13):
        directory = tmp_path / str(more)
        command = [sys.executable, "-c", program, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as writer:
            assert writer.stdout is not None
            told = [int(writer.stdout.readline()) for _ in range(more * 5)][-1]
            os.kill(writer.pid, signal.SIGKILL)
            told = max([told, *map(int, writer.stdout.read().split())])
        found = find_snapshot(directory, TERMS.identity)
        assert found.refusals == ()
        assert found.frozen is not None
        assert found.frozen.position in (told, told + 1)
        assert same(found.frozen, filled(range(1, found.frozen.position + 1), 64).frozen())
        (directory / (snapshot_file(directory, 1).stem + ".new")).write_bytes(b"half")
        assert find_snapshot(directory, TERMS.identity).refusals == ()
