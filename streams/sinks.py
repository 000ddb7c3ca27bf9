"""The sink: every topic into Postgres, and points of it into InfluxDB.

It is no stage: it decides nothing and emits nothing, so it needs no checkpoint of state. Its rows are unique by
event id, so a batch that was written before a crash and comes again changes nothing; whoever calls it moves its
offsets on only after ``handle`` has returned.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg

from infra.postgres.audit_chain import AuditBroken, AuditChain
from infra.postgres.projections import DeadLetterRow, Projections
from schemas.codec import Codec
from schemas.dead_letters import OF_THE_REGISTRY, BadRecord, DeadLetterReason, UnknownRecordType
from schemas.event import Event
from schemas.topics import TOPICS
from schemas.values import NS_PER_MS
from streams.engine.dead_letter import ERRORS
from streams.engine.handler import LeftToStage
from streams.engine.ports import WorkerFailed
from streams.quarantined import readers_of

if TYPE_CHECKING:
    # Its client takes longer to import than all else here, and every command imports this module.
    from infra.influx import InfluxWriter

_DEAD_LETTER_TOPICS: Final = {topic.dead_letters: topic.name for topic in TOPICS.values()}
SINK_TOPICS: Final[tuple[str, ...]] = (
    *(topic.name for topic in TOPICS.values() if "sinks" in topic.consumers),
    *_DEAD_LETTER_TOPICS,
)
"""What a sink reads: every internal topic, and the dead letters of all."""
_RETRY_PAUSES_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_GATHER_S: Final = 0.05
"""How long a writer waits for what else is on its way: nobody trades on these rows, and commits cost everybody."""
_OF_THE_DATA: Final = (psycopg.DataError, psycopg.IntegrityError)


class SinkRecord(Protocol):
    """What a sink needs of a Kafka record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int: ...


@dataclass(slots=True)
class SinkOutcome:
    """What became of one batch. ``refused`` records were not written: each belongs into the dead letters.

    A refusal that is LeftToStage is a dead letter already: by the stage that reads the topic, too.
    ``rows`` counts rows added or renewed; of batches that shared a transaction the first has all of them.
    """

    rows: int = 0
    skipped: int = 0
    refused: list[tuple[Any, BadRecord]] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """One call of ``handle`` while it waits for its turn."""

    events: list[tuple[SinkRecord, Event]]
    dead_letters: list[DeadLetterRow]
    outcome: SinkOutcome
    done: "asyncio.Future[None]"


