"""What a worker is told about the stages it hosts, and what it needs from the world. Declarations only."""

import enum
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from agents.stage import Stage
from schemas.codec import Codec
from schemas.dead_letters import BadRecord
from schemas.event import Event
from schemas.topics import TOPICS, Topic
from streams.engine.observing import Observer


class StageKind(enum.Enum):
    """How a stage's progress is made safe (DESIGN 4)."""

    ONE_TOPIC = "one topic"
    OUTBOX = "outbox"
    HANDLER = "handler"


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record as fetched. ``timestamp_ms`` is the broker's or the producer's; headers may be empty.

    One is made for every record that passes, and a msgspec struct costs a fifth of a frozen dataclass.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int


Learn = Callable[[Sequence[RawRecord]], Awaitable[None]]
"""Sees what was fetched before it is decoded, so that no decoding waits for a network."""


class Inlet(Protocol):
    """The way into a running outbox shard for what does not come by Kafka."""

    async def inject(self, event: Event) -> None:
        """Hand over one input with an identity; it is journaled with its bytes. Waits while the shard is full."""


class ShardOpener(Protocol):
    """What a feed needs of the worker that it lives in."""

    async def open_shard(self, hosting: "StageHosting", key: str, partition: int | None) -> object:
        """Claim a shard, check its checkpoint against this run, and start it; return the running shard."""


class Companion(Protocol):
    """What a stage needs beside its inputs: it performs requests after the commit, and injects what comes of them."""

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Begin; called when the shard has been claimed."""

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Carry out committed requests, in order, once. ``origins`` are their root inputs' wall times (ns), or 0."""

    def reached(self, now_ns: int) -> None:
        """Take note of the newest time that a committed batch has stepped, after its requests were handed over."""

    async def stop(self) -> None:
        """End; nothing is injected afterwards."""


Wrap = Callable[[RawRecord, Any], Event]
Handle = Callable[[Sequence[RawRecord]], Awaitable[Sequence[tuple[RawRecord, BadRecord]]]]


def _no_stage() -> Stage:
    raise AssertionError("a handler has no stage")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageHosting:
    """One stage in a worker.

    ``topics`` are its inputs; a stage without any is one shard that lives on injected inputs. ``event_types`` are
    what may be injected (and read back from the journal). ``wall_clock`` journals wall Heartbeats into it, read from
    ``now_ns``; a simulation gives another clock.
    ``wrap`` makes an event of a public record. A HANDLER has no stage but ``handle``, which writes a batch and
    returns the records it refuses; with ``dead_letter_topics`` it reads every dead letter, too, and ``facts`` are
    further numbers for its ``worker_status``. ``close`` is awaited when the worker ends in order. ``observer`` makes
    metrics of what its shards emit and keep.
    """

    name: str
    topics: tuple[Topic, ...]
    make_stage: Callable[[], Stage] = _no_stage
    kind: StageKind
    wall_clock: bool = False
    now_ns: Callable[[], int] = time.time_ns
    event_types: tuple[type[Event], ...] = ()
    companion: Callable[[], Companion] | None = None
    wrap: Wrap | None = None
    handle: Handle | None = None
    dead_letter_topics: bool = False
    close: Callable[[], Awaitable[None]] | None = None
    facts: Callable[[], Mapping[str, int]] | None = None
    observer: Observer | None = None

    def topic_names(self) -> tuple[str, ...]:
        """Return the names of all topics it reads."""
        names = tuple(topic.name for topic in self.topics)
        letters = tuple(topic.dead_letters for topic in TOPICS.values()) if self.dead_letter_topics else ()
        return (*names, *letters)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What every stage of a worker shares. ``session_timeout_s`` must be within the broker's bounds.

    A partition that is behind and has not moved for ``stuck_after_s`` ends the worker.

    ``security`` is librdkafka's settings of how to connect; empty is plain text. ``learn`` is None where every schema
    that may be read with is known from the start.
    """

    bootstrap: str
    dsn: str
    instrument_partitions: int
    settings_hash: str
    code_version: str
    codec: Codec
    learn: Learn | None = None
    security: Mapping[str, str] = field(default_factory=dict, repr=False)
    embedded: bool = False
    instance_id: str | None = None
    session_timeout_s: float = 10.0
    checkpoint_interval_s: float = 1.0
    snapshot_interval_s: float = 300.0
    heartbeat_interval_ms: int = 100
    chunk_records: int = 1000
    stuck_after_s: float = 120.0


class WorkerFailed(Exception):
    """The worker must end: one clear sentence and the exit code (2 for settings and checkpoints, 1 for the rest)."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to be written."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
