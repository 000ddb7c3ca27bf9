"""The trainer's stage: when it asks, what it keeps until a snapshot has it, and that each request has one outcome."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_experiences import STEP_NS, experience

from agents.stage import ShardState, run_step
from agents.trainer.stage import Trainer, TrainerConfig
from agents.trainer.state import STATE_KEY, TrainerState, is_tail
from schemas.event import Event, Heartbeat
from schemas.feedback import ModelRelease, ReleaseStage
from schemas.training import (
    BufferResumed,
    BufferSaved,
    CandidateTrained,
    ExperienceTaken,
    TrainingFailed,
    TrainingFailure,
    TrainingRequested,
)
from schemas.venue_requests import Claimed

SHA = "ab" * 32


def stage(first: int = 3, every: int = 2, interval_steps: int = 0) -> Trainer:
    return Trainer(TrainerConfig(first=first, every=every, interval_ns=interval_steps * STEP_NS))


def beat(step: int) -> Heartbeat:
    return Heartbeat(key="t", event_time_ns=step * STEP_NS, available_at_ns=step * STEP_NS, event_id=f"beat{step}")


def claimed(epoch: int = 1) -> Claimed:
    return Claimed(key="t", event_time_ns=1, available_at_ns=1, event_id=f"claim{epoch}", epoch=epoch)


def trained(request: TrainingRequested, at_step: int = 0) -> CandidateTrained:
    return CandidateTrained(
        key="trainer",
        event_time_ns=at_step * STEP_NS,
        available_at_ns=at_step * STEP_NS,
        event_id=f"trained {request.request_id}",
        request_id=request.request_id,
        model="online-1",
        sha256=SHA,
        transitions=7,
        metrics={},
    )


def failed(request: TrainingRequested) -> TrainingFailed:
    reason = TrainingFailure.TIMED_OUT
    return TrainingFailed(
        key="trainer", event_time_ns=1, available_at_ns=1, request_id=request.request_id, reason=reason, detail="slow"
    )


def saved(lineage: str, number: int) -> BufferSaved:
    return BufferSaved(key="trainer", event_time_ns=1, available_at_ns=1, lineage=lineage, number=number)


def release(sha256: str, release_stage: ReleaseStage) -> ModelRelease:
    return ModelRelease(
        key="m",
        event_time_ns=1,
        available_at_ns=1,
        event_id=f"{sha256}{release_stage}",
        model="m",
        sha256=sha256,
        release_stage=release_stage,
        reason="",
        author="ann",
    )


def step(trainer: Trainer, state: ShardState, *events: Event) -> list[Event]:
    outputs: list[Event] = []
    for event in events:
        outputs += run_step(trainer, state, event)[1]
    return outputs


def requests(outputs: Sequence[Event]) -> list[TrainingRequested]:
    return [event for event in outputs if isinstance(event, TrainingRequested)]


def tail(state: ShardState) -> set[str]:
    return {key for key in state if is_tail(key)}


def restored(trainer: Trainer, state: ShardState) -> ShardState:
    """What a checkpoint gives back: only touched keys are ever written, so a key changed without a mark is caught."""
    again = ShardState()
    for key, value in state.items():
        again.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=trainer.state_type(key)))
    return again


def test_each_experience_is_handed_over_under_its_number_and_kept_until_a_snapshot_has_it() -> None:
    trainer, state = stage(), ShardState()
    outputs = step(trainer, state, experience(1), experience(2))
    assert [(e.number, e.experience.decision_id) for e in outputs if isinstance(e, ExperienceTaken)] == [
        (1, "d1"),
        (2, "d2"),
    ]
    assert {e.lineage for e in outputs if isinstance(e, ExperienceTaken)} == {experience(1).event_id}
    assert len(tail(state)) == 2
    step(trainer, state, saved("another", 2))
    assert len(tail(state)) == 2, "a snapshot of other experiences holds none of these"
    step(trainer, state, saved(experience(1).event_id, 1))
    assert tail(state) == {"tail/2"}
    step(trainer, state, saved(experience(1).event_id, 99))
    assert tail(state) == set()


def test_it_asks_after_the_first_experiences_and_then_after_each_further_ones_but_never_twice_at_once() -> None:
    trainer, state = stage(first=3, every=2), ShardState()
    asked = requests(step(trainer, state, *(experience(n) for n in range(1, 4))))
    assert [(r.ordinal, r.through, r.attempt) for r in asked] == [(1, 3, 1)]
    assert requests(step(trainer, state, *(experience(n) for n in range(4, 9)))) == []
    told = step(trainer, state, trained(asked[0], 8))
    assert [type(event) for event in told] == [ModelRelease, TrainingRequested]
    assert requests(told)[0].through == 8
    assert requests(told)[0].request_id != asked[0].request_id


def test_it_waits_for_the_time_too_and_a_heartbeat_ends_the_wait() -> None:
    trainer, state = stage(first=2, every=1, interval_steps=10), ShardState()
    assert requests(step(trainer, state, experience(1), experience(2), beat(10))) == []
    assert len(requests(step(trainer, state, beat(11)))) == 1


def test_a_heartbeat_that_has_nothing_to_say_changes_nothing() -> None:
    trainer, state = stage(), ShardState()
    step(trainer, state, experience(1))
    state.touched.clear()
    before = msgspec.msgpack.encode(state[STATE_KEY])
    step(trainer, state, beat(5))
    assert (state.touched, msgspec.msgpack.encode(state[STATE_KEY])) == (set(), before)


def test_a_candidate_is_released_as_one_and_only_once() -> None:
    trainer, state = stage(first=1, every=100), ShardState()
    (request,) = requests(step(trainer, state, experience(1)))
    (event,) = step(trainer, state, trained(request))
    assert isinstance(event, ModelRelease)
    assert (event.model, event.sha256, event.release_stage) == ("online-1", SHA, ReleaseStage.CANDIDATE)
    assert event.author == "trainer"
    assert step(trainer, state, trained(request), failed(request)) == []


def test_a_training_that_failed_says_nothing_and_the_next_comes_by_the_schedule() -> None:
    trainer, state = stage(first=1, every=2), ShardState()
    (request,) = requests(step(trainer, state, experience(1)))
    assert step(trainer, state, failed(request)) == []
    assert step(trainer, state, trained(request)) == [], "what failed has had its outcome"
    assert [r.ordinal for r in requests(step(trainer, state, experience(2), experience(3)))] == [2]


def test_after_a_claim_it_asks_again_for_what_no_snapshot_has_and_for_the_training_that_was_under_way() -> None:
    trainer, state = stage(first=3, every=1), ShardState()
    assert [type(event) for event in step(trainer, state, claimed(1))] == [BufferResumed]
    (request,) = requests(step(trainer, state, *(experience(n) for n in range(1, 6))))
    step(trainer, state, saved(experience(1).event_id, 2))
    again = step(trainer, restored(trainer, state), claimed(2))
    resumed = again[0]
    assert isinstance(resumed, BufferResumed)
    assert (resumed.lineage, resumed.saved, resumed.taken) == (experience(1).event_id, 2, 5)
    assert [e.number for e in again if isinstance(e, ExperienceTaken)] == [3, 4, 5]
    assert [(r.request_id, r.attempt) for r in requests(again)] == [(request.request_id, 2)]


def test_a_training_that_no_worker_survives_is_given_up() -> None:
    trainer, state = stage(first=1, every=1), ShardState()
    (request,) = requests(step(trainer, state, experience(1)))
    attempts = [requests(step(trainer, state, claimed(epoch))) for epoch in range(1, 4)]
    assert [[r.attempt for r in asked] for asked in attempts] == [[2], [3], []]
    (further,) = requests(step(trainer, state, experience(2)))
    assert further.request_id != request.request_id


def test_it_trains_from_the_newest_champion_that_is_not_retired() -> None:
    trainer, state = stage(first=1, every=1), ShardState()
    (request,) = requests(step(trainer, state, experience(1)))
    assert request.start == "", "the one of the settings"
    step(trainer, state, release("a", ReleaseStage.CHAMPION), release("b", ReleaseStage.CHAMPION))
    step(trainer, state, release("b", ReleaseStage.CANDIDATE), release("c", ReleaseStage.SHADOW), failed(request))
    (request,) = requests(step(trainer, state, experience(2)))
    assert request.start == "b"
    step(trainer, state, release("b", ReleaseStage.RETIRED), failed(request))
    assert requests(step(trainer, state, experience(3)))[0].start == "a"


@given(
    first=st.integers(1, 6),
    every=st.integers(1, 6),
    interval=st.integers(0, 8),
    moves=st.lists(st.sampled_from(["experience", "beat", "outcome", "claim"]), max_size=60),
)
def test_by_any_schedule_requests_are_as_far_apart_as_was_said(
    first: int, every: int, interval: int, moves: list[str]
) -> None:
    """The oracle counts by itself: at each request, experiences and time since the one before are enough, and had they
    been enough a step earlier, with nothing under way, the request would have come then."""
    trainer, state = stage(first, every, interval), ShardState()
    taken, asked_taken, asked_now = 0, 0, 0
    open_request: TrainingRequested | None = None
    count = 0
    for now, move in enumerate(moves, 1):
        if move == "experience":
            taken += 1
            event: Event = msgspec.structs.replace(experience(taken), available_at_ns=now * STEP_NS)
            if taken == 1:
                asked_now = now
        elif move == "outcome" and open_request is not None:
            event, open_request = trained(open_request, now), None
        elif move == "claim":
            event = msgspec.structs.replace(claimed(now), available_at_ns=now * STEP_NS)
        else:
            event = beat(now)
        fresh = [r for r in requests(step(trainer, state, event)) if r.attempt == 1]
        given_up = open_request is not None and state[STATE_KEY].asked is None
        if given_up or (fresh and open_request is not None):
            open_request = None
        enough = taken - asked_taken >= (every if count else first) and now - asked_now >= interval
        assert bool(fresh) == (enough and open_request is None), (now, move)
        if fresh:
            (open_request,), count = fresh, count + 1
            assert (open_request.ordinal, open_request.through) == (count, taken)
            asked_taken, asked_now = taken, now
        known: TrainerState = state.get(STATE_KEY) or TrainerState()
        assert known.taken == taken
        assert len(tail(state)) == taken


@pytest.mark.parametrize("bad", [{"first": 0}, {"every": 0}, {"interval_ns": -1}, {"attempts_max": 0}])
def test_impossible_schedules_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        TrainerConfig(**({"first": 1, "every": 1, "interval_ns": 0} | bad))
