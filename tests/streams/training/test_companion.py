"""The stage and its shell together, on a real disk, ended at every possible moment: no experience twice, none lost.

Around them is what the engine does: step, commit, perform, and after a crash a claim of what was committed. A training
is a function of the snapshot that it is given, so that a wrong buffer gives another candidate.
"""

import asyncio
import hashlib
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from trainer_experiences import BUDGETS, STEP_NS, experience, teaching

from agents.stage import ShardState, run_step
from agents.trainer.stage import Trainer, TrainerConfig
from agents.trainer.state import STATE_KEY, TrainerState, is_tail
from schemas.event import Event, derive_id
from schemas.feedback import ModelRelease
from schemas.routing import PERFORMED
from schemas.training import BufferSaved, CandidateTrained, ExperienceTaken, TrainingFailed, TrainingFailure
from schemas.venue_requests import Claimed
from streams.engine.ports import WorkerFailed
from streams.training.companion import OnlineTerms, TrainerCompanion
from streams.training.job import SNAPSHOT_NAME, TrainingOutcome, read_job, write_outcome
from streams.training.replay import Replay
from streams.training.replay_file import find_snapshot, read_snapshot, save_snapshot, snapshot_file
from streams.training.transitions import TransitionTerms

TRANSITIONS = TransitionTerms(BUDGETS)
CONFIG = TrainerConfig(first=10, every=10, interval_ns=0)
LAST = 60
TEACHING = teaching(TRANSITIONS.identity)


async def digest_of_the_snapshot(folder: Path) -> TrainingOutcome:
    """Train: the candidate's address is a digest of what it was trained on."""
    await asyncio.sleep(0)
    frozen = read_snapshot(folder / SNAPSHOT_NAME, TRANSITIONS.identity)
    rewards = frozen.arrays["reward"].tobytes()
    sha256 = hashlib.sha256(f"{frozen.position}".encode() + rewards).hexdigest()
    outcome = TrainingOutcome(model="m", sha256=sha256, transitions=frozen.count)
    write_outcome(folder, outcome)
    return outcome


def terms(directory: Path) -> OnlineTerms:
    return OnlineTerms(
        directory=directory,
        capacity=24,
        snapshot_every=4,
        transitions=TRANSITIONS,
        teaching=TEACHING,
        train=digest_of_the_snapshot,
    )


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Desk:
    """What outlives a process: the log of experiences, the checkpoint, what was sent, and the disk."""

    directory: Path
    dies: Callable[[], bool] = lambda: False
    terms: OnlineTerms | None = None
    last: int = LAST
    offset: int = 0
    state: dict[str, bytes] = field(default_factory=dict)
    sent: list[Event] = field(default_factory=list)
    lives: int = 0
    positions: list[int] = field(default_factory=list)

    async def inject(self, event: Event) -> None:
        """Take what the companion tells."""
        self.told.append(event)

    async def live(self) -> Replay:
        """One life of the process: claim, step to the end of the log, until nothing is under way. May be killed."""
        self.lives += 1
        self.told: deque[Event] = deque()
        self.stage, self.shard = Trainer(CONFIG), ShardState()
        for key, value in self.state.items():
            self.shard.restore(key, msgspec.msgpack.decode(value, type=self.stage.state_type(key)))
        companion = TrainerCompanion(self.terms or terms(self.directory))
        await companion.start(self, self.lives)
        try:
            claim = Claimed(key="t", event_time_ns=1, available_at_ns=1, event_id=f"c{self.lives}", epoch=self.lives)
            await self._batch(companion, [claim], self.offset)
            while self._busy():
                self._maybe_die()
                batch: list[Event] = [self.told.popleft() for _ in range(len(self.told))]
                offset = self.offset
                if offset < self.last:
                    offset += 1
                    batch.append(experience(offset))
                if batch:
                    await self._batch(companion, batch, offset)
                else:
                    companion.reached(self.last * STEP_NS)
                await asyncio.sleep(0.0005)
        finally:
            # A kill ends threads in the middle, too; here they come to their end before the next life begins.
            await companion.stop()
            await asyncio.get_running_loop().shutdown_default_executor()
        return companion.replay

    def known(self) -> TrainerState:
        """The stage's counts, as they are committed."""
        return msgspec.msgpack.decode(self.state[STATE_KEY], type=TrainerState)

    def _busy(self) -> bool:
        known = self.shard.get(STATE_KEY) or TrainerState()
        return bool(self.offset < self.last or self.told or known.asked is not None)

    async def _batch(self, companion: TrainerCompanion, batch: list[Event], offset: int) -> None:
        outputs = [output for event in batch for output in run_step(self.stage, self.shard, event)[1]]
        self._maybe_die()
        for key in self.shard.touched:
            if key in self.shard:
                self.state[key] = msgspec.msgpack.encode(self.shard[key])
            else:
                self.state.pop(key, None)
        self.shard.touched.clear()
        self.offset = offset
        self.sent += [output for output in outputs if not isinstance(output, PERFORMED)]
        self._maybe_die()
        requests = [output for output in outputs if isinstance(output, PERFORMED)]
        if requests:
            await companion.perform(requests, [0] * len(requests))
        self._maybe_die()
        companion.reached(offset * STEP_NS)
        self.positions.append(companion.replay.position)

    def _maybe_die(self) -> None:
        if self.dies():
            raise Killed


