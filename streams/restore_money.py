"""What a restore does to the stages that keep money, and to the record of the sinks.

The venue is the truth of orders and fills. What execution's backup does not know, it may have approved and sent since:
each such order is taken up as UNKNOWN, and the first claim asks the venue about all of them, by the way that every
take-over goes. Risk and feedback are then told what execution's books say, and every account begins in REDUCING.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from psycopg import Connection

from agents.execution.stage import Execution
from agents.feedback.stage import Feedback
from agents.risk.levels import latched, scope_name
from agents.risk.stage import Risk
from agents.stage import ShardState, Stage
from infra.kafka import Slot, log_ranges, topic_partitions
from infra.kafka_remake import set_offsets
from infra.postgres.audit_chain import AuditChain, audit_chain
from infra.postgres.rescales import ShardRow
from infra.postgres.restores import Restore, newest_recorded
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.dead_letters import BadRecord, UnknownRecordType
from schemas.decisions import OrderApproved
from schemas.event import Event
from schemas.topics import ACCOUNT_EVENT, FEEDBACK_TRADE, ORDER_APPROVED, PREFIX, Topic
from schemas.values import Level
from streams.composition import Run, build_stage
from streams.engine.lane import lane_of
from streams.engine.log_reader import LogReader
from streams.engine.ports import EngineSettings, RawRecord
from streams.engine.shard import Progress
from streams.restore import Ranges, RestoreOrder, RestoreRefused, Shards
from streams.sinks import SINK_TOPICS, Sink

_APPROVALS: Final[Slot] = (ORDER_APPROVED.name, 0)
SINKS: Final = f"{PREFIX}.sinks"
_CHUNK: Final = 1000
RETOLD: Final = {
    ACCOUNT_EVENT: ("execution", ("order_events", "fills", "account_marks")),
    FEEDBACK_TRADE: ("feedback", ()),
}
"""What is told again after a restore, from the venue's answers: by whom, and the record's tables with its numbers."""


class MoneyMending:
    """The states of a run's money stages, and its record. ``without_orders``: the venue has nothing of ours."""

    def __init__(self, run: Run, engine: EngineSettings, order: RestoreOrder, *, without_orders: bool = False) -> None:
        self._run = run
        self._engine = engine
        self._order = order
        self._without_orders = without_orders

    def states(self, connection: Connection[Any], shards: Shards, ranges: Ranges) -> tuple[Shards, dict[str, Any]]:
        """Return the shards with the states to go on with; see ``Mending``."""
        del connection
        execution, risk, feedback = (build_stage(self._run, name) for name in ("execution", "risk", "feedback"))
        assert isinstance(execution, Execution) and isinstance(risk, Risk) and isinstance(feedback, Feedback)
        row = shards["execution", "0"]
        approvals = [] if self._without_orders else list(self._approved_since(row, ranges[_APPROVALS]))
        books = state_of(execution, row)
        adopted = execution.adopt(books, approvals)
        verdicts, lines = state_of(risk, shards["risk", "0"]), state_of(feedback, shards["feedback", "0"])
        risk.take_over(verdicts, execution.exposures(books), execution.limits(books))
        feedback.resume(lines, execution.holdings(books))
        reduced = []
        for command in self._commands():
            # A person may have halted the account before the backup: that is stricter, and stays.
            if latched(verdicts, scope_name(ScopeKind.ACCOUNT, command.target)) is not Level.HALTED:
                # One that execution has stricter it keeps, and what it says of that nobody needs to hear.
                for stage, state in ((risk, verdicts), (execution, books)):
                    stage.step(state, command)
                reduced.append(command.target)
        mended = shards | {
            ("execution", "0"): with_state(row, books),
            ("risk", "0"): with_state(shards["risk", "0"], verdicts),
            ("feedback", "0"): with_state(shards["feedback", "0"], lines),
        }
        told = {topic.name: _numbered_to(shards[stage, "0"], topic) for topic, (stage, _) in RETOLD.items()}
        return mended, {"orders": adopted, "reducing": reduced, "recorded_to": told}

    def _commands(self) -> Iterator[ControlCommand]:
        for account in sorted(self._run.settings.accounts):
            yield ControlCommand(
                key=account,
                event_time_ns=0,
                available_at_ns=0,
                command_id="",
                author=self._order.author,
                reason=f"restore: {self._order.why}",
                action=ControlAction.SET_LEVEL,
                scope=ScopeKind.ACCOUNT,
                target=account,
                level=Level.REDUCING,
            )

    def _approved_since(self, row: ShardRow, kept: tuple[int, int]) -> Iterator[OrderApproved]:
        """Yield what was approved after execution's backup. Raises RestoreRefused when that is not kept any more."""
        progress = progress_of(row)
        lane = lane_of(*_APPROVALS)
        first = progress.next_offsets.get(lane, 0)
        if kept[0] > first:
            raise RestoreRefused(
                f"{lane} is kept from offset {kept[0]} on, but execution's backup ends at {first}: which orders may be"
                " at the venue is not known. If it has none of ours and holds nothing, say --without-orders."
            )
        seen = progress.seen.positions.get(lane, {})
        for _, event in self._read(_APPROVALS, first):
            if isinstance(event, OrderApproved) and (event.generation, event.seq) > seen.get(event.source, (0, -1)):
                yield event

    def _read(self, slot: Slot, first: int = 0) -> Iterator[tuple[RawRecord, Event]]:
        reader = LogReader(self._engine.bootstrap, slot, first, self._engine.security)
        try:
            while (record := reader.next()) is not None:
                try:
                    yield record, self._engine.codec.decode(record.topic, record.value, record.headers)
                except (BadRecord, UnknownRecordType):
                    continue  # What we cannot read we have not written.
        finally:
            reader.close()

    def record(self, connection: Connection[Any], restore: Restore) -> None:
        """Let the sinks read all that is kept again, save what is told again: of that, write what the backup had sent.

        Rows are unique by event id, so what the record has changes nothing. A fill that the venue lists anew is
        another event about the same fill, and must not be booked beside the first.
        """
        engine = self._engine
        for topic, (stage, tables) in RETOLD.items():
            generation, number = restore.report["recorded_to"][topic.name]
            after = newest_recorded(connection, tables)
            lost = [
                record
                for record, event in self._read((topic.name, 0))
                if event.source == f"{stage}/0" and after < (event.generation, event.seq) <= (generation, number)
            ]
            asyncio.run(_write(engine, lost, audit_chain(self._run.settings.audit)))
        there = topic_partitions(engine.bootstrap, engine.security)
        slots = [(name, number) for name in SINK_TOPICS for number in range(there.get(name, 0))]
        retold = {topic.name for topic in RETOLD}
        ranges = log_ranges(engine.bootstrap, slots, engine.security)
        places = {slot: end if slot[0] in retold else start for slot, (start, end) in ranges.items()}
        set_offsets(engine.bootstrap, SINKS, places, engine.security)


async def _write(engine: EngineSettings, records: Sequence[RawRecord], audit: AuditChain) -> None:
    sink = Sink(engine.dsn, engine.codec, audit=audit)
    try:
        for first in range(0, len(records), _CHUNK):
            await sink.handle(records[first : first + _CHUNK])
    finally:
        await sink.close()


def progress_of(row: ShardRow) -> Progress:
    """Return a shard's progress; an empty one for a shard without a checkpoint."""
    return msgspec.msgpack.decode(row.progress, type=Progress) if row.progress else Progress()


def _numbered_to(row: ShardRow, topic: Topic) -> list[int]:
    """Return the generation and the number of the last record that a shard's backup had given to a topic."""
    return [row.generation, progress_of(row).numbers.get(lane_of(topic.name, 0), 0)]


def state_of(stage: Stage, row: ShardRow) -> ShardState:
    """Return the state that a shard has kept."""
    state = ShardState()
    for key, value in row.state.items():
        state.restore(key, msgspec.msgpack.decode(value, type=stage.state_type(key)))
    return state


def with_state(row: ShardRow, state: ShardState) -> ShardRow:
    """Return a shard that keeps this state."""
    return replace(row, state={key: msgspec.msgpack.encode(value) for key, value in state.items()})
