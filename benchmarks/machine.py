"""What the figures were taken on, since a figure without its machine says nothing."""

import os
import platform
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_AFTER_NAME = ") "
_USER_FIELD = 11


def describe() -> str:
    """Return processor, cores, load and Python in one line."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor() or "unknown processor",
    )
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"


def cpu_seconds(process: int) -> float:
    """Return user and system seconds that a process has used so far. Raises FileNotFoundError when it has ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(_AFTER_NAME)[2].split()
    return (int(fields[_USER_FIELD]) + int(fields[_USER_FIELD + 1])) / _TICKS_PER_S
