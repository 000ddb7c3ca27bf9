"""What a benchmark says at its end: one table for people, and the same as JSON for whoever keeps the figures."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from infra.feeds import FeedFailed
from infra.kafka import BrokerUnreachable
from infra.servers.kafka_real import kafka_libraries
from infra.servers.process import ServerFailed
from infra.settings import SettingsError

CANNOT_RUN: Final = 2
_CLEAR_FAILURES: Final = (ServerFailed, SettingsError, FeedFailed, BrokerUnreachable)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return the rows under their header; the first column to the left, the others to the right."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        first, *others = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value that ``share`` of all are not above; None for fewer than 1 / (1 - share) values."""
    if len(values) * (1 - share) < 1 - 1e-9:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def say(sentence: str) -> None:
    """Tell how far a long measurement is, beside its result."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def add_json_option(parser: ArgumentParser) -> None:
    """Let the parser know ``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")


def write_json(path: Path | None, result: Any) -> None:
    """Write the result to a file, if one was named."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")


def run_in_directory(measure: Callable[[Path], bool]) -> int:
    """Give ``measure`` an empty directory; return 0, 1 when it says that there is no result, 2 when it cannot run."""
    with TemporaryDirectory(prefix="tradermind-bench-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        directory.chmod(0o755)  # The database runs as another user, who must reach its folder.
        try:
            kafka_libraries()  # Whoever lacks java or mvn hears so at once, not after what is made beforehand.
            return 0 if measure(directory) else 1
        except _CLEAR_FAILURES as error:
            sys.stderr.write(f"{error}\n")
            return CANNOT_RUN


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process. Raises FileNotFoundError when it has ended."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
