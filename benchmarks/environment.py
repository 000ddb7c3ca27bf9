"""Steps per second of the training environment on one core, and where they go: `python -m benchmarks.environment`.

Untouched passes give the figure, in wall and CPU time. One more pass has a clock around each part: decoding the tape's
step, what the decider is asked, encoding what it sees, each stage's step, the venue; what is left is the wiring.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.decider.policy import Policy
from agents.sim.desk import Desk, Session
from agents.sim.engine import Engine
from agents.sim.env import EnvironmentTerms, ImpactEnvironment, TradingEnvironment
from agents.sim.tape import Tape
from agents.stage import ShardState, Stage
from benchmarks.machine import describe
from infra.settings import load_settings
from schemas.event import Event
from streams.composition import Run, compose
from streams.offline.tapes import build_tape, impact_terms

AIM_PER_S: Final = 3_000
SECONDS: Final = 600.0
PASSES: Final = 3
EPISODE_STEPS: Final = 256


class Clock:
    """Nanoseconds by part. A part inside another is taken off the outer one."""

    def __init__(self) -> None:
        self.spent_ns: dict[str, int] = defaultdict(int)
        self._inside: list[int] = []

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call with a clock around it."""

        def run(*arguments: Any, **named: Any) -> Any:
            self._inside.append(0)
            began_ns = time.process_time_ns()
            result = call(*arguments, **named)
            spent_ns = time.process_time_ns() - began_ns
            self.spent_ns[part] += spent_ns - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent_ns
            return result

        return run


class TimedStage:
    """A stage with a clock around ``step``."""

    def __init__(self, stage: Stage, clock: Clock) -> None:
        self._stage = stage
        self.step: Callable[[ShardState, Event], tuple[ShardState, Sequence[Event]]]
        self.step = clock.timed(stage.name, stage.step)

    @property
    def name(self) -> str:
        """The stage's own name: ids hang on it."""
        return self._stage.name

    def state_type(self, key: str) -> type:
        """Return what the stage says."""
        return self._stage.state_type(key)


class TimedTape(Tape):
    """A tape whose desk and decoding go by the clock."""

    def __init__(self, tape: Tape, clock: Clock) -> None:
        super().__init__(timed_desk(tape.desk, clock), tape.kept)
        self.step = clock.timed("tape", super().step)  # type: ignore[method-assign]


def timed_desk(desk: Desk, clock: Clock) -> Desk:
    """Return the desk with a clock around each of its stages."""

    def decider(policy: Policy) -> Stage:
        return TimedStage(desk.decider(policy), clock)

    return replace(desk, decider=decider, stages=tuple(TimedStage(stage, clock) for stage in desk.stages))


class TimedSession(Session):
    """A session whose venue goes by the clock; what execution does of its reports is taken off by its own."""

    def __init__(self, desk: Desk, engine: Engine, clock: Clock) -> None:
        super().__init__(desk, engine)
        self.pass_time = clock.timed("venue", super().pass_time)  # type: ignore[method-assign]
        self.display = clock.timed("venue", super().display)  # type: ignore[method-assign]


class TimedEnvironment(TradingEnvironment):
    """The environment on a tape with a clock around each part."""

    def __init__(self, tape: Tape, terms: EnvironmentTerms, clock: Clock) -> None:
        self._clock = clock
        super().__init__([TimedTape(tape, clock)], terms, 1)
        self._shown = clock.timed("encoding", super()._shown)  # type: ignore[method-assign]

    def _session_on(self, desk: Desk, engine: Engine) -> Session:
        return TimedSession(desk, engine, self._clock)


def composed(seed: int) -> Run:
    """Return the simulated market of one instrument by the repository's settings."""
    values = {"run.seed": seed, "feed.instruments": ["SIM:BTCUSD"]}
    return compose(load_settings(Path("tradermind.toml"), values, environment={}))


def drive(environment: Any, steps: int, hold: int) -> tuple[float, float]:
    """Take so many steps, changing the action every ``hold``; return wall and CPU seconds."""
    draws = np.random.default_rng(1)
    environment.reset(seed=1)
    action = 2
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(steps):
        if step % hold == 0:
            action = int(draws.integers(5))
        *_, truncated, _ = environment.step(action)
        if truncated:
            environment.reset()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of the simulated tape")
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--impact-steps", type=int, default=100)
    arguments = parser.parse_args()
    print(describe())
    began = time.perf_counter()
    tape = build_tape(composed(7), arguments.seconds)
    took = time.perf_counter() - began
    size = sum(map(len, tape.kept)) / len(tape)
    print(f"tape of {len(tape)} steps made in {took:.1f} s ({len(tape) / took:,.0f} steps/s), {size:,.0f} bytes a step")
    terms = EnvironmentTerms(episode_steps=min(EPISODE_STEPS, len(tape) - 1))
    for hold, what in ((1, "a random action every step"), (10, "every tenth step"), (10**9, "never")):
        environment = TradingEnvironment([tape], terms, 1)
        drive(environment, 500, hold)
        best = min((drive(environment, arguments.steps, hold) for _ in range(PASSES)), key=lambda pair: pair[1])
        wall, cpu = (arguments.steps / spent for spent in best)
        print(f"{what:28} {cpu:7,.0f} steps/s of CPU time, {wall:7,.0f} of wall time (aim {AIM_PER_S:,})")
    split(tape, terms, arguments.steps)
    impact = ImpactEnvironment(impact_terms(composed(7)), terms, 1)
    spent, _ = drive(impact, arguments.impact_steps, 10)
    print(f"full exchange (size moves the price): {arguments.impact_steps / spent:,.0f} steps/s")


def split(tape: Tape, terms: EnvironmentTerms, steps: int) -> None:
    """Print microseconds a step by part, for a random action every tenth step."""
    clock = Clock()

    environment = TimedEnvironment(tape, terms, clock)
    drive(environment, 500, 10)
    clock.spent_ns.clear()
    _, spent = drive(environment, steps, 10)
    rows = {part: nanoseconds / steps / 1e3 for part, nanoseconds in clock.spent_ns.items()}
    rows["wiring, rewards, clocks"] = spent / steps * 1e6 - sum(rows.values())
    for part, microseconds in sorted(rows.items(), key=lambda row: -row[1]):
        print(f"  {part:26} {microseconds:7.1f} us a step")


if __name__ == "__main__":
    main()
