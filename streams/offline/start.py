"""Where a recomputation of a shard begins, how far it can go, and who made what lies between."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg

from infra.postgres.retention import oldest_kept_ns, pruned_through
from infra.postgres.snapshots import HeldBy, KeptSnapshot, holders_of, progress_after, snapshot_at, snapshot_before
from schemas.values import NS_PER_S
from streams.engine.log_reader import RecomputeImpossible
from streams.engine.ports import EngineSettings
from streams.engine.shard import Progress, ShardCore
from streams.offline.question import Question, Stretch


@dataclass(frozen=True, slots=True)
class ShardRow:
    """What a shard's row says about how far it has come; its outbox is unsent from batch ``unsent_from`` on."""

    generation: int
    batch: int
    reached_ns: int
    progress: Progress
    unsent_from: int | None


@dataclass(frozen=True, slots=True)
class MadeBy:
    """Code and settings that made a shard's batches after ``after_batch``; both empty when nobody wrote it down."""

    after_batch: int
    code_version: str
    settings_hash: str

    @property
    def version(self) -> tuple[str, str]:
        """Code and settings."""
        return self.code_version, self.settings_hash


@dataclass(frozen=True, slots=True)
class Start:
    """A shard's row, and the snapshot to begin with: None is the shard's beginning.

    ``silent`` has the outputs that the former version had sent already when the present one took over there.
    """

    row: ShardRow
    snapshot: KeptSnapshot | None
    made_by: tuple[MadeBy, ...]
    silent: dict[str, int]

    @property
    def batch(self) -> int:
        """The batch after which it begins."""
        return 0 if self.snapshot is None else self.snapshot.batch

    def put_into(self, core: ShardCore) -> None:
        """Bring a fresh shard to where it begins."""
        core.generation = self.row.generation
        if self.snapshot is not None:
            core.restore(self.snapshot.progress, self.snapshot.state, self.snapshot.generation)
            core.progress.silent = dict(self.silent)


def find_start(connection: psycopg.Connection[Any], core: ShardCore, engine: EngineSettings, ask: Question) -> Start:
    """Return where to begin. Raises RecomputeImpossible: no checkpoint, or other code or settings made some of it."""
    place = (core.hosting.name, core.shard)
    row = _shard_row(connection, core)
    from_ns = ask.stretch.from_ns
    holders = holders_of(connection, *place)
    snapshot = None if from_ns is None else snapshot_before(connection, *place, from_ns)
    if snapshot is None and holders:
        # A rescale gives a shard its state, and leaves a snapshot of it: that is the beginning then.
        snapshot = snapshot_at(connection, *place, holders[0].after_batch)
        if snapshot is not None and from_ns is not None:
            raise RecomputeImpossible(
                f"{core.source} begins with what a rescale gave it, at {snapshot.reached_ns} ns on the run's clock:"
                " what was before cannot be recomputed."
            )
    if snapshot is not None and snapshot.generation != row.generation:
        raise RecomputeImpossible(
            f"{core.source} began generation {row.generation} after the snapshot of batch {snapshot.batch}, which is of"
            f" generation {snapshot.generation}: what lies between does not follow from the inputs."
        )
    batch = 0 if snapshot is None else snapshot.batch
    _refuse_pruned(connection, core, batch)
    made_by = _made_by(holders, batch, row.batch, ask.stretch)
    if not ask.any_version:
        _refuse_others(core.source, made_by, (engine.code_version, engine.settings_hash), row.batch)
    silent: dict[str, int] = {}
    if snapshot is not None and not ask.any_version:
        # Each take-over by another version left a snapshot, so the next one still says what was silent after this.
        following = progress_after(connection, *place, batch)
        progress = row.progress if following is None else msgspec.msgpack.decode(following, type=Progress)
        silent = progress.silent
    return Start(row, snapshot, made_by, silent)


def _refuse_pruned(connection: psycopg.Connection[Any], core: ShardCore, batch: int) -> None:
    """Raise RecomputeImpossible when some of what follows a batch was pruned."""
    place = (core.hosting.name, core.shard)
    through = pruned_through(connection, *place)
    if through <= batch:
        return
    oldest_ns = oldest_kept_ns(connection, *place)
    rest = "."
    if oldest_ns is not None:
        rest = f": only what came after {_iso(oldest_ns)} on the run's clock can be replayed, with --from."
    raise RecomputeImpossible(f"The journal of {core.source} was pruned up to batch {through}{rest}")


def _iso(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}"


def _shard_row(connection: psycopg.Connection[Any], core: ShardCore) -> ShardRow:
    key = (core.hosting.name, core.shard)
    row = connection.execute(
        "SELECT generation, batch, reached_ns, progress FROM shard WHERE stage = %s AND shard = %s AND progress <> ''",
        key,
    ).fetchone()
    if row is None:
        raise RecomputeImpossible(f"{core.source} has no checkpoint.")
    unsent = connection.execute("SELECT min(batch) FROM shard_outbox WHERE stage = %s AND shard = %s", key).fetchone()
    assert unsent is not None
    progress = msgspec.msgpack.decode(bytes(row[3]), type=Progress)
    return ShardRow(int(row[0]), int(row[1]), int(row[2]), progress, unsent[0])


def _made_by(holders: Sequence[HeldBy], first: int, last: int, stretch: Stretch) -> tuple[MadeBy, ...]:
    """Return who made the batches after ``first`` up to ``last``, as far as the stretch goes."""
    until = [*(held.after_batch for held in holders), last][1:]
    made = [
        MadeBy(max(held.after_batch, first), held.code_version, held.settings_hash)
        for held, after in zip(holders, until, strict=True)
        if held.after_batch < last
        and after > first
        # A take-over at the very end of the stretch may have stepped more of the same time.
        and (held.after_batch <= first or not stretch.is_over(held.reached_ns))
    ]
    if first < last and (not made or made[0].after_batch > first):
        made.insert(0, MadeBy(first, "", ""))
    return tuple(made)


def _refuse_others(source: str, made_by: Sequence[MadeBy], ours: tuple[str, str], last: int) -> None:
    for number, made in enumerate(made_by):
        if made.version == ours:
            continue
        end = made_by[number + 1].after_batch if number + 1 < len(made_by) else last
        what = "a version that nobody wrote down"
        if made.code_version:
            what = f"code {made.code_version} with settings {made.settings_hash}"
        raise RecomputeImpossible(
            f"{source}: batches {made.after_batch + 1} to {end} were made by {what}, but this is code {ours[0]} with"
            f" settings {ours[1]}: replay them with what has made them, or compare all the same with --any-version."
        )
