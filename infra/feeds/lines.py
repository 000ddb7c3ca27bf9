"""Lines of a compressed file, whatever is in it: bounded in memory, and broken files said in one sentence."""

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, cast
from zipfile import BadZipFile

from infra.feeds import FeedFailed

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A whole depth snapshot of 5,000 levels is 0.3 MB; beyond this it is not a line but a mistake, or an attack."""


def read_lines(path: Path, open_content: Callable[[], io.BufferedIOBase]) -> Iterator[bytes]:
    """Yield the lines without their ends; one beyond LINE_BYTES_MAX comes cut to one byte more. Raises FeedFailed."""
    try:
        # The readers of gzip and zip find a line's end in Python, a BufferedReader does it in C.
        with io.BufferedReader(cast(io.RawIOBase, open_content()), 65_536) as file:
            while line := file.readline(LINE_BYTES_MAX + 1):
                if len(line) > LINE_BYTES_MAX:
                    yield line
                    _skip_rest(file)
                else:
                    yield line.rstrip(b"\r\n")
    except FileNotFoundError as error:
        raise FeedFailed(f"{path} does not exist.") from error
    except (OSError, EOFError, zlib.error, BadZipFile) as error:
        raise FeedFailed(f"{path} is damaged and cannot be read to its end: {error}.") from error


def _skip_rest(file: IO[bytes]) -> None:
    while (piece := file.readline(65_536)) and not piece.endswith(b"\n"):
        pass
