"""From settings and the names of stages to a running worker: the last step of composition."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

from infra.feeds.pacing import PacedCapture
from infra.feeds.simulated import SimulatedFeed
from infra.kafka_security import security_of
from infra.metrics.registry import Metrics
from infra.postgres.audit_chain import audit_chain
from infra.settings import Settings, SettingsError
from infra.settings_sections import read_secret
from schemas.codec import Codec
from schemas.dead_letters import BadRecord
from schemas.topics import TOPICS
from streams import control, decider, execution, experts, feedback, risk, voting
from streams.composition import Run
from streams.contracts import learns, schema_table
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind, WorkerFailed
from streams.engine.telling import Teller
from streams.engine.worker import Resident, Worker
from streams.ingestion import FeedResident, LiveFeed, hold_for, ingress_hostings
from streams.observers.attach import observed
from streams.observers.execution import VenueTimes
from streams.observers.ingestion import IngestionObserver
from streams.venues import check_venue, open_venue

WORKERS: Final = ("ingestion", "experts", "voting", "decider", "risk", "execution", "feedback", "control", "sinks")
"""Every worker that a run needs, in the order of the flow."""
FEED: Final = "feed"
INGRESS: Final = "ingress"
HALVES: Final = (FEED, INGRESS)
"""``ingestion`` in two processes: a feed is one connection; what others write is shared among all who host it."""
TRAINER: Final = "trainer"
"""The worker that a run may have beside them; without it nothing is missing but candidates."""
_BROKEN_SEEN_S: Final = 20.0


def code_version() -> str:
    """Return 12 hex digits of all source files and the data among them: two workers with the same run the same code."""
    digest = hashlib.sha256()
    for package in ("schemas", "agents", "infra", "streams"):
        root = Path(str(files(package)))
        # A model in a package's data decides as its code does.
        for path in sorted((*root.rglob("*.py"), *root.rglob("*.json"))):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def engine_settings(
    settings: Settings, *, embedded: bool, instance_id: str | None, offline: bool = False
) -> EngineSettings:
    """Return what the engine must know; ``offline``: no worker looks ahead, so decoding itself may ask a registry.

    Raises SettingsError when broker or database are not named, and RegistryFailed.
    """
    dsn = settings.postgres.conninfo()
    if settings.kafka.bootstrap is None or dsn is None:
        raise SettingsError("A worker needs kafka.bootstrap and postgres.dsn; `tradermind demo` starts both for you.")
    table = schema_table(settings, blocking=offline)
    growing = learns(table)
    return EngineSettings(
        bootstrap=settings.kafka.bootstrap,
        dsn=dsn,
        instrument_partitions=settings.kafka.instrument_partitions,
        settings_hash=settings.settings_hash(),
        code_version=code_version(),
        codec=Codec(table, settings.kafka.cloudevents),
        learn=None if growing is None else growing.learn,
        security=security_of(settings.kafka),
        embedded=embedded,
        instance_id=instance_id,
        snapshot_interval_s=float(settings.run.snapshot_interval_s),
        stuck_after_s=float(settings.kafka.stuck_after_s),
    )


def build_worker(run: Run, engine: EngineSettings, stages: Sequence[str], teller: Teller | None = None) -> Worker:
    """Return a worker that hosts these stages, told of by ``teller``. Raises SettingsError for a name that is none."""
    metrics = None if teller is None else teller.metrics
    hostings: list[StageHosting] = []
    residents: list[Resident] = []
    for name in stages:
        if name in ("ingestion", *HALVES):
            observer = None if metrics is None else IngestionObserver(metrics)
            hostings += ingress_hostings(run, observer) if name != FEED else ()
            residents += [FeedResident(run, *_feed(run, engine), observer)] if name != INGRESS else ()
        elif name == "sinks":
            hostings.append(_sinks(run.settings, engine, metrics))
        elif name in (*WORKERS, TRAINER):
            _check(run, name)
            hostings.append(_watched(run, engine, name, metrics))
        else:
            raise SettingsError(f"{name!r} is not a worker; the workers are {', '.join((*WORKERS, *HALVES, TRAINER))}.")
    return Worker(engine, hostings, residents, teller)


def _watched(run: Run, engine: EngineSettings, name: str, metrics: Metrics | None) -> StageHosting:
    if metrics is None:
        return stage_hosting(run, engine.dsn, name)
    times = VenueTimes()
    return observed(run, stage_hosting(run, engine.dsn, name, times), metrics, times)


def _check(run: Run, name: str) -> None:
    """Raise SettingsError where a worker could come up and do nothing but fail."""
    if name == "execution":
        check_venue(run)
    elif name == TRAINER:
        from streams.cli_train import refuse_without_the_extra
        from streams.trainer import check_trainer

        refuse_without_the_extra()
        check_trainer(run)


def stage_hosting(run: Run, dsn: str, name: str, times: VenueTimes | None = None) -> StageHosting:
    """Return how a stage that decides is hosted, in a worker or in a recomputation. Raises KeyError."""
    if name == "execution":
        return execution.hosting(run, partial(open_venue, run), dsn, times)
    if name == "control":
        return control.hosting(run, dsn)
    if name == TRAINER:
        # Nobody else needs what it needs.
        from streams import trainer

        return trainer.hosting(run)
    return _PLAIN[name](run)


def stages_run(settings: Settings) -> tuple[str, ...]:
    """Return the workers that somebody runs."""
    return (*WORKERS, TRAINER) if settings.trainer.enabled else WORKERS


def shard_hostings(run: Run, dsn: str) -> list[StageHosting]:
    """Return every stage of a run that has shards in the database, but for the feed's."""
    names = (name for name in (*WORKERS, TRAINER) if name not in ("ingestion", "sinks"))
    return [*(stage_hosting(run, dsn, name) for name in names), *ingress_hostings(run)]