class Sink:
    """One writer to one database, for any number of topics at once.

    What is handed over while a transaction is under way shares the next one, so many topics with little on each
    cost few commits. A database that is away is waited for, up to ``patience_s``; then psycopg's error is raised.
    ``stages`` are those that anybody runs, None for all: no letter is left to one that nobody does.
    """

    def __init__(
        self,
        dsn: str,
        codec: Codec,
        influx: "InfluxWriter | None" = None,
        *,
        patience_s: float = 60.0,
        audit: AuditChain | None = None,
        stages: Collection[str] | None = None,
    ) -> None:
        self._audit = audit
        self._dsn = dsn
        self._codec = codec
        self._influx = influx
        self._patience_s = patience_s
        self._stages = stages
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._projections: Projections | None = None
        self._waiting: list[_Work] = []
        self._writing = asyncio.Lock()

    async def handle(self, records: Sequence[SinkRecord]) -> SinkOutcome:
        """Write a batch; when it returns, all of it is committed or named in the outcome as refused.

        Raises UnknownRecordType for a type on a money topic that this version does not know, psycopg.Error when
        the database stays away, WorkerFailed when the audit was tampered with, and whatever broke the metric writer
        other than its server's absence.
        """
        work = self._decoded(records)
        self._waiting.append(work)
        async with self._writing:
            if not work.done.done():
                await asyncio.sleep(_GATHER_S)
                await self._write_waiting()
        await work.done
        if self._influx is not None and work.events:
            self._influx.offer([event for _, event in work.events])
        return work.outcome

    async def close(self) -> None:
        """Anchor the audit and let go of the database. The metric writer is its owner's to close."""
        if self._audit is not None:
            self._audit.close()
        await self._let_go()

    async def _let_go(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        self._connection = self._projections = None

    def _decoded(self, records: Sequence[SinkRecord]) -> _Work:
        work = _Work([], [], SinkOutcome(), asyncio.get_running_loop().create_future())
        for record in records:
            if record.topic in _DEAD_LETTER_TOPICS:
                work.dead_letters.append(dead_letter_row(record))
                continue
            try:
                work.events.append((record, self._codec.decode(record.topic, record.value, record.headers)))
            except BadRecord as refusal:
                work.outcome.refused.append((record, self._left_to_its_stage(record.topic, refusal)))
            except UnknownRecordType:
                if TOPICS[record.topic].money:
                    raise
                work.outcome.skipped += 1
        return work

    def _left_to_its_stage(self, topic: str, refusal: BadRecord) -> BadRecord:
        """Return the refusal as one whose dead letter is another's, where a stage refuses the same bytes.

        A schema may be registered between its reading and ours, so that such a refusal is ours to tell, too.
        """
        readers = [name for name in readers_of(TOPICS[topic]) if self._stages is None or name in self._stages]
        if not readers or refusal.reason in OF_THE_REGISTRY:
            return refusal
        return LeftToStage(refusal.reason, refusal.detail, readers)

    async def _write_waiting(self) -> None:
        works, self._waiting = self._waiting, []
        if await self._write_together(works) or len(works) == 1:
            return
        # Whose record it was that broke the batch is known when each stands alone: the others are not to blame.
        self._waiting = works + self._waiting
        for work in works:
            self._waiting.remove(work)
            await self._write_together([work])

    async def _write_together(self, works: Sequence[_Work]) -> bool:
        """Write works in one transaction; False when several were broken by something, and none of them is done."""
        events = [pair for work in works for pair in work.events]
        letters = [letter for work in works for letter in work.dead_letters]
        refused: dict[int, BadRecord] = {}
        try:
            rows = await self._write_apart(events, letters, refused)
        except asyncio.CancelledError:
            # Only this caller was cancelled; whoever else waits writes all of it, which may be written twice.
            self._waiting = [work for work in works if not work.done.done()] + self._waiting
            raise
        except Exception as error:
            if len(works) > 1 and not isinstance(error, psycopg.OperationalError):
                return False
            for work in works:
                work.done.set_exception(error)
                work.done.exception()
            return True
        works[0].outcome.rows = rows
        for work in works:
            work.outcome.refused += [
                (record, refused[id(event)]) for record, event in work.events if id(event) in refused
            ]
            work.events = [(record, event) for record, event in work.events if id(event) not in refused]
            work.done.set_result(None)
        return True

    async def _write_apart(
        self,
        events: Sequence[tuple[SinkRecord, Event]],
        letters: Sequence[DeadLetterRow],
        refused: dict[int, BadRecord],
    ) -> int:
        """Write a batch; one that the database refuses is halved until the event at fault stands alone."""
        try:
            return await self._write_patiently([event for _, event in events], letters)
        except _OF_THE_DATA as error:
            if len(events) == 1 and not letters:
                reason = f"the record's table refuses it: {str(error).splitlines()[0][:300]}"
                refused[id(events[0][1])] = BadRecord(DeadLetterReason.INVALID_VALUE, reason)
                return 0
            if not events:
                raise
        middle = len(events) // 2
        rows = await self._write_apart([], letters, refused) if letters else 0
        for part in (events[:middle], events[middle:]):
            rows += await self._write_apart(part, [], refused) if part else 0
        return rows

    async def _write_patiently(self, events: Sequence[Event], letters: Sequence[DeadLetterRow]) -> int:
        deadline = time.monotonic() + self._patience_s
        failures = 0
        while True:
            try:
                return await (await self._open()).write(events, letters)
            except AuditBroken as error:
                raise WorkerFailed(str(error)) from error
            except psycopg.OperationalError:
                await self._let_go()
                pause_s = _RETRY_PAUSES_S[min(failures, len(_RETRY_PAUSES_S) - 1)]
                if time.monotonic() + pause_s > deadline:
                    raise
                failures += 1
                await asyncio.sleep(pause_s)

    async def _open(self) -> Projections:
        if self._projections is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True, application_name="tradermind sinks", connect_timeout=5
            )
            self._projections = Projections(self._connection, self._audit)
        return self._projections


def dead_letter_row(record: SinkRecord) -> DeadLetterRow:
    """Return the row of a record of a dead-letter topic; what its headers do not say is taken from where it lies."""
    facts = _facts(record.headers)
    return DeadLetterRow(
        dlq_topic=record.topic,
        dlq_partition=record.partition,
        dlq_offset=record.offset,
        topic=facts.get("topic", _DEAD_LETTER_TOPICS[record.topic]),
        partition=_whole(facts.get("partition"), 2**31),
        offset=_whole(facts.get("offset"), 2**63),
        reason=facts.get("reason", "UNKNOWN"),
        detail=facts.get("exception.message", ""),
        recorded_at_ns=record.timestamp_ms * NS_PER_MS,
        headers={name: (content or b"").decode(errors="backslashreplace") for name, content in record.headers},
        key=record.key,
        value=record.value,
        raw_headers=tuple(record.headers),
        stage=facts.get("stage", ""),
        held_since=facts.get("held.since"),
        held_number=_whole(facts.get("held.number"), 2**63),
    )


def _facts(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Our headers are appended after the record's own, so the last one of a name is ours."""
    return {
        name.removeprefix(ERRORS): (content or b"").decode(errors="backslashreplace")
        for name, content in headers
        if name.startswith(ERRORS)
    }


def _whole(text: str | None, below: int) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or int(text) >= below:
        return None
    return int(text)
