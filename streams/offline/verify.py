"""Recompute every stage of a run over its own inputs and compare each output with the log: replay equals live.

What came over a live connection cannot be asked for again, so with a live feed the proof begins at
``market.event``; with a capture it begins at the capture's first line.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
import psycopg

from infra.settings import SettingsError
from streams.composition import Run
from streams.engine.ports import EngineSettings, StageHosting, StageKind
from streams.engine.shard import Progress
from streams.ingestion import ingress_hostings
from streams.launch import WORKERS, engine_settings, stage_hosting
from streams.offline.recompute import Recomputed, recompute_shard
from streams.offline.recompute_capture import recompute_capture

_NOT_RECOMPUTED: Final = ("ingestion", "sinks")


@dataclass(slots=True)
class StageVerdict:
    """One stage over all its shards. ``first_difference`` is a sentence, or None where all is equal.

    ``inputs`` were stepped again, ``outputs`` followed, ``matched`` of these lie in the log byte for byte. Only
    outputs that a worker had committed but not yet sent may be missing there.
    """

    stage: str
    shards: int = 0
    inputs: int = 0
    outputs: int = 0
    matched: int = 0
    first_difference: str | None = None
    by_shard: dict[str, Recomputed] = field(default_factory=dict)

    def add(self, shard: str, result: Recomputed) -> None:
        """Add what became of one shard."""
        self.by_shard[shard] = result
        self.shards += 1
        self.inputs += result.inputs
        self.outputs += result.outputs
        self.matched += result.matched
        if result.first_difference is not None and self.first_difference is None:
            self.first_difference = f"{self.stage}/{shard}: {result.first_difference}"


async def verify_run(run: Run, observe: Callable[[StageVerdict], None] | None = None) -> list[StageVerdict]:
    """Recompute all stages of a run; ``observe`` is told each verdict as it comes. The workers may be running.

    Raises SettingsError when broker or database are not named, RecomputeImpossible when something is not kept
    any more, and psycopg.Error or BrokerUnreachable when one of them does not answer.
    """
    if run.settings.postgres.dsn is None or run.settings.kafka.bootstrap is None:
        raise SettingsError("replay needs kafka.bootstrap and postgres.dsn, or a run that still has both.")
    engine = engine_settings(run.settings, embedded=False, instance_id=None, offline=True)
    verdicts: list[StageVerdict] = []
    shards = await asyncio.to_thread(_claimed_shards, engine.dsn)
    if run.capture is not None:
        verdict = StageVerdict("ingestion")
        verdict.add(run.capture.name, await asyncio.to_thread(recompute_capture, run, engine))
        _tell(verdicts, verdict, observe)
    for hosting in hostings_of(run, engine.dsn):
        verdict = StageVerdict(hosting.name)
        for shard in shards.get(hosting.name, ()):
            verdict.add(shard, await _recomputed(engine, hosting, shard, read=shards[hosting.name][shard]))
        _tell(verdicts, verdict, observe)
    return verdicts


def hostings_of(run: Run, dsn: str) -> Iterator[StageHosting]:
    """Yield every hosting of a run that can be recomputed from what Kafka and the journal keep, by the flow."""
    yield from ingress_hostings(run)
    for name in WORKERS:
        if name not in _NOT_RECOMPUTED:
            yield stage_hosting(run, dsn, name)


def _tell(verdicts: list[StageVerdict], verdict: StageVerdict, observe: Callable[[StageVerdict], None] | None) -> None:
    verdicts.append(verdict)
    if observe is not None:
        observe(verdict)


async def _recomputed(engine: EngineSettings, hosting: StageHosting, shard: str, *, read: bool) -> Recomputed:
    if hosting.kind is StageKind.ONE_TOPIC and not read:
        # Up to a checkpoint that has nothing behind it there is nothing to step, and nothing that could follow.
        return Recomputed(0, 0, 0, None)
    return await recompute_shard(engine, hosting, shard)


def _claimed_shards(dsn: str) -> dict[str, dict[str, bool]]:
    """Return stage -> its shards that have a checkpoint, and whether that has any record behind it."""
    found: dict[str, dict[str, bool]] = {}
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT stage, shard, progress FROM shard WHERE progress <> '' ORDER BY stage, shard")
        for stage, shard, progress in rows:
            offsets = msgspec.msgpack.decode(bytes(progress), type=Progress).next_offsets
            found.setdefault(str(stage), {})[str(shard)] = any(offsets.values())
    return found
