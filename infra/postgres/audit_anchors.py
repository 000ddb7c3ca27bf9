"""Anchors: the newest mac of each stream, written where whoever can write the database cannot.

A chain alone does not show that its end was cut off, or that all of it was written anew by somebody with the key; a
line of this file does. It is only appended to, line by line, each forced to disk; several sinks may share it.
"""

import errno
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from infra.audit_keys import AuditKeys
from infra.postgres.audit_record import Head, is_sealed
from infra.settings_sources import SettingsError

LOG: Final = logging.getLogger("tradermind.audit")


class AnchorsUnusable(SettingsError):
    """The file of anchors cannot be read or written: one sentence."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head as a line of the file has it; ``line`` counts from 1."""

    head: Head
    line: int


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    stream: str
    ordinal: int
    mac: str
    key: str
    seal: str
    at_ns: int


class AnchorFile:
    """The writer. An anchor is due ``rows`` rows or ``interval_s`` seconds after the last one of its stream."""

    def __init__(self, path: Path, *, rows: int, interval_s: float, logged: bool = False) -> None:
        self._path = path
        self._rows = rows
        self._interval_s = interval_s
        self._logged = logged
        self._anchored: dict[str, tuple[int, float]] = {}
        if logged:
            LOG.setLevel(logging.INFO)

    def check(self) -> None:
        """Raise AnchorsUnusable when the file cannot be appended to: better at the start than after the first rows."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    os.write(descriptor, b"\n")  # What is torn shall not swallow what follows.
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AnchorsUnusable(f"The audit's anchors {self._path} cannot be written: {error.strerror}.") from error

    def newer(self, heads: Iterable[Head]) -> list[Head]:
        """Return the heads that are not anchored yet."""
        return [head for head in heads if head.ordinal > self._anchored.get(head.stream, (0, 0.0))[0]]

    def due(self, heads: Iterable[Head]) -> list[Head]:
        """Return the heads that have to be anchored now; the first one of a stream at once."""
        now_s = time.monotonic()
        return [head for head in self.newer(heads) if self._is_due(head, now_s)]

    def _is_due(self, head: Head, now_s: float) -> bool:
        if head.stream not in self._anchored:
            return True
        ordinal, at_s = self._anchored[head.stream]
        return head.ordinal - ordinal >= self._rows or now_s - at_s >= self._interval_s

    def write(self, heads: Iterable[Head]) -> None:
        """Append heads that are committed. Raises OSError: what cannot be anchored is not audited."""
        lines = [_line_of(head) for head in heads]
        if not lines:
            return
        # One write of a few hundred bytes to a file opened for appending is not torn by another writer.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
            if os.write(descriptor, content) < len(content):  # A disk that is almost full takes the beginning.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for line in lines:
            self._anchored[line.stream] = (line.ordinal, time.monotonic())
            if self._logged:
                LOG.info("audit anchor: %s", msgspec.json.encode(line).decode())


def read_anchors(path: Path) -> list[Anchor]:
    """Return the anchors of a file in its order. Raises AnchorsUnusable for one that is not such a file."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise AnchorsUnusable(f"The audit's anchors {path} cannot be read: {error.strerror}.") from error
    anchors = []
    for number, content in enumerate(lines, start=1):
        if not content.endswith(b"}"):
            continue  # Torn: the machine lost its power while it was written, and the next line says more.
        try:
            line = msgspec.json.decode(content, type=_Line)
            head = Head(line.stream, line.ordinal, bytes.fromhex(line.mac), line.key, bytes.fromhex(line.seal))
        except ValueError as error:
            raise AnchorsUnusable(f"The audit's anchors {path}, line {number}: it is no anchor.") from error
        anchors.append(Anchor(head, number))
    return anchors


def forged(anchors: Iterable[Anchor], keys: AuditKeys) -> Anchor | None:
    """Return the first anchor that none of our keys has sealed, or None."""
    return next((anchor for anchor in anchors if not is_sealed(keys, anchor.head)), None)


def _line_of(head: Head) -> Any:
    return _Line(
        stream=head.stream,
        ordinal=head.ordinal,
        mac=head.mac.hex(),
        key=head.key_id,
        seal=head.seal.hex(),
        at_ns=time.time_ns(),
    )
