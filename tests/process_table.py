"""Which processes run, for the tests that kill some: a zombie, which only waits to be reaped, does not."""

import time
from pathlib import Path


def runs(pid: int) -> bool:
    """Tell whether the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone_within(pid: int, deadline_s: float) -> bool:
    """Wait for the process to end; tell whether it did."""
    end = time.monotonic() + deadline_s
    while runs(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
