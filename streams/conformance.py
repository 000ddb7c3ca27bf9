"""Whether the records of a topic keep a contract of ours, judged by what the platform itself would do with them.

Another team points this at the topic it writes, or at a topic of its own before it writes ours. Nothing is written,
no group is joined, and nothing is kept.
"""

from dataclasses import dataclass, field
from typing import Any

from agents.stage import ShardState, Stage, run_step
from infra.kafka import Security, log_ends, log_starts, topic_partitions
from schemas.codec import Codec
from schemas.dead_letters import BadRecord, DeadLetterReason, UnknownRecordType
from schemas.event import Event, Heartbeat
from schemas.partition import partition_of
from schemas.topics import Spread, Topic
from streams.engine.dedupe import SeenPositions
from streams.engine.log_reader import LogReader
from streams.engine.ports import RawRecord, Wrap


@dataclass(slots=True)
class Problem:
    """Everything that was refused for one reason: how many, and the first of them."""

    reason: DeadLetterReason
    count: int
    partition: int
    offset: int
    detail: str


@dataclass(slots=True)
class Findings:
    """What was found. ``duplicates`` are no problem: a reader drops them."""

    records: int = 0
    duplicates: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    problems: dict[DeadLetterReason, Problem] = field(default_factory=dict)

    def note(self, record: RawRecord, refusal: BadRecord) -> None:
        """Count a refused record; the first of each reason is kept."""
        problem = self.problems.get(refusal.reason)
        if problem is None:
            first = Problem(refusal.reason, 1, record.partition, record.offset, refusal.detail)
            self.problems[refusal.reason] = first
        else:
            problem.count += 1


class Inspector:
    """Judges records by one contract. A public topic's are stepped through its ingress ``stage``, made by ``wrap``."""

    def __init__(self, contract: Topic, codec: Codec, partitions: int, stage: tuple[Stage, Wrap] | None) -> None:
        assert (stage is not None) == contract.public, "a public contract is judged by its stage, and no other is"
        self.findings = Findings()
        self._contract = contract
        self._codec = codec
        self._partitions = partitions
        self._stage = stage
        self._state = ShardState()
        self._seen = SeenPositions()

    def take(self, record: RawRecord) -> None:
        """Judge one record, in order."""
        self.findings.records += 1
        try:
            self._judge(record)
        except BadRecord as refusal:
            self.findings.note(record, refusal)
        except UnknownRecordType as unknown:
            self.findings.note(record, BadRecord(DeadLetterReason.TYPE_UNEXPECTED, str(unknown)))

    def _judge(self, record: RawRecord) -> None:
        decoded: Any = self._codec.decode(self._contract.name, record.value, record.headers)
        name = type(decoded).__name__
        event: Event = decoded if self._stage is None else self._stage[1](record, decoded)
        if self._stage is None:
            self._judge_ours(record, event)
        lane = f"{record.topic}/{record.partition}"
        if not self._seen.is_new(lane, event):
            self.findings.duplicates += 1
        elif self._stage is not None:
            try:
                run_step(self._stage[0], self._state, event)
            except BadRecord:
                self._seen.forget(lane, event.event_id)
                raise
        self.findings.by_type[name] = self.findings.by_type.get(name, 0) + 1

    def _judge_ours(self, record: RawRecord, event: Event) -> None:
        if not event.source or not event.event_id:
            raise BadRecord(DeadLetterReason.INVALID_VALUE, "the record names no source or no event_id")
        if self._contract.spread is Spread.BY_INSTRUMENT and type(event) is not Heartbeat:
            expected = partition_of(event.key, self._partitions)
            if expected != record.partition:
                detail = f"key {event.key[:80]!r} belongs to partition {expected} of {self._partitions}"
                raise BadRecord(DeadLetterReason.WRONG_PARTITION, detail)


def inspect_topic(
    inspector: Inspector, bootstrap: str, topic: str, security: Security | None = None, *, newest: int | None = None
) -> None:
    """Judge what each partition of a topic holds now, or only the ``newest`` records of each.

    Raises BrokerUnreachable, and RecomputeImpossible when a partition falls silent before its end.
    """
    lanes = [(topic, number) for number in range(topic_partitions(bootstrap, security)[topic])]
    starts, ends = log_starts(bootstrap, lanes, security), log_ends(bootstrap, lanes, security)
    for lane in lanes:
        if ends[lane] <= starts[lane]:
            continue
        first = starts[lane] if newest is None else max(starts[lane], ends[lane] - newest)
        reader = LogReader(bootstrap, lane, first, security)
        try:
            while (record := reader.next()) is not None:
                inspector.take(record)
        finally:
            reader.close()
