"""What is done about a process that has ended: a rule over a clock, and one directory that has one platform."""

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE

from infra.servers.process import ChildProcess, ServerFailed
from infra.settings import SettingsError
from streams.demo.plan import REAL, WORKER_GROUPS
from streams.up.parts import Part, wait_s
from streams.up.plan import planned
from streams.up.presence import end, found, held, runs, tell

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"


@dataclass
class Child:
    """A process that ends when a test says so."""

    code: int | None = None

    def alive(self) -> bool:
        return self.code is None

    def exit_code(self) -> int | None:
        return self.code

    def last_lines(self, count: int = 2) -> str:
        return "its last words."


@dataclass
class Scene:
    """A part, its clock, what is said of it, and how its next starts go."""

    now: float = 0.0
    said: list[str] = field(default_factory=list)
    child: Child = field(default_factory=Child)
    fails: int = 0

    def again(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ServerFailed("There is no port left.")
        self.child = Child()

    def part(self, final_code: int | None = None) -> Part:
        child = cast(Callable[[], ChildProcess], lambda: self.child)
        return Part("The worker risk", child, self.again, self.said.append, final_code, clock=lambda: self.now)


def test_what_has_ended_is_started_again_after_a_while_and_it_says_so() -> None:
    scene = Scene()
    part = scene.part(final_code=2)
    part.notice()
    assert (part.state, part.is_due, scene.said) == ("up", False, [])
    scene.child.code = -9
    part.notice()
    assert part.state == "down" and not part.is_due
    assert scene.said == ["The worker risk ended with code -9: its last words. It is started again in 1 s."]
    scene.now = 0.9
    part.notice()
    assert not part.is_due
    scene.now = 1.0
    assert part.is_due
    part.start()
    assert (part.state, part.starts) == ("up", 2)
    assert scene.said[1:] == ["The worker risk was started again."]


def test_a_worker_that_refuses_is_left_down_and_named_and_any_other_part_is_not() -> None:
    scene = Scene(child=Child(2))
    part = scene.part(final_code=2)
    part.notice()
    scene.now = 1e6
    part.notice()
    assert (part.state, part.is_due) == ("left down", False)
    assert scene.said == ["The worker risk cannot run and is left down: its last words."]
    server = Scene(child=Child(2))
    other = server.part()
    other.notice()
    assert other.state == "down"


def test_waits_grow_while_it_goes_on_ending_and_begin_anew_once_it_has_stood() -> None:
    scene = Scene(fails=2)
    part = scene.part()
    scene.child.code = 1
    part.notice()
    waits = []
    for _ in range(3):
        while not part.is_due:
            scene.now += 0.5
        waits.append(scene.now)
        part.start()
    assert waits == [1.0, 3.0, 7.0] and part.state == "up"
    scene.now += 61
    part.notice()
    scene.child.code = 1
    part.notice()
    assert scene.said[-1].endswith("in 1 s.")


@given(st.integers(1, 10_000))
def test_no_wait_is_shorter_than_the_one_before_or_longer_than_half_a_minute(failures: int) -> None:
    assert 1.0 <= wait_s(failures) <= wait_s(failures + 1) <= 30.0


def hold(directory: str, held_now: Any, until: Any) -> None:
    """Be a platform of that directory for a while, in a process of its own."""
    with held(Path(directory)):
        tell(Path(directory), {"Kafka": "127.0.0.1:9092"}, ready=True)
        held_now.set()
        until.wait(30)


def test_a_directory_has_one_platform_and_the_kernel_lets_go_of_a_dead_ones(tmp_path: Path) -> None:
    assert not runs(tmp_path) and found(tmp_path) is None and not end(tmp_path, 1)
    context = multiprocessing.get_context("fork")
    held_now, until = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), held_now, until))
    process.start()
    assert held_now.wait(30)
    there = found(tmp_path)
    assert there is not None and there.pid == process.pid and there.addresses == {"Kafka": "127.0.0.1:9092"}
    with pytest.raises(ServerFailed, match=f"process {process.pid}.*tradermind down"), held(tmp_path):
        pass
    assert process.pid is not None
    os.kill(process.pid, 9)
    process.join()
    assert not runs(tmp_path)
    with held(tmp_path):
        assert found(tmp_path) is not None and not (tmp_path / "up.json").exists()


def test_who_is_asked_to_end_is_waited_for(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held_now, until = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), held_now, until))
    process.start()
    assert held_now.wait(30)
    assert end(tmp_path, 20 * PATIENCE)
    assert not runs(tmp_path)
    process.join()


def test_the_settings_decide_what_is_started_here(tmp_path: Path) -> None:
    plan = planned(SETTINGS, tmp_path, ("influx",))
    assert (plan.broker, plan.groups, plan.without) == (REAL, WORKER_GROUPS, {"influx"})
    assert plan.overrides() == {"run.directory": str(tmp_path)}
    other = tmp_path / "other.toml"
    other.write_text(SETTINGS.read_text().replace("[kafka]", '[kafka]\nbootstrap = "broker:9092"'))
    assert planned(other, None, ()).broker == "broker:9092"
    assert planned(other, None, ()).directory.parts[-2:] == (".tradermind", "up")


def test_what_up_cannot_keep_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="only influx and prometheus can be left out"):
        planned(SETTINGS, tmp_path, ("kafka",))
    text = SETTINGS.read_text().replace('kind = "simulated"', 'kind = "capture"\npaths = ["a.gz"]')
    capture = tmp_path / "capture.toml"
    capture.write_text(text.replace('clock = "wall"', 'clock = "capture"'))
    with pytest.raises(SettingsError, match="a capture comes to its end"):
        planned(capture, tmp_path, ())
