"""What the trainer's stage asks for, performed: the replay buffer, its snapshots, and one training at a time.

The stage keeps each experience until it hears that a snapshot holds it, and asks for all of the rest again after a
claim. So whatever is killed when, buffer and stage together hold every experience, and by its number each goes in once.
"""

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.event import Event, derive_id
from schemas.training import (
    BufferResumed,
    BufferSaved,
    CandidateTrained,
    ExperienceTaken,
    TrainingFailed,
    TrainingRequested,
)
from streams.engine.ports import Inlet, WorkerFailed
from streams.training.job import SNAPSHOT_NAME, Teaching, TrainingJob, TrainingOutcome, read_outcome, write_job
from streams.training.replay import Frozen, Replay
from streams.training.replay_file import find_snapshot, save_snapshot, write_snapshot
from streams.training.transitions import TransitionTerms

LOG: Final = logging.getLogger("tradermind.trainer")
_UNSAVED_SNAPSHOTS_MAX: Final = 4
"""So many snapshots' worth of experiences may lie in no snapshot; then no further batch is stepped."""
_JOBS: Final = "jobs"
_KEY: Final = "trainer"

Training = Callable[[Path], Awaitable[TrainingOutcome]]
"""Does the training that lies in a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineTerms:
    """Where the buffer lies and how large it is, how often it is saved, and how candidates are trained from it.

    ``snapshot_every`` counts experiences. ``train`` does the training of a folder.
    """

    directory: Path
    capacity: int
    snapshot_every: int
    transitions: TransitionTerms
    teaching: Teaching
    train: Training


class TrainerCompanion:
    """Performs the trainer's requests, in order; what takes long is done beside, and told of as an input."""

    def __init__(self, terms: OnlineTerms) -> None:
        self._terms = terms
        self._replay = Replay(terms.capacity, terms.transitions)
        self._epoch = 0
        self._now_ns = 0
        self._saved = 0
        self._saving = asyncio.Lock()
        self._to_tell: dict[type[Event], Event] = {}
        self._something_to_tell = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._training: asyncio.Task[None] | None = None

    @property
    def replay(self) -> Replay:
        """The buffer."""
        return self._replay

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Take note of the claim. The buffer is taken up when the stage says where it stands."""
        self._epoch = epoch
        self._telling = asyncio.ensure_future(self._tell(inlet))

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Carry out committed requests. Waits only while too much lies in no snapshot. Raises WorkerFailed."""
        del origins
        for request in requests:
            self._fail_with_a_task()
            if isinstance(request, BufferResumed):
                await self._resume(request)
            elif isinstance(request, ExperienceTaken):
                await self._take(request)
            elif isinstance(request, TrainingRequested):
                frozen = self._replay.frozen()
                self._training = asyncio.ensure_future(self._train(request, frozen))

    def reached(self, now_ns: int) -> None:
        """Take note of the run's time, by which what is told is dated. Raises WorkerFailed."""
        self._now_ns = now_ns
        self._fail_with_a_task()

    async def stop(self) -> None:
        """End; a training that is under way ends with it, and is asked for again after the next claim."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._telling, self._snapshot, self._training) if task is not None]

    def _fail_with_a_task(self) -> None:
        for task in self._tasks():
            if task.done():
                task.result()

    async def _tell(self, inlet: Inlet) -> None:
        # A task of its own: a full shard may wait for the disk, which therefore must never wait for the shard.
        while True:
            await self._something_to_tell.wait()
            self._something_to_tell.clear()
            while self._to_tell:
                await inlet.inject(self._to_tell.pop(next(iter(self._to_tell))))

    def _note(self, event: Event) -> None:
        """Have an event told. Of two snapshots the newer says all, and there is one outcome at a time."""
        self._to_tell[type(event)] = event
        self._something_to_tell.set()

    async def _resume(self, request: BufferResumed) -> None:
        """Go on with the newest snapshot that fits the stage, or begin anew, and say so."""
        found = await asyncio.to_thread(find_snapshot, self._terms.directory, self._terms.transitions.identity)
        for refusal in found.refusals:
            LOG.warning("%s It is not gone on with.", refusal)
        fitting = found.frozen if found.frozen is not None and self._fits(found.frozen, request) else None
        if fitting is not None:
            self._replay.thaw(fitting)
        else:
            # What was made of other experiences is no answer to a request, though it may have the same name.
            await asyncio.to_thread(shutil.rmtree, self._terms.directory / _JOBS, ignore_errors=True)
        self._replay.lineage = request.lineage
        if self._replay.position < request.saved:
            LOG.warning(
                "The replay buffer in %s lacks the experiences %d to %d, which were in a snapshot once; it goes on with"
                " %d transitions and without those.",
                self._terms.directory,
                self._replay.position + 1,
                request.saved,
                self._replay.count,
            )
            self._replay.position = request.saved
        self._saved = self._replay.position

    def _fits(self, frozen: Frozen, request: BufferResumed) -> bool:
        if frozen.lineage == request.lineage and frozen.position <= request.taken:
            return True
        LOG.warning(
            "The replay snapshot in %s holds %d experiences of %s, and the stage has taken %d of %s: it is of another"
            " run, or the database was set back. The buffer begins anew.",
            self._terms.directory,
            frozen.position,
            frozen.lineage or "nobody",
            request.taken,
            request.lineage or "nobody",
        )
        return False

    async def _take(self, request: ExperienceTaken) -> None:
        self._replay.take(request.lineage, request.number, request.experience)
        every = self._terms.snapshot_every
        if self._unsaved() >= _UNSAVED_SNAPSHOTS_MAX * every and self._snapshot is not None:
            await asyncio.wait({self._snapshot})
            self._fail_with_a_task()
        if self._unsaved() >= every and (self._snapshot is None or self._snapshot.done()):
            self._snapshot = asyncio.ensure_future(self._save(self._replay.frozen()))

    def _unsaved(self) -> int:
        return self._replay.position - self._saved

    async def _save(self, frozen: Frozen, folder: Path | None = None) -> None:
        """Write a snapshot, with a copy in ``folder`` if one is named, and tell the stage. Raises WorkerFailed.

        None is put in the place of a newer one, of which the stage may have heard.
        """
        async with self._saving:
            try:
                await asyncio.to_thread(self._write, frozen, folder)
            except OSError as error:
                directory = self._terms.directory
                raise WorkerFailed(f"The replay buffer cannot be saved in {directory}: {error.strerror}.") from error
            self._saved = max(self._saved, frozen.position)
        self._note(
            BufferSaved(
                key=_KEY,
                event_time_ns=self._now_ns,
                available_at_ns=self._now_ns,
                event_id=derive_id(f"{frozen.lineage}/{self._epoch}", "trainer/saved", frozen.position),
                lineage=frozen.lineage,
                number=frozen.position,
            )
        )

    def _write(self, frozen: Frozen, folder: Path | None) -> None:
        if frozen.position > self._saved:
            save_snapshot(self._terms.directory, self._epoch, frozen)
        if folder is not None:
            write_snapshot(folder / SNAPSHOT_NAME, frozen)

    async def _train(self, request: TrainingRequested, frozen: Frozen) -> None:
        """Train on the buffer as it was when the request was made, and tell the stage what came of it."""
        jobs = self._terms.directory / _JOBS
        try:
            outcome = await asyncio.to_thread(_former_outcome, jobs, request)
            if outcome is None:
                folder = jobs / f"{request.request_id}-{self._epoch}-{request.attempt}"
                await self._save(frozen, folder)
                await asyncio.to_thread(write_job, folder, self._job(request))
                outcome = await self._terms.train(folder)
        except OSError as error:
            raise WorkerFailed(f"A training cannot be told what to do in {jobs}: {error.strerror}.") from error
        if outcome.failure is not None:
            LOG.warning("Training %d gave no candidate: %s. %s", request.ordinal, outcome.failure, outcome.detail)
        self._note(self._outcome(request, outcome))
        # The folder itself stays until the next one: whoever dies before this is committed finds the outcome there.
        await asyncio.to_thread(_forget_others, jobs, request)

    def _job(self, request: TrainingRequested) -> TrainingJob:
        return TrainingJob(
            request_id=request.request_id,
            ordinal=request.ordinal,
            start=request.start,
            teaching=self._terms.teaching,
        )

    def _outcome(self, request: TrainingRequested, outcome: TrainingOutcome) -> Event:
        when: dict[str, Any] = {"key": _KEY, "event_time_ns": self._now_ns, "available_at_ns": self._now_ns}
        place = f"{request.request_id}/{self._epoch}"
        when |= {"event_id": derive_id(place, "trainer/outcome", request.attempt), "cause_id": request.event_id}
        if outcome.failure is not None:
            return TrainingFailed(request_id=request.request_id, reason=outcome.failure, detail=outcome.detail, **when)
        return CandidateTrained(
            request_id=request.request_id,
            model=outcome.model,
            sha256=outcome.sha256,
            transitions=outcome.transitions,
            metrics=outcome.metrics,
            **when,
        )


def _former_outcome(jobs: Path, request: TrainingRequested) -> TrainingOutcome | None:
    """Return what came of an earlier attempt of which the stage has not heard."""
    outcomes = (read_outcome(folder) for folder in sorted(jobs.glob(f"{request.request_id}-*")))
    return next((outcome for outcome in outcomes if outcome is not None), None)


def _forget_others(jobs: Path, request: TrainingRequested) -> None:
    """Remove the folders of former requests, and the snapshots of this one, which nobody needs any more."""
    for folder in jobs.iterdir():
        if folder.name.startswith(request.request_id):
            (folder / SNAPSHOT_NAME).unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
