"""Recompute every stage of a run over its own inputs and compare each output with the log: replay equals live.

What came over a live connection cannot be asked for again, so with a live feed the proof begins at
``market.event``; with a capture it begins at the capture's first line.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec
import psycopg

from infra.settings import SettingsError
from streams.composition import Run
from streams.engine.ports import EngineSettings, StageHosting, StageKind
from streams.engine.shard import Progress
from streams.ingestion import ingress_hostings
from streams.launch import TRAINER, WORKERS, engine_settings, stage_hosting
from streams.offline.difference import Difference
from streams.offline.log_reader import RecomputeImpossible
from streams.offline.question import WHOLE, Question
from streams.offline.recompute import Recomputed, recompute_shard
from streams.offline.recompute_capture import recompute_capture

_NOT_RECOMPUTED: Final = ("ingestion", "sinks")


@dataclass(slots=True)
class StageVerdict:
    """One stage over all its shards. ``first_difference`` is a sentence, or None where all is equal.

    ``inputs`` were stepped again, ``outputs`` followed, ``matched`` of these lie in the log byte for byte; of a
    stretch, only what belongs to it is counted, and ``lead_in`` is how many inputs came before it. Only outputs that
    a worker had committed but not yet sent may be missing. ``difference`` is the first difference with both sides.
    """

    stage: str
    shards: int = 0
    inputs: int = 0
    outputs: int = 0
    matched: int = 0
    lead_in: int = 0
    first_difference: str | None = None
    difference: Difference | None = None
    by_shard: dict[str, Recomputed] = field(default_factory=dict)

    def add(self, shard: str, result: Recomputed) -> None:
        """Add what became of one shard."""
        self.by_shard[shard] = result
        self.shards += 1
        self.inputs += result.inputs
        self.outputs += result.outputs
        self.matched += result.matched
        self.lead_in += result.lead_in
        if result.first_difference is not None and self.first_difference is None:
            self.difference = result.first_difference
            self.first_difference = f"{self.stage}/{shard}: {result.first_difference}"

    def versions(self) -> list[tuple[str, str]]:
        """Return the (code, settings) that made what was compared, each once."""
        made_by = (made.version for result in self.by_shard.values() for made in result.made_by)
        return sorted(set(made_by))

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs; ``made_by`` names each shard's stretches of batches."""
        names = ("stage", "shards", "inputs", "outputs", "matched", "lead_in", "first_difference")
        return {name: getattr(self, name) for name in names} | {
            "difference": None if self.difference is None else self.difference.as_json(),
            "made_by": [
                {"shard": shard, "since_batch": result.since_batch, **asdict(made)}
                for shard, result in self.by_shard.items()
                for made in result.made_by
            ],
        }


async def verify_run(
    run: Run, observe: Callable[[StageVerdict], None] | None = None, ask: Question = WHOLE
) -> list[StageVerdict]:
    """Recompute stages of a run; ``observe`` is told each verdict as it comes. The workers may be running.

    Raises SettingsError when broker or database are not named, or a stage that there is not is; RecomputeImpossible
    when something is not kept any more, was made by another version, or nothing was stepped in the stretch; and
    psycopg.Error or BrokerUnreachable when one of them does not answer.
    """
    check_stages(run, ask.stages)
    if run.settings.postgres.dsn is None or run.settings.kafka.bootstrap is None:
        raise SettingsError("replay needs kafka.bootstrap and postgres.dsn, or a run that still has both.")
    engine = engine_settings(run.settings, embedded=False, instance_id=None, offline=True)
    shards = await asyncio.to_thread(_claimed_shards, engine.dsn)
    tell = observe or _ignore
    verdicts: list[StageVerdict] = []
    names = ask.stages or stages_of(run)
    if "ingestion" in names and run.capture is not None:
        verdict = StageVerdict("ingestion")
        verdict.add(run.capture.name, await asyncio.to_thread(recompute_capture, run, engine, ask))
        verdicts.append(verdict)
        tell(verdict)
    for hosting in hostings_of(run, engine.dsn):
        # Few runs have a trainer, and of one that has none there is nothing to say.
        if hosting.name in names and (hosting.name != TRAINER or TRAINER in shards or ask.stages):
            verdict = StageVerdict(hosting.name)
            for shard, read in shards.get(hosting.name, {}).items():
                verdict.add(shard, await _recomputed(engine, hosting, shard, ask, read=read))
            verdicts.append(verdict)
            tell(verdict)
    if not ask.stretch.is_whole and not any(verdict.inputs for verdict in verdicts):
        raise RecomputeImpossible(
            "None of these stages stepped anything in that stretch, so nothing can be said of it."
        )
    return verdicts


def stages_of(run: Run) -> tuple[str, ...]:
    """Return the stages of a run that can be recomputed, by the flow."""
    ingress = (hosting.name for hosting in ingress_hostings(run))
    own = (name for name in (*WORKERS, TRAINER) if name not in _NOT_RECOMPUTED)
    return (*(("ingestion",) if run.capture is not None else ()), *ingress, *own)


def check_stages(run: Run, names: Sequence[str]) -> None:
    """Raise SettingsError for a name that is no stage that can be recomputed."""
    known = stages_of(run)
    for name in names:
        if name == "ingestion" and name not in known:
            raise SettingsError("A live connection cannot be asked again, so ingestion cannot be recomputed.")
        if name not in known:
            raise SettingsError(f"{name!r} is no stage that can be recomputed; these are: {', '.join(known)}.")


def _ignore(verdict: StageVerdict) -> None:
    del verdict


def hostings_of(run: Run, dsn: str) -> Iterator[StageHosting]:
    """Yield every hosting of a run that can be recomputed from what Kafka and the journal keep, by the flow."""
    yield from ingress_hostings(run)
    for name in (*WORKERS, TRAINER):
        if name not in _NOT_RECOMPUTED:
            yield stage_hosting(run, dsn, name)


async def _recomputed(
    engine: EngineSettings, hosting: StageHosting, shard: str, ask: Question, *, read: bool
) -> Recomputed:
    if hosting.kind is StageKind.ONE_TOPIC and not read:
        # Up to a checkpoint that has nothing behind it there is nothing to step, and nothing that could follow.
        return Recomputed(0, 0, 0, None)
    return await recompute_shard(engine, hosting, shard, ask)


def _claimed_shards(dsn: str) -> dict[str, dict[str, bool]]:
    """Return stage -> its shards that have a checkpoint, and whether that has any record behind it."""
    found: dict[str, dict[str, bool]] = {}
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT stage, shard, progress FROM shard WHERE progress <> '' ORDER BY stage, shard")
        for stage, shard, progress in rows:
            offsets = msgspec.msgpack.decode(bytes(progress), type=Progress).next_offsets
            found.setdefault(str(stage), {})[str(shard)] = any(offsets.values())
    return found
