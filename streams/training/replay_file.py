"""The replay buffer on disk: whole snapshots, written beside and moved into place, each of which proves itself.

A file is named for the epoch of its writer. Who was stopped, replaced and goes on later can write nothing but its own,
older file, and the newest epoch is read first.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from agents.reward.experience import Standing
from agents.reward.shaping import Fall, Moments
from streams.training.replay import Arrays, Frozen, empty_arrays

FORMAT: Final = "tradermind.replay.2"
_PREFIX: Final = "replay-"
_SUFFIX: Final = ".safetensors"


@dataclass(frozen=True, slots=True)
class Found:
    """The newest snapshot that can be gone on with, or None, and a sentence for each that cannot."""

    frozen: Frozen | None
    refusals: tuple[str, ...]


class SnapshotRefused(Exception):
    """A snapshot that is not gone on with, and why in one sentence."""


def snapshot_file(directory: Path, epoch: int) -> Path:
    """Return where the holder of an epoch keeps its snapshot."""
    return directory / f"{_PREFIX}{epoch:010d}{_SUFFIX}"


def save_snapshot(directory: Path, epoch: int, frozen: Frozen) -> Path:
    """Put a snapshot in the place of the former one, and remove those of earlier epochs; return its file.

    When it returns the snapshot outlives a power cut; killed before, the former one is there. Raises OSError.
    """
    place = snapshot_file(directory, epoch)
    write_snapshot(place, frozen)
    for older in _snapshots(directory):
        if older.name < place.name:
            older.unlink(missing_ok=True)
    return place


def write_snapshot(place: Path, frozen: Frozen) -> None:
    """Write a snapshot to a file: all of it is there for good, or nothing of it. Raises OSError."""
    told = {
        "format": FORMAT,
        "identity": frozen.identity,
        "lineage": frozen.lineage,
        "position": str(frozen.position),
        "skipped": str(frozen.skipped),
        "standings": json.dumps(dict(sorted(frozen.standings.items()))),
        "instruments": json.dumps(frozen.instruments),
    }
    content = save(dict(frozen.arrays), metadata={**told, "sha256": _digest(told, frozen.arrays)})
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(place)
    _sync(place.parent)


def find_snapshot(directory: Path, identity: str) -> Found:
    """Return the newest snapshot of this identity that is whole. Raises OSError when the directory cannot be read."""
    refusals: list[str] = []
    for file in sorted(_snapshots(directory), reverse=True):
        try:
            return Found(read_snapshot(file, identity), tuple(refusals))
        except SnapshotRefused as refusal:
            refusals.append(str(refusal))
    return Found(None, tuple(refusals))


def read_snapshot(file: Path, identity: str) -> Frozen:
    """Return the snapshot in a file. Raises SnapshotRefused for one that is torn, changed, or of another identity."""
    try:
        with safe_open(file, framework="numpy") as opened:
            told: dict[str, str] = opened.metadata() or {}
            arrays: Arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise SnapshotRefused(f"The replay snapshot {file} cannot be read: {error}.") from error
    digest = told.pop("sha256", "")
    if told.get("format") != FORMAT:
        raise SnapshotRefused(f"The replay snapshot {file} is no {FORMAT}.")
    if digest != _digest(told, arrays):
        raise SnapshotRefused(f"The replay snapshot {file} is not what was written: its checksum differs.")
    if told["identity"] != identity:
        raise SnapshotRefused(
            f"The replay snapshot {file} was made by other terms ({told['identity']}), not by {identity}."
        )
    count = len(arrays["action"])
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in empty_arrays(count).items()
    }, "the terms name the layout"
    standings: dict[str, Any] = json.loads(told["standings"])
    return Frozen(
        identity,
        told["lineage"],
        int(told["position"]),
        int(told["skipped"]),
        {
            line: Standing(Moments(*moments), Fall(*fall), effective)
            for line, (moments, fall, effective) in standings.items()
        },
        arrays,
        tuple(json.loads(told["instruments"])),
    )


def _snapshots(directory: Path) -> list[Path]:
    return list(directory.glob(f"{_PREFIX}*{_SUFFIX}"))


def _digest(told: dict[str, str], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _sync(directory: Path) -> None:
    """Write the directory itself: a name that was moved is only there for good then."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
