"""What becomes of the shards of instrument-keyed stages under another partition count. Pure: rows in, rows out.

Every key of such a stage names its instrument, and the instrument decides the partition. A key that does not, or that
lies where its instrument does not belong, is refused: nobody knows whose it is. What a stage keeps once per shard is
joined by a rule of its own.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from agents.voting.stage import Clock, Strays
from infra.postgres.rescales import ShardRow
from schemas.partition import partition_of
from streams.engine.dedupe import SeenPositions
from streams.engine.lane import lane_of
from streams.engine.shard import Progress

Placed = tuple[int, bytes]
"""A partition, and what lies there."""
Join = Callable[[Sequence[bytes], int], Mapping[int, bytes]]
"""From what every shard kept under one key, and the new partition count, to what each new shard keeps under it."""
_PARTITION: Final = re.compile(r"(?P<prefix>.*/)?(?P<number>\d+)")


class RescaleRefused(Exception):
    """A rescale may not be made now, or not of this; nothing was changed. One clear sentence."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """How a stage's state keys name their instrument, and how the keys that name none are joined."""

    instrument: re.Pattern[str]
    joined: Mapping[str, Join] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """The shards of one stage after the move; ``digest`` is over every key that was moved, before and after alike."""

    rows: tuple[ShardRow, ...]
    keys: int
    digest: str


def progress_of(row: ShardRow) -> Progress:
    """Return a shard's progress; that of one that has written none is empty."""
    return msgspec.msgpack.decode(row.progress, type=Progress) if row.progress else Progress()


def _least_clock(kept: Sequence[bytes], partitions: int) -> dict[int, bytes]:
    clocks = [msgspec.msgpack.decode(value, type=Clock) for value in kept]
    # The least of them: no ballot may close before every vote that was in time could have come.
    least = Clock(min(one.snapshot_ns for one in clocks), min(one.vote_ns for one in clocks))
    return dict.fromkeys(range(partitions), msgspec.msgpack.encode(least))


def _sum_of_strays(kept: Sequence[bytes], partitions: int) -> dict[int, bytes]:
    del partitions
    return {0: msgspec.msgpack.encode(Strays(sum(msgspec.msgpack.decode(v, type=Strays).votes for v in kept)))}


KEY_RULES: Final[Mapping[str, KeyRule]] = {
    "experts": KeyRule(re.compile(r"(.+)/(?:features|bars|expert/[^/]+)")),
    "voting": KeyRule(
        re.compile(r"(.+?)/(?:sheet|\d+/(?:ballots|weights))"), {"clock": _least_clock, "strays": _sum_of_strays}
    ),
}
"""The stages that live on instrument-keyed topics; a test holds every key of theirs to these rules."""


def partition_number(shard: str) -> int:
    """Return the partition that a shard's name ends with. Raises RescaleRefused."""
    match = _PARTITION.fullmatch(shard)
    if match is None:
        raise RescaleRefused(f"The shard {shard!r} names no partition: it is not known how to move it.")
    return int(match["number"])


def instrument_of(rule: KeyRule, row: ShardRow, key: str, partitions: int) -> str:
    """Return the instrument of a key, which must belong where it lies. Raises RescaleRefused."""
    match = rule.instrument.fullmatch(key)
    if match is None:
        raise RescaleRefused(f"{row.stage}/{row.shard} keeps {key[:80]!r}, which names no instrument.")
    instrument, here = match[1], partition_number(row.shard)
    if partition_of(instrument, partitions) != here:
        raise RescaleRefused(
            f"{row.stage}/{row.shard} keeps {key[:80]!r}, but {instrument} belongs to partition"
            f" {partition_of(instrument, partitions)} of {partitions}."
        )
    return instrument


