"""Files of line protocol, which load into a server as they are: where a run without one leaves its points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra.influx.target import Unwritten

FILE_BYTES_MAX: Final = 64 * 1024 * 1024


class LineFiles:
    """Files ``<measurement>-NNN.lp`` below a folder. A process only ever writes to files that it has made itself.

    Lines are written all or not at all: where the disk is full in the middle of them, the files end where they did
    before, since a torn line would spoil the one that is written after it.
    """

    def __init__(self, directory: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._open: dict[str, _LineFile] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, lines: Sequence[str]) -> None:
        """Append the lines, each to the file of its measurement."""
        by_measurement: dict[str, list[str]] = {}
        for line in lines:
            by_measurement.setdefault(line.partition(",")[0].partition(" ")[0], []).append(line)
        before: list[tuple[_LineFile, int]] = []
        try:
            for measurement, listed in by_measurement.items():
                file = self._file(measurement)
                before.append((file, file.size))
                file.append(("\n".join(listed) + "\n").encode())
        except OSError as error:
            for file, size in before:
                file.end_at(size)
            raise Unwritten(f"{self._directory}: {error.strerror}") from error

    def _file(self, measurement: str) -> "_LineFile":
        file = self._open.get(measurement)
        if file is not None and file.size < self._bytes_max:
            return file
        number = 0
        while True:
            try:
                made = _LineFile(self._directory / f"{measurement}-{number:03d}.lp")
            except FileExistsError:
                number += 1
                continue
            if file is not None:
                file.close()
            self._open[measurement] = made
            return made

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class _LineFile:
    """A file that we have made, and how much of it counts."""

    def __init__(self, path: Path) -> None:
        """Make it. Raises FileExistsError, and OSError where there is no room for one."""
        self._file = path.open("xb", buffering=0)
        self.size = 0

    def append(self, content: bytes) -> None:
        """Write at its end. Raises OSError; then some of the content may be there."""
        left = memoryview(content)
        while left:
            left = left[self._file.write(left) or 0 :]
        self.size += len(content)

    def end_at(self, size: int) -> None:
        """Take back what was written after this size. To make a file shorter takes no room."""
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def close(self) -> None:
        """Close it."""
        self._file.close()
