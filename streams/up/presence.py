"""That one directory has one platform: who runs it, where its parts are, and how it is asked to end."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.servers.process import ServerFailed

_LOCK: Final = "up.lock"
_NOTE: Final = "up.json"
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Presence:
    """What a running platform tells of itself: its process, and name -> address once every part is up."""

    pid: int
    addresses: Mapping[str, str]
    ready: bool


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Be the one platform of a directory. Raises ServerFailed when another is; the kernel lets go of a dead one's."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            whose = file.read().strip() or "unknown"
            raise ServerFailed(
                f"A platform runs in {directory} already (process {whose}): `tradermind down` ends it."
            ) from None
        # Who was killed has left his behind.
        (directory / _NOTE).unlink(missing_ok=True)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            (directory / _NOTE).unlink(missing_ok=True)


def tell(directory: Path, addresses: Mapping[str, str], *, ready: bool) -> None:
    """Write down where the parts are, in one step."""
    half = directory / f"{_NOTE}.half"
    half.write_text(json.dumps({"pid": os.getpid(), "ready": ready, "addresses": dict(addresses)}, indent=1))
    half.replace(directory / _NOTE)


def found(directory: Path) -> Presence | None:
    """Return the platform that runs in a directory, or None."""
    if not runs(directory):
        return None
    try:
        content = json.loads((directory / _NOTE).read_text())
    except (OSError, ValueError):
        return Presence(_holder(directory), {}, ready=False)
    return Presence(int(content["pid"]), content["addresses"], bool(content["ready"]))


def runs(directory: Path) -> bool:
    """Return whether a platform runs in a directory."""
    try:
        file = (directory / _LOCK).open("r")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def end(directory: Path, limit_s: float) -> bool:
    """Ask the platform of a directory to end, and wait for it; return whether there was one. Raises ServerFailed."""
    if not runs(directory):
        return False
    pid = _holder(directory)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + limit_s
    while runs(directory):
        if time.monotonic() > deadline:
            raise ServerFailed(f"The platform in {directory} (process {pid}) has not ended within {limit_s:g} s.")
        time.sleep(_POLL_S)
    return True


def _holder(directory: Path) -> int:
    text = (directory / _LOCK).read_text().strip()
    if not text.isdigit():
        raise ServerFailed(f"{directory / _LOCK} does not name the process that holds it.")
    return int(text)
