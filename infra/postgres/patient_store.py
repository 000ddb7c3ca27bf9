"""What the engine asks of whatever keeps a shard's progress, and the patience with it, which is the same for all.

A transient fault is retried in place; after a lost connection the epoch and the batch are read again, so that a
commit whose answer was lost is neither repeated nor forgotten.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

LOG: Final = logging.getLogger("tradermind.worker")
RETRY_FIRST_S: Final = 0.05
RETRY_MOST_S: Final = 2.0
RETRY_FOR_S: Final = 60.0
CLAIM_FOR_S: Final = 12.0


class ShardLost(Exception):
    """Another worker has claimed the shard; whoever sees this writes nothing more."""


class ClaimRefused(Exception):
    """Nobody may claim a shard now, in one clear sentence: a rescale moves what shards keep."""


class DatabaseGone(Exception):
    """The database did not come back within the time allowed, in one clear sentence."""


@dataclass(frozen=True, slots=True)
class ShardName:
    """One stage on one partition, and who asks for it."""

    stage: str
    shard: str
    holder: str


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a checkpoint must agree with: the Kafka cluster; and what it names: code version and settings."""

    cluster_id: str
    code_version: str
    settings_hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A shard as it was claimed: ``fresh`` when nobody had it before.

    ``snapshot_age_s`` is how long ago the newest kept snapshot was taken, None without one.
    """

    epoch: int
    generation: int
    batch: int
    progress: bytes
    state: Mapping[str, bytes]
    unsent: tuple[tuple[int, bytes], ...]
    cluster_id: str
    code_version: str
    settings_hash: str
    fresh: bool
    snapshot_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction writes. A state value of None deletes its key; ``sent_through`` clears the outbox."""

    batch: int
    progress: bytes
    state: Mapping[str, bytes | None]
    journal: bytes | None = None
    outbox: bytes | None = None
    sent_through: int | None = None
    generation: int | None = None
    reached_ns: int = 0


class PatientStore(ABC):
    """One claimed shard. Not to be shared between tasks. Whoever keeps it for real says how each single try goes."""

    @property
    @abstractmethod
    def epoch(self) -> int:
        """The epoch under which this holder writes."""

    @abstractmethod
    async def claim_once(self, facts: RunFacts) -> Checkpoint:
        """Try to take the shard over. Raises psycopg.OperationalError when nobody answers."""

    @abstractmethod
    async def write_once(self, commit: Commit, facts: RunFacts) -> None:
        """Try to write a batch. Raises ShardLost; psycopg.OperationalError when it may or may not have arrived."""

    @abstractmethod
    async def is_written(self, batch: int) -> bool | None:
        """Return whether a commit whose answer was lost had arrived, None while nobody answers. Raises ShardLost."""

    @abstractmethod
    async def keep_once(self, hours: int) -> None:
        """Try to keep the shard as it is written by now, and forget what was kept more than ``hours`` ago.

        Nothing is kept when the shard has a newer epoch. Raises psycopg.OperationalError.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give the session back; the next try makes a new one."""

    async def claim(self, facts: RunFacts) -> Checkpoint:
        """Take the shard over, ending the former holder's session, and return its checkpoint.

        The row keeps the cluster, code and settings of the checkpoint it holds until the next commit. Raises
        DatabaseGone when nobody answers within the time that an assignment may take.
        """
        deadline = asyncio.get_running_loop().time() + CLAIM_FOR_S
        while True:
            try:
                return await self.claim_once(facts)
            except psycopg.OperationalError as error:
                # A claim that had arrived after all is simply claimed again, under the next epoch.
                await self.close()
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseGone(
                        f"Postgres did not answer for {CLAIM_FOR_S:g} s: {_first_line(error)}."
                    ) from error
            await asyncio.sleep(RETRY_MOST_S / 4)

    async def keep_snapshot(self, hours: int) -> bool:
        """Keep the shard as it is written by now; return False when the database does not do it at once.

        Raises ShardLost when that is noticed meanwhile.
        """
        try:
            await self.keep_once(hours)
        except psycopg.OperationalError as error:
            LOG.warning("no snapshot was kept: %s", _first_line(error))
            await self.close()
            await self.is_written(0)  # A new session makes itself known in the row, where the next holder looks.
            return False
        return True

    async def commit(self, commit: Commit, facts: RunFacts) -> None:
        """Write a batch. Raises ShardLost when the shard has a newer epoch, DatabaseGone after a minute of trying."""
        deadline = asyncio.get_running_loop().time() + RETRY_FOR_S
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self.write_once(commit, facts)
                return
            except psycopg.OperationalError as error:
                await self.close()
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseGone(
                        f"Postgres did not answer for {RETRY_FOR_S:g} s: {_first_line(error)}."
                    ) from error
            # Whether the lost commit had arrived must be known before it is tried again.
            written: bool | None = None
            while written is None:
                if asyncio.get_running_loop().time() > deadline:
                    raise DatabaseGone(f"Postgres did not answer for {RETRY_FOR_S:g} s.")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MOST_S)
                written = await self.is_written(commit.batch)
            if written:
                return


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