def lived(desk: Desk) -> Replay:
    """Live until a life comes to its end."""
    while True:
        try:
            return asyncio.run(desk.live())
        except Killed:
            continue


def undisturbed(directory: Path) -> tuple[Desk, Replay]:
    desk = Desk(directory)
    return desk, lived(desk)


def candidates(desk: Desk) -> list[str]:
    return [event.sha256 for event in desk.sent if isinstance(event, ModelRelease)]


def test_it_holds_every_experience_and_gives_a_candidate_for_each_request(tmp_path: Path) -> None:
    desk, replay = undisturbed(tmp_path)
    assert (replay.position, replay.count) == (LAST, 24)
    known = desk.known()
    assert known.requests == len(candidates(desk)) == known.candidates > 1
    assert known.saved > LAST - 2 * 4
    assert {key for key in desk.state if is_tail(key)} == {f"tail/{n}" for n in range(known.saved + 1, LAST + 1)}


@pytest.mark.parametrize("seed", range(12))
def test_killed_anywhere_any_number_of_times_the_buffer_is_the_same(seed: int, tmp_path: Path) -> None:
    _, expected = undisturbed(tmp_path / "calm")
    dice = random.Random(seed)
    desk = Desk(tmp_path / "wild", dies=lambda: desk.lives < 25 and dice.random() < 0.08)
    replay = lived(desk)
    assert desk.lives > 3, "it was killed"
    one, other = replay.frozen(), expected.frozen()
    assert (one.position, one.standings) == (other.position, other.standings)
    assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in other.arrays)
    known = desk.known()
    assert known.candidates + known.failures == known.requests
    assert len(candidates(desk)) == known.candidates, "each request has one outcome, however often it was asked"


def test_a_training_that_was_done_before_the_kill_is_told_and_not_done_again(tmp_path: Path) -> None:
    trainings: list[str] = []

    async def counted(folder: Path) -> TrainingOutcome:
        trainings.append(read_job(folder).request_id)
        return await digest_of_the_snapshot(folder)

    desk = Desk(tmp_path, terms=replace(terms(tmp_path), train=counted), last=10)
    # Killed as soon as the outcome is told, before it is committed.
    desk.dies = lambda: desk.lives == 1 and any(isinstance(event, CandidateTrained) for event in desk.told)
    lived(desk)
    assert desk.lives == 2
    assert len(trainings) == 1
    assert len(candidates(desk)) == 1


def test_a_training_that_failed_is_told_with_its_reason(tmp_path: Path) -> None:
    async def fails(folder: Path) -> TrainingOutcome:
        return TrainingOutcome(failure=TrainingFailure.TIMED_OUT, detail="too slow")

    desk = Desk(tmp_path, terms=replace(terms(tmp_path), train=fails))
    lived(desk)
    known = desk.known()
    assert (known.candidates, candidates(desk)) == (0, [])
    assert known.failures == known.requests > 1


