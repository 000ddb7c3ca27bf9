"""The trainer worker: experiences in, candidates out; it learns in a process beside it and decides nothing.

It is the one worker that needs the extra ``train``, and even here only the child imports it: the worker's own loop
keeps the shard, whatever a training does.
"""

from functools import partial
from pathlib import Path
from typing import Final

from infra.models.store import store_of
from infra.settings import Settings, SettingsError
from schemas.topics import MODEL_RELEASE, RL_EXPERIENCE
from schemas.training import BufferSaved, CandidateTrained, TrainingFailed
from schemas.venue_requests import Claimed
from streams.composition import Run, budget, build_stage
from streams.engine.ports import StageHosting, StageKind
from streams.training.child import train_in_child
from streams.training.companion import OnlineTerms, TrainerCompanion
from streams.training.job import Teaching
from streams.training.transitions import TransitionTerms

INJECTED: Final = (Claimed, BufferSaved, CandidateTrained, TrainingFailed)


def online_terms(run: Run) -> OnlineTerms:
    """Return where and how candidates are trained in a run."""
    settings = run.settings
    trainer = settings.trainer
    budgets = {name: budget(run, strategy) for name, strategy in settings.strategies.items()}
    transitions = TransitionTerms(budgets)
    return OnlineTerms(
        directory=trainer_directory(settings),
        capacity=trainer.capacity,
        snapshot_every=trainer.snapshot_every,
        transitions=transitions,
        teaching=Teaching(
            store=str(settings.models.directory.resolve()),
            keys_file=_resolved(settings.models.allowed_keys_file),
            allow_development_key=settings.models.allow_development_key,
            key_file=_resolved(trainer.key_file),
            champion=settings.models.champion,
            identity=transitions.identity,
            fewest=trainer.fewest_transitions,
            gradient_steps=trainer.gradient_steps,
            learning_rate=trainer.learning_rate,
            seed=settings.run.seed,
            nice=trainer.nice,
        ),
        train=partial(train_in_child, limit_s=float(trainer.time_limit_s)),
    )


def trainer_directory(settings: Settings) -> Path:
    """Return where the replay buffer lies."""
    return (settings.trainer.directory or settings.run.directory / "trainer").resolve()


def check_trainer(run: Run) -> None:
    """Raise SettingsError where candidates could not be signed, so that nobody would ever load one."""
    store_of(run.settings)
    models, trainer = run.settings.models, run.settings.trainer
    if trainer.key_file is None and not models.allow_development_key:
        raise SettingsError(
            "trainer.key_file is missing: candidates must be signed, and models.allow_development_key is false."
        )


def _resolved(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def hosting(run: Run) -> StageHosting:
    """Return how a worker hosts the trainer stage."""
    return StageHosting(
        make_stage=lambda: build_stage(run, "trainer"),
        name="trainer",
        topics=(RL_EXPERIENCE, MODEL_RELEASE),
        kind=StageKind.OUTBOX,
        wall_clock=not run.on_capture,
        event_types=INJECTED,
        companion=lambda: TrainerCompanion(online_terms(run)),
    )
