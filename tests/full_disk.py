"""Disks that are full in the middle of what is written: a small one of its own, or a limit for our own process."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NotHere(Exception):
    """A fault cannot be done on this machine, and why, in one clear sentence."""


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system in memory, of so many bytes (as mount says it)."""
    if os.geteuid() != 0:
        raise NotHere("a full disk needs the right to mount one: run as root")
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        raise NotHere(f"a full disk needs the right to mount one: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all room of a small file system, and say in which file."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while (free := os.statvfs(disk)).f_bavail:
            # Whoever lives there writes on meanwhile: what was free a moment ago may be taken.
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + free.f_bavail * free.f_frsize)
    return ballast


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: what crosses the limit is torn, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
