"""Seeds of the simulation: nothing lost, nothing doubled, whatever goes wrong; and a seed is a run, to the byte."""

import asyncio
import os
import subprocess
import sys
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.simulation.crash_points import SHORT_SEED, crash_points, run_crash_points, undisturbed
from streams.simulation.faults import Odds
from streams.simulation.run import DEFAULT_EVENTS, campaign, simulate
from streams.simulation.strokes import STROKES
from streams.simulation.virtual_time import EPOCH_NS, Stuck, VirtualLoop, run_virtually
from streams.simulation.world import CrashPoint

SEEDS = 200
FAULTS = {field.name for field in fields(Odds)} - {"stroke_every_s"} | STROKES.keys()
PEOPLE = {"ordered_kill", "ordered_latch", "ordered_cancel", "ordered_flatten", "command_given_again"}
STRANGERS = {"stranger_wrote", "stranger_again", "stranger_refused", "stranger_garbage"}
CRASH_POINTS = 40


def test_a_few_seeds_keep_every_promise() -> None:
    total = campaign([1, 5, 35], events=120)
    assert not total.failed, "\n".join(f"{one.command}\n{one.violations[0]}" for one in total.failed)
    assert total.orders > 5


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "events"), [(5, 400), (35, 400), (84, 250), (196, 250), (6, 250)])
def test_a_seed_that_once_failed_does_so_no_more(seed: int, events: int) -> None:
    outcome = simulate(seed, events)
    assert not outcome.violations, f"{outcome.command}\n{outcome.violations[0]}"


@pytest.mark.slow(seconds=45)
def test_two_hundred_seeds_keep_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    total = campaign(range(1, SEEDS + 1))
    assert not total.failed, "\n".join(f"{one.command}\n{one.violations[0]}" for one in total.failed)
    missing = {kind for kind in FAULTS | PEOPLE | STRANGERS if not total.injected[kind]}
    assert not missing, "a fault that never befalls proves nothing"
    assert total.orders > 3 * SEEDS
    assert total.fills > 3 * SEEDS
    faults = ", ".join(f"{name} {times}" for name, times in sorted(total.injected.items()))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{SEEDS} seeds of {DEFAULT_EVENTS} market events: {total.records} records, {total.orders} orders,"
            f" {total.fills} fills, none lost, none doubled. Faults: {faults}\n"
        )


@pytest.mark.slow
def test_a_crash_at_any_call_to_the_world_loses_and_doubles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    first = undisturbed(SHORT_SEED)
    assert first.orders > 3
    assert first.fills > 3
    assert PEOPLE & first.injected.keys()
    assert first.injected["stranger_wrote"] > 3
    total = run_crash_points(SHORT_SEED, most=CRASH_POINTS)
    assert not total.failed, "\n".join(f"{one.command}\n{one.violations[0]}" for one in total.failed)
    assert total.killed == total.runs - 1, "the last point lies behind the end of the run, and no other"
    with capsys.disabled():
        sys.stdout.write(
            f"\n{total.runs} of {2 * total.points} crash points of a run with {total.orders} orders: none lost, none"
            " doubled. All of them: tradermind simulate --crash-points\n"
        )


def test_every_crash_point_is_met_once_with_its_caller_and_once_with_everybody() -> None:
    every = list(crash_points(7))
    assert [(point.at, point.everybody) for point in every] == [
        (number, everybody) for number in range(1, 9) for everybody in (False, True)
    ]
    sampled = list(crash_points(1000, 50))
    assert 50 <= len(sampled) <= 55
    assert {point.everybody for point in sampled} == {False, True}
    assert sampled[-1].at == 1001


def test_a_crash_point_kills_whoever_makes_that_call_and_is_the_same_run_again() -> None:
    calls = undisturbed(1, 12).calls
    point = CrashPoint(calls // 2)
    assert simulate(1, 12, crash=point) == simulate(1, 12, crash=point)
    crashed = simulate(1, 12, crash=point)
    assert crashed.crashed is not None
    assert crashed.command == f"tradermind simulate --seed 1 --events 12 --crash-points --point {point.at}"


@pytest.mark.slow
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


def test_the_command_line_runs_one_crash_point_again() -> None:
    options = ["simulate", "--seed", "1", "--events", "12", "--crash-points", "--point", "40", "--everybody"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert " points, 1 runs, 0 of them with a violation" in done.stdout


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
