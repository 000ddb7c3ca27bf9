"""``topics rescale``: another partition count for everything keyed by instrument, while all workers stand still.

The order of the steps is the safety. First the claim: no worker can take a shard any more. Then every check, which
changes nothing. Then all states move in one transaction, verified in it; only then are topics deleted and made anew,
and only topics whose every record was read. A command that was killed is run again, and goes on where it stopped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg
from psycopg import Connection

from infra.kafka import TopicSpec, apply_topics, cluster_id, log_ends, topic_partitions
from infra.kafka_remake import committed_offsets, delete_topics, group_members, grow_topic, set_offsets
from infra.kafka_topics import differences, find_topics
from infra.postgres.rescales import (
    Rescale,
    ShardRow,
    advance,
    claim_rescale,
    drop_claim,
    lock_rescale,
    newest_generation,
    read_shards,
    unfinished_rescale,
    unsent_shards,
    write_move,
)
from infra.topic_specs import keyed_topics
from schemas.topics import PREFIX, TOPICS
from streams.engine.lane import lane_of
from streams.engine.ports import EngineSettings
from streams.rescale_checks import newest_positions, refuse_undrained, refuse_unrecorded, refuse_unsaid
from streams.rescale_state import (
    KEY_RULES,
    KeyRule,
    RescaleRefused,
    digest_of,
    fence,
    instrument_of,
    lanes_of,
    move_stage,
    partition_number,
    progress_of,
    with_ends,
    without_lanes,
)
from streams.standstill import DEPARTURE_S, QUIET_S, refuse_life

KEYED: Final = frozenset(topic.name for topic in keyed_topics())


@dataclass(frozen=True, slots=True, kw_only=True)
class RescaleOrder:
    """What was ordered, by whom and why. ``specs``: the table's topics under the new count.

    ``without_sinks``: nobody keeps the record, so nobody need have read to the end for it. ``quiet_s``: so long
    nothing may have been written. ``departure_s``: so long it waits for the members of consumer groups to be gone.
    """

    partitions: int
    specs: Sequence[TopicSpec]
    author: str
    why: str
    without_sinks: bool = False
    quiet_s: float = QUIET_S
    departure_s: float = DEPARTURE_S
    dry_run: bool = False


class Rescaling:
    """One run of the command. ``observe`` is told each step when it is done."""

    def __init__(
        self,
        engine: EngineSettings,
        order: RescaleOrder,
        observe: Callable[[str], None],
        rules: Mapping[str, KeyRule] = KEY_RULES,
    ) -> None:
        self._engine = engine
        self._order = order
        self._observe = observe
        self._rules = rules
        self._at = (engine.bootstrap, engine.security)

    def run(self) -> Rescale | None:
        """Rescale, or go on with a rescale; return what was done, None where there is nothing to do.

        Raises RescaleRefused, KafkaFailed, and psycopg.OperationalError.
        """
        with psycopg.connect(self._engine.dsn, autocommit=True, connect_timeout=5) as connection:
            if not lock_rescale(connection):
                raise RescaleRefused("Another rescale is being made at this moment.")
            rescale = unfinished_rescale(connection)
            if rescale is None or rescale.step == "CLAIMED":
                drop_claim(connection)
                rescale = self._begin(connection)
            if rescale is None or self._order.dry_run:
                return rescale
            if rescale.after != self._order.partitions:
                raise RescaleRefused(
                    f"A rescale from {rescale.before} to {rescale.after} partitions is half made: finish it first."
                )
            self._refuse_life(connection)
            self._remake(connection, rescale)
            return self._finish(connection, rescale)

    def _begin(self, connection: Connection[Any]) -> Rescale | None:
        order = self._order
        before = self._present_count()
        if before == order.partitions:
            return None
        wanted = [spec for spec in order.specs if spec.name in KEYED]
        found = find_topics(self._at[0], KEYED, self._at[1])
        for difference in differences(wanted, found):
            if difference.what != "partitions":
                raise RescaleRefused(f"{difference.sentence()[:-1]}: run `tradermind topics apply` first.")
        begun = Rescale(before, order.partitions, order.author, order.why, cluster_id(*self._at))
        claim_rescale(connection, begun)
        try:
            self._observe("CLAIMED")
            self._refuse_life(connection)
            if waiting := unsent_shards(connection):
                raise RescaleRefused(f"The outbox of {waiting[0]} is not empty: start the worker until it is.")
            with connection.transaction():
                moved = self._move(connection, begun)
                if order.dry_run:
                    raise psycopg.Rollback
        except BaseException:
            drop_claim(connection)
            raise
        if order.dry_run:
            drop_claim(connection)
        else:
            self._observe("MOVED")
        return moved

    def _present_count(self) -> int:
        there = topic_partitions(*self._at)
        counts = {name: there.get(name) for name in sorted(KEYED)}
        known = {count for count in counts.values() if count is not None}
        if None in counts.values() or len(known) != 1:
            raise RescaleRefused(f"The topics keyed by instrument have not one partition count: {counts}.")
        return known.pop()

    def _refuse_life(self, connection: Connection[Any]) -> None:
        order = self._order
        refuse_life(self._engine, connection, RescaleRefused, quiet_s=order.quiet_s, departure_s=order.departure_s)

    def _move(self, connection: Connection[Any], begun: Rescale) -> Rescale:
        rows = read_shards(connection)
        keyed = [row for row in rows if row.stage in self._rules]
        others = [row for row in rows if row.stage not in self._rules]
        for row in rows:
            if row.cluster_id != begun.cluster_id and row.progress:
                raise RescaleRefused(f"{row.stage}/{row.shard} belongs to Kafka cluster {row.cluster_id}.")
        refuse_undrained(self._engine, keyed, begun.before)
        if not self._order.without_sinks:
            refuse_unrecorded(self._engine, begun.before)
        refuse_unsaid(self._engine, others, begun.before)
        generation = max([newest_generation(connection), *(row.generation for row in keyed)]) + 1
        stages: dict[str, tuple[int, str]] = {}
        moved: list[ShardRow] = []
        for stage in sorted({row.stage for row in keyed}):
            of_stage = [row for row in keyed if row.stage == stage]
            result = move_stage(self._rules[stage], of_stage, begun.before, begun.after, generation)
            stages[stage] = (result.keys, result.digest)
            ends = self._ends_that_go_on(of_stage)
            moved += [with_ends(row, ends) for row in result.rows]
        newest = newest_positions(keyed, moved, others)
        fenced = [fence(row, lanes_of(sorted(KEYED), partition_number(row.shard)), newest) for row in moved]
        changed = [without_lanes(row, KEYED) for row in others if row.progress]
        rescale = replace(begun, generation=generation, stages=stages, step="MOVED")
        write_move(connection, rescale, fenced, changed)
        self._verify(connection, rescale)
        return rescale

    def _ends_that_go_on(self, rows: Sequence[ShardRow]) -> dict[str, int]:
        """Return lane -> end of what these shards write and what is not made anew.

        Without it whoever takes one up would look through all of these logs for what a former version has sent.
        """
        lanes = {lane.rpartition("/")[::2] for row in rows for lane in progress_of(row).output_ends}
        slots = sorted((topic, int(number)) for topic, number in lanes if topic not in KEYED)
        return {lane_of(*slot): end for slot, end in log_ends(self._at[0], slots, self._at[1]).items()}

    def _remake(self, connection: Connection[Any], rescale: Rescale) -> None:
        """Make every keyed topic anew that has not the new count: one at a time, so that a kill loses no place."""
        specs = {spec.name: spec for spec in self._order.specs}
        for name in sorted(KEYED):
            there = topic_partitions(*self._at).get(name)
            if there == rescale.after:
                continue
            if there is not None:
                delete_topics(self._at[0], [name], self._at[1])
                self._observe(f"DELETED {name}")
            apply_topics(self._at[0], [specs[name]], self._at[1])
            self._observe(f"MADE {name}")
        there_now = topic_partitions(*self._at)
        for name in sorted(KEYED):
            letters = TOPICS[name].dead_letters
            if there_now.get(letters, rescale.after) < rescale.after:
                grow_topic(self._at[0], letters, rescale.after, self._at[1])
        if rescale.step == "MOVED":
            self._forget_offsets(rescale)
            advance(connection, "MADE")
            self._observe("MADE")

    def _forget_offsets(self, rescale: Rescale) -> None:
        """Let every group of ours begin with the new logs; Kafka forgets a deleted topic's offsets, but when?"""
        slots = [(name, number) for name in sorted(KEYED) for number in range(rescale.after)]
        for group in group_members(self._at[0], f"{PREFIX}.", self._at[1]):
            stale = committed_offsets(self._at[0], group, slots, self._at[1])
            if any(stale.values()):
                set_offsets(self._at[0], group, dict.fromkeys(stale, 0), self._at[1])

    def _finish(self, connection: Connection[Any], rescale: Rescale) -> Rescale:
        with connection.transaction():
            self._verify(connection, rescale)
            there = topic_partitions(*self._at)
            wrong = [name for name in sorted(KEYED) if there.get(name) != rescale.after]
            assert not wrong, f"{wrong} have not {rescale.after} partitions"
            advance(connection, "DONE")
        self._observe("DONE")
        return replace(rescale, step="DONE")

    def _verify(self, connection: Connection[Any], rescale: Rescale) -> None:
        """Read back what was written: every key once, where it belongs, and all of them as they were."""
        for stage, (keys, digest) in rescale.stages.items():
            rows = [row for row in read_shards(connection) if row.stage == stage]
            rule = self._rules[stage]
            own = [{key: value for key, value in row.state.items() if key not in rule.joined} for row in rows]
            for row, state in zip(rows, own, strict=True):
                for key in state:
                    instrument_of(rule, row, key, rescale.after)
            numbers = sorted(partition_number(row.shard) for row in rows)
            assert numbers == list(range(rescale.after)), f"{stage} has the shards {numbers}"
            assert {row.generation for row in rows} == {rescale.generation}
            assert digest_of(own) == (digest, keys), f"{stage} does not hold the states that it held"