_PLAIN: Final[dict[str, Callable[[Run], StageHosting]]] = {
    "experts": experts.hosting,
    "voting": voting.hosting,
    "decider": decider.hosting,
    "risk": risk.hosting,
    "feedback": feedback.hosting,
}


def feed_shard(run: Run) -> str:
    """Return the name of the shard that the feed of a run is: a capture's file, or a connection."""
    if run.capture is not None:
        return run.capture.name
    return "feed-SIM-0" if run.settings.feed.kind == "simulated" else "feed-BINANCE-0"


def _feed(run: Run, engine: EngineSettings) -> tuple[PacedCapture | LiveFeed, str]:
    feed = run.settings.feed
    if run.capture is not None:
        speed = None if feed.speed == "max" else float(feed.speed)
        return PacedCapture(run.capture, speed, hold_for(run, engine.dsn)), feed_shard(run)
    instruments = tuple(sorted(run.fed))
    if feed.kind == "simulated":
        if run.settings.venue.url is None:
            raise SettingsError("venue.url is missing: the simulated feed comes from the simulated exchange.")
        return SimulatedFeed(run.settings.venue.url, instruments, clock=time.time_ns), feed_shard(run)
    from infra.feeds.binance.client import BinanceFeed

    return BinanceFeed.from_settings(feed.websocket_url, feed.rest_url, instruments), feed_shard(run)


def _sinks(settings: Settings, engine: EngineSettings, metrics: Metrics | None = None) -> StageHosting:
    # The client is half of what a worker imports; only this one needs it, and the others come up sooner.
    from infra.influx import InfluxServer, InfluxWriter, LineFiles
    from streams.observers.sinks import SinksObserver
    from streams.sinks import Sink

    influx = settings.influx
    target: InfluxServer | LineFiles
    if influx.url is not None and influx.token_file is not None:
        target = InfluxServer(influx.url, read_secret(influx.token_file), influx.org, influx.bucket, influx.timeout_ms)
    else:
        target = LineFiles(influx.directory or settings.run.directory / "influx")
    audit = audit_chain(settings.audit)
    writer = InfluxWriter(target, queue_events=influx.queue_events)
    sink = Sink(engine.dsn, engine.codec, writer, audit=audit, stages=stages_run(settings))

    async def handle(records: Sequence[RawRecord]) -> Sequence[tuple[RawRecord, BadRecord]]:
        try:
            return (await sink.handle(records)).refused
        except WorkerFailed:
            if audit.broken and metrics is not None:
                # Whoever ends at once is gone before anybody has asked: nobody would be alarmed by the metric.
                await asyncio.sleep(_BROKEN_SEEN_S)
            raise

    def facts() -> Mapping[str, int]:
        counts = writer.counts
        return {"points_written": counts.written, "points_refused": counts.refused, "metrics_dropped": counts.dropped}

    async def close() -> None:
        await asyncio.to_thread(writer.close)
        await sink.close()

    return StageHosting(
        name="sinks",
        topics=tuple(topic for topic in TOPICS.values() if "sinks" in topic.consumers),
        kind=StageKind.HANDLER,
        handle=handle,
        dead_letter_topics=True,
        close=close,
        facts=facts,
        observer=None if metrics is None else SinksObserver(metrics, writer, audit),
    )
