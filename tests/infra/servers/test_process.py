"""Children start, are waited for, and end: by order, by force, and with their parent."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from process_table import gone_within, runs

from infra.servers import Launch, ServerFailed, free_port, port_is_open, run_to_end, start_process, wait_until_ready

ROOT = Path(__file__).resolve().parents[3]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_command_that_is_not_there_or_dies_is_a_sentence(tmp_path: Path) -> None:
    gone = start_process(Launch("The thing", ["/nonexistent/command"], tmp_path / "gone.log"))
    with pytest.raises(ServerFailed, match=r"The thing ended with code 1: /nonexistent/command: No such file"):
        wait_until_ready(gone, lambda: False, 30)
    why = [sys.executable, "-c", "print('why'); raise SystemExit(3)"]
    child = start_process(Launch("The thing", why, tmp_path / "log"))
    with pytest.raises(ServerFailed, match=r"ended with code 3: why .log: "):
        wait_until_ready(child, lambda: False, 30)
    with pytest.raises(ServerFailed, match=r"The thing failed with code 3: why"):
        run_to_end(Launch("The thing", why, tmp_path / "log"), 30)


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerFailed, match="The thing could not be started: "):
        start_process(Launch("The thing", SLEEP, tmp_path / "file" / "log"))


def test_a_child_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    child = start_process(Launch("The thing", SLEEP, tmp_path / "log"))
    with pytest.raises(ServerFailed, match=r"was not ready after 0\.2 s: it wrote nothing"):
        wait_until_ready(child, lambda: False, 0.2)
    assert not runs(child.pid)
    with pytest.raises(ServerFailed, match=r"was not done after 0\.2 s"):
        run_to_end(Launch("The thing", SLEEP, tmp_path / "log"), 0.2)


def test_a_child_gets_its_environment_and_log_and_tells_its_exit_code(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['GIVEN'], file=sys.stderr); raise SystemExit(7)"
    child = start_process(Launch("it", [sys.executable, "-c", program], tmp_path / "log", {"GIVEN": "here"}))
    child.popen.wait(30)
    assert (child.exit_code(), child.last_lines(), child.alive()) == (7, "here", False)
    assert child.terminate() == 7, "ending what has ended tells the same code"


def test_terminate_is_gentle_first_and_then_is_not(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = (
        "import signal, sys, time, pathlib; signal.signal(signal.SIGTERM, {}); pathlib.Path({!r}).touch();"
        " time.sleep(60)"
    )
    gentle = program.format("lambda *_: sys.exit(5)", str(started))
    child = start_process(Launch("gentle", [sys.executable, "-c", gentle], tmp_path / "log"))
    wait_until_ready(child, started.exists, 30)
    assert child.terminate(30) == 5
    started.unlink()
    deaf = program.format("signal.SIG_IGN", str(started))
    child = start_process(Launch("deaf", [sys.executable, "-c", deaf], tmp_path / "log"))
    wait_until_ready(child, started.exists, 30)
    assert child.terminate(0.2) == -signal.SIGKILL


def test_a_kill_takes_the_descendants_along_even_out_of_other_sessions(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    program = (
        "import subprocess, sys, time, pathlib\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        f"pathlib.Path({str(told)!r} + '.new').write_text(str(inner.pid))\n"
        f"pathlib.Path({str(told)!r} + '.new').rename({str(told)!r})\n"
        "time.sleep(60)"
    )
    child = start_process(Launch("outer", [sys.executable, "-c", program], tmp_path / "log"))
    wait_until_ready(child, told.exists, 30)
    inner = int(told.read_text())
    assert runs(inner)
    child.kill()
    assert not runs(inner)
    assert not runs(child.pid)


def test_a_child_outlives_the_thread_that_asked_for_it_but_not_the_process(tmp_path: Path) -> None:
    children: list[int] = []

    def ask() -> None:
        children.append(start_process(Launch("it", SLEEP, tmp_path / "log")).pid)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert not gone_within(children[0], 0.5)
    os.kill(children[0], signal.SIGKILL)
    script = (
        "import sys, pathlib; from infra.servers import Launch, start_process;"
        f"print(start_process(Launch('it', {SLEEP!r}, pathlib.Path(sys.argv[1]))).pid)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "log"], capture_output=True, cwd=ROOT, check=True)
    assert gone_within(int(done.stdout), 10), "nobody stopped it, and its parent has ended"


def test_ctrl_c_at_the_terminal_does_not_reach_a_child(tmp_path: Path) -> None:
    child = start_process(Launch("it", SLEEP, tmp_path / "log"))
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    assert child.kill() == -signal.SIGKILL


def test_a_free_port_can_be_listened_on_and_is_no_clients_port() -> None:
    port = free_port()
    assert not port_is_open(port)
    lowest_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert port < lowest_of_clients
