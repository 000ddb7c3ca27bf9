"""Seeds of the simulation: nothing lost, nothing doubled, whatever goes wrong; and a seed is a run, to the byte."""

import asyncio
import os
import subprocess
import sys
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.simulation.faults import Odds
from streams.simulation.run import DEFAULT_EVENTS, campaign, simulate
from streams.simulation.strokes import STROKES
from streams.simulation.virtual_time import EPOCH_NS, Stuck, VirtualLoop, run_virtually

SEEDS = 200
FAULTS = {field.name for field in fields(Odds)} - {"stroke_every_s"} | STROKES.keys()


def test_a_few_seeds_keep_every_promise() -> None:
    total = campaign([1, 5, 35], events=120)
    assert not total.failed, "\n".join(f"{one.command}\n{one.violations[0]}" for one in total.failed)
    assert total.orders > 5


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "events"), [(5, 400), (35, 400), (84, 250), (196, 250), (6, 250)])
def test_a_seed_that_once_failed_does_so_no_more(seed: int, events: int) -> None:
    outcome = simulate(seed, events)
    assert not outcome.violations, f"{outcome.command}\n{outcome.violations[0]}"


@pytest.mark.slow
def test_two_hundred_seeds_keep_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    total = campaign(range(1, SEEDS + 1))
    assert not total.failed, "\n".join(f"{one.command}\n{one.violations[0]}" for one in total.failed)
    missing = {kind for kind in FAULTS if not total.injected[kind]}
    assert not missing, "a fault that never befalls proves nothing"
    assert total.orders > 5 * SEEDS
    assert total.fills > 4 * SEEDS
    faults = ", ".join(f"{name} {times}" for name, times in sorted(total.injected.items()))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{SEEDS} seeds of {DEFAULT_EVENTS} market events: {total.records} records, {total.orders} orders,"
            f" {total.fills} fills, none lost, none doubled. Faults: {faults}\n"
        )


def test_a_seed_is_the_same_run_to_the_byte() -> None:
    assert simulate(7, 80) == simulate(7, 80)
    assert simulate(7, 80).digest != simulate(8, 80).digest


@pytest.mark.slow
def test_a_seed_is_the_same_run_in_any_process_whatever_its_hashes() -> None:
    program = "from streams.simulation.run import simulate; print(simulate(7, 80).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    other = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == simulate(7, 80).digest


def test_the_command_line_reports_what_was_done() -> None:
    done = CliRunner().invoke(app, ["simulate", "--seed", "4", "--events", "60"])
    assert done.exit_code == 0
    assert done.stdout.startswith("1 seeds, 0 failed: ")
    assert "faults: " in done.stdout


def test_time_passes_only_while_everybody_waits_and_then_at_once() -> None:
    loop = VirtualLoop()

    async def scenario() -> list[str]:
        told: list[str] = []

        async def after(pause_s: float) -> None:
            await asyncio.sleep(pause_s)
            told.append(f"{loop.time():.1f}")

        await asyncio.gather(after(3600.0), after(1.5), after(0.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400):
                await asyncio.Event().wait()
        assert loop.now_ns() == EPOCH_NS + 90_000 * 10**9
        return told

    assert run_virtually(loop, scenario()) == ["0.0", "1.5", "3600.0"]


def test_a_run_in_which_nobody_can_ever_go_on_is_an_error_and_no_hang() -> None:
    with pytest.raises(Stuck):
        run_virtually(VirtualLoop(), asyncio.Event().wait())