def move_stage(rule: KeyRule, rows: Sequence[ShardRow], before: int, after: int, generation: int) -> Moved:
    """Return the shards of one stage under ``after`` partitions, with ``generation``. Raises RescaleRefused.

    Their progress is empty, for their topics begin anew; of letters they keep which orders were carried out.
    """
    states: list[dict[str, bytes]] = [{} for _ in range(after)]
    shared: dict[str, list[bytes]] = {}
    for row in rows:
        for key, value in row.state.items():
            if key in rule.joined:
                shared.setdefault(key, []).append(value)
                continue
            place = states[partition_of(instrument_of(rule, row, key, before), after)]
            if key in place:
                raise RescaleRefused(f"Two shards of {row.stage} keep {key[:80]!r}.")
            place[key] = value
    digest, keys = digest_of(state for state in states)
    assert (digest, keys) == digest_of(
        {key: value for key, value in row.state.items() if key not in rule.joined} for row in rows
    ), "a key was lost or changed on its way"
    for key, kept in shared.items():
        for number, value in rule.joined[key](kept, after).items():
            states[number][key] = value
    return Moved(tuple(_new_rows(rows, states, generation)), keys, digest)


def _new_rows(rows: Sequence[ShardRow], states: list[dict[str, bytes]], generation: int) -> Iterable[ShardRow]:
    first = rows[0]
    match = _PARTITION.fullmatch(first.shard)
    assert match is not None
    letters = [progress_of(row).letters for row in rows]
    for row, letter in zip(rows, letters, strict=True):
        if letter.held:
            raise RescaleRefused(f"{row.stage}/{row.shard} holds back keys: release them first (`tradermind dlq`).")
    for number, state in enumerate(states):
        progress = Progress()
        progress.letters.orders = max(letter.orders for letter in letters)
        progress.letters.stepped_orders = max(letter.stepped_orders for letter in letters)
        progress.reached_ns = max(progress_of(row).reached_ns for row in rows)
        yield replace(
            first,
            shard=f"{match['prefix'] or ''}{number}",
            epoch=max(row.epoch for row in rows) + 1,
            generation=generation,
            # What was journaled or kept under a lower number of the same name stays another thing.
            batch=max(row.batch for row in rows) + 1,
            reached_ns=max(row.reached_ns for row in rows),
            progress=msgspec.msgpack.encode(progress),
            state=state,
        )


def digest_of(states: Iterable[Mapping[str, bytes]]) -> tuple[str, int]:
    """Return a digest of all keys and values, whichever shard they lie in, and how many there are."""
    every = sorted((key, value) for state in states for key, value in state.items())
    digest = hashlib.sha256()
    for key, value in every:
        for part in (key.encode(), value):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest(), len(every)


def fence(row: ShardRow, lanes: Iterable[str], newest: Mapping[str, tuple[int, int]]) -> ShardRow:
    """Return a shard that drops whatever a source sends late on ``lanes`` from before the rescale.

    ``newest``: source, or ``source lane`` where it counts per lane -> the newest (generation, seq) that is old.
    """
    progress = progress_of(row)
    for lane in lanes:
        seen: dict[str, tuple[int, int]] = {}
        for name, position in newest.items():
            source, _, only = name.partition(" ")
            if only in ("", lane):
                seen[source] = position
        progress.seen = SeenPositions({**progress.seen.positions, lane: seen}, progress.seen.windows)
    return replace(row, progress=msgspec.msgpack.encode(progress))


def with_ends(row: ShardRow, ends: Mapping[str, int]) -> ShardRow:
    """Return a shard that knows where lanes end that go on: nothing of its new generation lies before."""
    progress = progress_of(row)
    progress.output_ends = dict(ends)
    return replace(row, progress=msgspec.msgpack.encode(progress))


def without_lanes(row: ShardRow, topics: frozenset[str]) -> ShardRow:
    """Return a shard whose own log goes on, but which wrote to topics that begin anew: it forgets their ends."""
    progress = progress_of(row)
    progress.output_ends = {
        lane: end for lane, end in progress.output_ends.items() if lane.rpartition("/")[0] not in topics
    }
    progress.silent = {}
    progress.topic_ids = {name: known for name, known in progress.topic_ids.items() if name not in topics}
    return replace(row, progress=msgspec.msgpack.encode(progress))


def lanes_of(topics: Iterable[str], partition: int) -> list[str]:
    """Return the names of one partition number of several topics."""
    return [lane_of(topic, partition) for topic in topics]
