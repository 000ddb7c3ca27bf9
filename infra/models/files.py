"""Reads the files of an artefact, which somebody else may have put there: plain, few and small, or not at all.

Nothing here looks at what is in them. A link, a pipe or a directory in a file's place is refused by how it is opened,
so there is no moment between looking and reading.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.models.refusals import ArtefactRefused, Refusal

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe would wait for a writer who never comes.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_members(directory: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Return the bytes of exactly these files of a directory; ``limits`` is name -> bytes at most.

    Raises ArtefactRefused: NO_SUCH_ARTEFACT, NOT_PLAIN_FILES or TOO_LARGE.
    """
    try:
        opened = os.open(directory, _DIRECTORY)
    except FileNotFoundError:
        raise ArtefactRefused(Refusal.NO_SUCH_ARTEFACT, f"there is no artefact {directory.name[:80]!a}") from None
    except OSError as error:
        raise _unreadable(directory.name, error) from error
    try:
        _refuse_others(opened, limits)
        return {name: _bytes_of(opened, name, limit) for name, limit in limits.items()}
    except OSError as error:
        raise _unreadable(directory.name, error) from error
    finally:
        os.close(opened)


def _refuse_others(directory: int, names: Mapping[str, int]) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name not in names:
                told = f"{entry.name[:80]!a} is none of the files of an artefact"
                raise ArtefactRefused(Refusal.NOT_PLAIN_FILES, told)


def _bytes_of(directory: int, name: str, limit: int) -> bytes:
    try:
        descriptor = os.open(name, _FILE, dir_fd=directory)
    except FileNotFoundError:
        raise ArtefactRefused(Refusal.NO_SUCH_ARTEFACT, f"{name} is missing") from None
    except OSError as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtefactRefused(Refusal.NOT_PLAIN_FILES, f"{name} is no plain file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ArtefactRefused(Refusal.TOO_LARGE, f"{name} has more than {limit} bytes")
    return content


def _unreadable(name: str, error: OSError) -> ArtefactRefused:
    why = error.strerror or type(error).__name__
    return ArtefactRefused(Refusal.NOT_PLAIN_FILES, f"{name[:80]!a} is nothing plain that can be read: {why}")
