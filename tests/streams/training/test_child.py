"""A training as a process: what it tells is heard, and whatever it does it ends in time."""

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest
from patience import PATIENCE

from schemas.training import TrainingFailure
from streams.training.child import train_in_child
from streams.training.job import TrainingOutcome

ROOT = Path(__file__).resolve().parents[3]
TOYS = "tests.training_toys"


@pytest.fixture(autouse=True)
def _where_modules_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))


def trained(folder: Path, limit_s: float = 60.0) -> TrainingOutcome:
    folder.mkdir()
    return asyncio.run(train_in_child(folder, limit_s, TOYS))


def runs(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_what_a_training_says_is_heard(tmp_path: Path) -> None:
    outcome = trained(tmp_path / "done")
    assert outcome == TrainingOutcome(model="m", sha256="s", transitions=3, metrics={"loss": 1.5})


def test_a_training_that_takes_too_long_is_ended_though_it_will_not_hear_of_it(tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = trained(tmp_path / "stubborn", limit_s=1.0)
    assert outcome.failure is TrainingFailure.TIMED_OUT
    assert "after 1 s" in outcome.detail
    assert time.monotonic() - began < 10 * PATIENCE
    assert not runs(int((tmp_path / "stubborn" / "pid").read_text()))


def test_a_training_that_breaks_tells_its_last_words(tmp_path: Path) -> None:
    outcome = trained(tmp_path / "broken")
    assert outcome.failure is TrainingFailure.BROKEN
    assert "code 3" in outcome.detail
    assert "something went wrong" in outcome.detail


def test_an_outcome_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert trained(tmp_path / "garbled").failure is TrainingFailure.BROKEN


def test_whoever_no_longer_waits_leaves_no_process_behind_and_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "stubborn"
    folder.mkdir()
    turns = 0

    async def scenario() -> None:
        nonlocal turns
        training = asyncio.ensure_future(train_in_child(folder, 60.0, TOYS))
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            turns += 1
            await asyncio.sleep(0.01)
        training.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await training

    asyncio.run(scenario())
    assert turns > 5
    assert not runs(int((folder / "pid").read_text()))
