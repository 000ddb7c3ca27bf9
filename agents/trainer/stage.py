"""The trainer's stage: counts experiences, says when to train, and announces what came of it as a candidate.

It never learns anything itself: a network is trained outside, by whoever performs its requests, and told of as an
input. The replay buffer lies outside too, on a disk of which the checkpoint knows nothing. So each experience is kept
here as well until the buffer is known to have it in a snapshot; whatever dies when, the two together hold each
experience, and its number tells which of them are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents.stage import NO_EVENTS, ShardState
from agents.trainer.state import STATE_KEY, Asked, TrainerState, is_tail, tail_key
from schemas.event import Event, Heartbeat, derive_id
from schemas.feedback import Experience, ModelRelease, ReleaseStage
from schemas.training import (
    BufferResumed,
    BufferSaved,
    CandidateTrained,
    ExperienceTaken,
    TrainingFailed,
    TrainingRequested,
)
from schemas.venue_requests import Claimed

AUTHOR: Final = "trainer"
_CHAMPIONS_MAX: Final = 32
_Handler = Callable[[ShardState, TrainerState, Any], Sequence[Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """When to train: after ``first`` experiences, then whenever ``every`` more have come and ``interval_ns`` of the
    run's clock have passed since the last request. One training at a time; one that its worker did not survive
    ``attempts_max`` times is given up. Raises ValueError for numbers below 1 (``interval_ns``: below 0).
    """

    first: int
    every: int
    interval_ns: int
    attempts_max: int = 3

    def __post_init__(self) -> None:
        if min(self.first, self.every, self.attempts_max) < 1 or self.interval_ns < 0:
            raise ValueError(f"counts of at least 1 and an interval of at least 0 are needed, not {self}")


class Trainer:
    """The trainer stage: reads Experience, and who is champion; emits ModelRelease(CANDIDATE) and requests."""

    name: Final = "trainer"

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self._handlers: dict[type[Event], _Handler] = {
            Experience: self._experience,
            ModelRelease: self._release,
            Claimed: self._claimed,
            BufferSaved: self._saved,
            CandidateTrained: self._trained,
            TrainingFailed: self._failed,
        }

    def state_type(self, key: str) -> type:
        """Return the Struct type kept under ``key``."""
        return Experience if is_tail(key) else TrainerState

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event; time passes with every one of them, and with a Heartbeat only time does."""
        known: TrainerState = state.get(STATE_KEY) or TrainerState()
        handler = self._handlers.get(type(event))
        # What a Heartbeat moves is the time alone, and that is written down only with what follows from it.
        beat = type(event) is Heartbeat and self._is_due(known, event.available_at_ns)
        if handler is None and not beat:
            return state, NO_EVENTS
        known.now_ns = max(known.now_ns, event.available_at_ns)
        outputs = [] if handler is None else list(handler(state, known, event))
        if self._is_due(known, known.now_ns):
            outputs.append(_next_request(known))
        state[STATE_KEY] = known
        return state, outputs

    def _experience(self, state: ShardState, known: TrainerState, event: Experience) -> Sequence[Event]:
        known.taken += 1
        if known.taken == 1:
            known.lineage, known.asked_at_ns = event.event_id, known.now_ns
        state[tail_key(known.taken)] = event
        return (_taken(known, known.taken, event),)

    def _release(self, state: ShardState, known: TrainerState, event: ModelRelease) -> Sequence[Event]:
        """Follow who is champion: the newest that is not retired, as the decider does."""
        del state
        champions = [sha256 for sha256 in known.champions if sha256 != event.sha256]
        if event.release_stage is ReleaseStage.CHAMPION:
            champions.append(event.sha256)
        elif event.release_stage is ReleaseStage.CANDIDATE:
            return NO_EVENTS
        known.champions = champions[-_CHAMPIONS_MAX:]
        return NO_EVENTS

    def _claimed(self, state: ShardState, known: TrainerState, event: Claimed) -> Sequence[Event]:
        """Ask again for all that may be lost with the process that held the shard before."""
        del event
        again = [_taken(known, number, state[tail_key(number)]) for number in range(known.saved + 1, known.taken + 1)]
        resumed = BufferResumed(
            key=AUTHOR,
            event_time_ns=known.now_ns,
            available_at_ns=known.now_ns,
            lineage=known.lineage,
            saved=known.saved,
            taken=known.taken,
        )
        return (resumed, *again, *self._asked_again(known))

    def _asked_again(self, known: TrainerState) -> Sequence[Event]:
        asked = known.asked
        if asked is None:
            return NO_EVENTS
        asked.attempt += 1
        if asked.attempt > self._config.attempts_max:
            known.asked = None
            known.failures += 1
            return NO_EVENTS
        return (_request(known, asked),)

    def _saved(self, state: ShardState, known: TrainerState, event: BufferSaved) -> Sequence[Event]:
        if event.lineage == known.lineage:
            for number in range(known.saved + 1, min(event.number, known.taken) + 1):
                del state[tail_key(number)]
                known.saved = number
        return NO_EVENTS

    def _is_due(self, known: TrainerState, now_ns: int) -> bool:
        config = self._config
        needed = config.every if known.requests else config.first
        waited = max(known.now_ns, now_ns) - known.asked_at_ns >= config.interval_ns
        return known.asked is None and known.taken - known.asked_at_taken >= needed and waited

    def _trained(self, state: ShardState, known: TrainerState, event: CandidateTrained) -> Sequence[Event]:
        del state
        asked = known.asked
        if asked is None or asked.request_id != event.request_id:
            return NO_EVENTS
        known.asked = None
        known.candidates += 1
        release = ModelRelease(
            key=event.model,
            event_time_ns=known.now_ns,
            available_at_ns=known.now_ns,
            model=event.model,
            sha256=event.sha256,
            release_stage=ReleaseStage.CANDIDATE,
            reason=f"training {asked.ordinal}, on {event.transitions} transitions up to experience {asked.through}",
            author=AUTHOR,
        )
        return (release,)

    def _failed(self, state: ShardState, known: TrainerState, event: TrainingFailed) -> Sequence[Event]:
        """Wait for the next time by the schedule: what failed for want of experiences or of a disk needs time."""
        del state
        if known.asked is not None and known.asked.request_id == event.request_id:
            known.asked = None
            known.failures += 1
        return NO_EVENTS


def _taken(known: TrainerState, number: int, experience: Experience) -> ExperienceTaken:
    return ExperienceTaken(
        key=AUTHOR,
        event_time_ns=experience.event_time_ns,
        available_at_ns=experience.available_at_ns,
        lineage=known.lineage,
        number=number,
        experience=experience,
    )


def _next_request(known: TrainerState) -> TrainingRequested:
    known.requests += 1
    known.asked_at_taken, known.asked_at_ns = known.taken, known.now_ns
    request_id = derive_id(known.lineage, "trainer/request", known.requests)
    start = known.champions[-1] if known.champions else ""
    known.asked = Asked(request_id=request_id, ordinal=known.requests, attempt=1, through=known.taken, start=start)
    return _request(known, known.asked)


def _request(known: TrainerState, asked: Asked) -> TrainingRequested:
    return TrainingRequested(
        key=AUTHOR,
        event_time_ns=known.now_ns,
        available_at_ns=known.now_ns,
        request_id=asked.request_id,
        ordinal=asked.ordinal,
        attempt=asked.attempt,
        through=asked.through,
        start=asked.start,
    )
