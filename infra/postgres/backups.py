"""Backups as they lie on a disk: a folder each, with the dump, the audit's anchors, and a manifest that tells of them.

A backup is a folder whose name is the time it was begun at; one that is not finished ends in ``.part``. The manifest
holds no secret and no address: whoever may read the backup reads the whole record anyway, but not how to reach it.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from infra.servers.process import ServerFailed

MANIFEST: Final = "manifest.json"
DUMP: Final = "database.dump"
ANCHORS: Final = "audit.anchors"
PART: Final = ".part"
FORMAT: Final = 1
_NAME_FORMAT: Final = "%Y%m%dT%H%M%SZ"


class BackupFailed(ServerFailed):
    """A backup that cannot be made, believed or restored, and why, in one clear sentence."""


class BackupFile(msgspec.Struct, frozen=True):
    """One file of a backup: its name, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


class ShardMark(msgspec.Struct, frozen=True):
    """Where a shard stood: its generation, epoch and batch, and the next offset of each input lane."""

    generation: int
    epoch: int
    batch: int
    next_offsets: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. Times are UTC; ``rows`` counts each table as the dump has it; ``shards`` by stage/shard.

    ``finished_at`` is when the files were complete; what is in them is the database of ``started_at``.
    """

    format: int
    started_at: datetime
    finished_at: datetime
    revision: str
    clusters: list[str]
    shards: dict[str, ShardMark]
    rows: dict[str, int]
    audit: dict[str, int]
    roles: list[str]
    database_bytes: int
    server: str
    dumped_with: str
    code_version: str
    platform: str
    files: list[BackupFile]


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def dump(self) -> Path:
        """The dump of the database."""
        return self.folder / DUMP

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.manifest.files)

    def age(self, now: datetime) -> timedelta:
        """Return how much is lost from the database when it is put back now."""
        return now - self.manifest.started_at

    def verify(self) -> None:
        """Read every file and compare. Raises BackupFailed for the first that is not as it was written."""
        for file in self.manifest.files:
            path = self.folder / file.name
            if not path.is_file():
                raise BackupFailed(f"The backup {self.name} has no {file.name} any more.")
            found = describe(path)
            if found != file:
                raise BackupFailed(
                    f"The backup {self.name} is damaged: {file.name} has {found.size} bytes with SHA-256"
                    f" {found.sha256[:12]}, not {file.size} with {file.sha256[:12]}."
                )


def name_of(started_at: datetime) -> str:
    """Return the name of a backup that was begun then."""
    return started_at.strftime(_NAME_FORMAT)


def describe(path: Path) -> BackupFile:
    """Return a file's name, size and SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return BackupFile(path.name, path.stat().st_size, digest.hexdigest())


def read_backup(folder: Path) -> Backup:
    """Return the backup of a folder. Raises BackupFailed for a folder that is none."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError as error:
        raise BackupFailed(f"{folder} is no backup: {MANIFEST} cannot be read ({error.strerror}).") from error
    except msgspec.MsgspecError as error:
        raise BackupFailed(f"{folder} is no backup that this version can read: {error}.") from error
    if manifest.format > FORMAT:
        raise BackupFailed(f"{folder} was made by a newer version (format {manifest.format}; this one reads {FORMAT}).")
    return Backup(folder, manifest)


def backups_in(directory: Path) -> list[Backup]:
    """Return the finished backups of a directory, oldest first. Raises BackupFailed for one that cannot be read."""
    if not directory.is_dir():
        return []
    folders = (folder for folder in directory.iterdir() if folder.is_dir() and _is_name(folder.name))
    return [read_backup(folder) for folder in sorted(folders)]


def newest_backup(directory: Path) -> Backup:
    """Return the newest finished backup. Raises BackupFailed where there is none."""
    found = backups_in(directory)
    if not found:
        raise BackupFailed(f"There is no backup in {directory}: `tradermind backup create` makes one.")
    return found[-1]


def remove_older(directory: Path, keep: int) -> list[str]:
    """Remove all but the newest ``keep`` backups, and what was begun and never finished; return the names."""
    folders = sorted(folder for folder in directory.iterdir() if folder.is_dir() and _is_name(folder.name))
    begun = [folder for folder in directory.iterdir() if folder.name.endswith(PART)]
    doomed: Sequence[Path] = [*folders[: len(folders) - keep], *begun]
    for folder in doomed:
        # Without its manifest it is no backup any more, however far the rest of the removal comes.
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)
    return [folder.name for folder in doomed]


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold a directory of backups, made when it is not there. Raises BackupFailed while another holds it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupFailed(f"Another backup is being made in {directory} at this moment.") from None
        yield


def now_utc() -> datetime:
    """Return the wall clock's time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def _is_name(name: str) -> bool:
    try:
        datetime.strptime(name, _NAME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
