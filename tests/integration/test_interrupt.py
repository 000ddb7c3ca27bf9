"""Ctrl-C ends the demo at any moment, with exit code 0, and no process or port of it is left.

Ten seconds are promised where the demo has a machine for itself. How long it took is told and not asserted: here others
work beside it.
"""

import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo_process import START_LIMIT_S, DemoProcess, descendants_of

pytestmark = pytest.mark.embedded
MARK = "TRADERMIND_TEST_MARK"

MOMENTS: dict[str, Callable[[DemoProcess], bool]] = {
    "while it imports": lambda demo: demo.age_s > 0.3,
    "as soon as its directory is there": lambda demo: demo.run.is_dir(),
    "while its first server starts": lambda demo: bool(descendants_of(demo.process.pid)),
    "while its database starts": lambda demo: (demo.run / "broker.json").is_file(),
    "while its exchange starts": lambda demo: (demo.run / "exchange.json").is_file(),
    "while its workers start": lambda demo: (demo.run / "logs" / "ingestion.log").is_file(),
}


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """A variable that every process of the demo inherits, by which each is found, whoever its parent is."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(MARK, value)
    return value


def _marked(mark: str, but: int) -> set[int]:
    """Return the processes that carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != but:
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def _listening() -> dict[int, int]:
    """Return inode -> port of every TCP socket that listens."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found[int(fields[9])] = int(fields[1].rpartition(":")[2], 16)
    return found


def _sockets(pid: int) -> set[int]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found


def _ends_cleanly(demo: DemoProcess, mark: str) -> None:
    pid = demo.process.pid
    listening = _listening()
    inodes = {inode for each in _marked(mark, 0) for inode in _sockets(each)} & listening.keys()
    began = time.monotonic()
    code = demo.interrupt()
    sys.stdout.write(f"it ended after {time.monotonic() - began:.1f} s\n")
    assert code == 0, demo.told()
    assert "Traceback" not in demo.told()
    assert not _marked(mark, pid)
    assert not inodes & _listening().keys(), "a port is still open"


@pytest.fixture
def demo(tmp_path: Path, mark: str) -> Iterator[DemoProcess]:
    """A demo that has just been started."""
    started = DemoProcess(tmp_path)
    yield started
    started.kill()


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_while_it_starts(demo: DemoProcess, mark: str, moment: str) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while not MOMENTS[moment](demo):
        assert demo.process.poll() is None, demo.told()
        assert time.monotonic() < limit, demo.told()
        time.sleep(0.005)
    _ends_cleanly(demo, mark)


def test_ctrl_c_while_it_runs(demo: DemoProcess, mark: str) -> None:
    demo.wait_until_ready()
    demo.until(lambda: demo.rows("SELECT 1 FROM tallies LIMIT 1"))
    _ends_cleanly(demo, mark)
    assert (demo.folder / "summary.json").is_file(), "it sums up what it did"