def test_a_torn_snapshot_is_told_of_and_the_buffer_begins_anew_without_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, last=45)
    lived(desk)
    saved = desk.known().saved
    for file in tmp_path.glob("replay-*"):
        file.write_bytes(file.read_bytes()[:-7])
    desk.last = LAST
    with caplog.at_level(logging.WARNING):
        replay = lived(desk)
    assert replay.position == LAST
    assert replay.count == LAST - saved, "what the stage had kept is in it, too"
    told = [record.getMessage() for record in caplog.records]
    assert sum("cannot be read" in line for line in told) == 1
    assert sum(f"lacks the experiences 1 to {saved}" in line for line in told) == 1


@pytest.mark.parametrize("ahead", [True, False])
def test_a_snapshot_of_another_run_or_from_before_a_rewind_is_told_of_and_not_gone_on_with(
    ahead: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Replay(24, TRANSITIONS)
    for number in range(1, 21):
        seen = experience(number, seed=0 if ahead else 5)
        other.take(experience(1, seed=0 if ahead else 5).event_id, number, seen)
    desk = Desk(tmp_path, last=9)
    lived(desk)
    save_snapshot(tmp_path, 99, other.frozen())
    with caplog.at_level(logging.WARNING):
        replay = lived(desk)
    assert sum("another run" in record.getMessage() for record in caplog.records) == 1
    assert replay.position == 9
    assert replay.count <= 9
    assert replay.lineage == experience(1).event_id


def test_after_a_rewind_the_outcome_of_what_was_forgotten_answers_no_request_of_the_same_name(tmp_path: Path) -> None:
    ahead = Replay(24, TRANSITIONS)
    for number in range(1, 31):
        ahead.take(experience(1).event_id, number, experience(number))
    desk = Desk(tmp_path, last=9)
    lived(desk)
    save_snapshot(tmp_path, 99, ahead.frozen())
    request_id = derive_id(experience(1).event_id, "trainer/request", 1)
    forgotten = tmp_path / "jobs" / f"{request_id}-99-1"
    forgotten.mkdir(parents=True)
    write_outcome(forgotten, TrainingOutcome(model="m", sha256="forgotten", transitions=30))
    desk.last = 10
    lived(desk)
    assert len(candidates(desk)) == 1
    assert candidates(desk) != ["forgotten"]


def test_an_older_copy_of_a_snapshot_is_gone_on_with_and_what_it_lacks_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, last=20)
    lived(desk)
    found = find_snapshot(tmp_path, TRANSITIONS.identity).frozen
    assert found is not None
    older = Replay(24, TRANSITIONS)
    for number in range(1, 6):
        older.take(found.lineage, number, experience(number))
    for file in tmp_path.glob("replay-*"):
        file.unlink()
    save_snapshot(tmp_path, 1, older.frozen())
    saved = desk.known().saved
    with caplog.at_level(logging.WARNING):
        replay = lived(desk)
    assert sum(f"lacks the experiences 6 to {saved}" in record.getMessage() for record in caplog.records) == 1
    assert replay.count == 5 + 20 - saved


def test_a_disk_that_takes_no_snapshot_ends_the_worker_with_one_sentence(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("no directory")
    with pytest.raises(WorkerFailed, match=r"The replay buffer cannot be saved in .*: "):
        asyncio.run(Desk(place).live())


def test_a_batch_that_brings_much_waits_for_the_disk(tmp_path: Path) -> None:
    """What is in no snapshot is in the stage's checkpoint, and must not grow there without bound."""

    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.told = deque()
        companion = TrainerCompanion(terms(tmp_path))
        await companion.start(desk, 1)
        stage, state = Trainer(CONFIG), ShardState()
        outputs = [output for n in range(1, 201) for output in run_step(stage, state, experience(n))[1]]
        taken = [output for output in outputs if isinstance(output, ExperienceTaken)]
        await companion.perform(taken, [0] * len(taken))
        found = find_snapshot(tmp_path, TRANSITIONS.identity).frozen
        assert found is not None
        assert found.position >= 200 - 4 * 4
        await companion.stop()

    asyncio.run(scenario())


def test_the_stage_is_told_only_what_it_can_read_back() -> None:
    """What is injected is journaled by its type's name and must be among the hosting's types."""
    from streams.trainer import INJECTED

    assert {BufferSaved, CandidateTrained, TrainingFailed, Claimed} == set(INJECTED)
    assert snapshot_file(Path("x"), 7).name == "replay-0000000007.safetensors"
