"""Messages per second of the whole platform in one process, on a real capture: `python -m benchmarks.pipeline`.

CPU time is given beside the wall's, since a shared machine stretches only the latter. Two kinds of pass: untouched ones
for the figure, and one with a clock around every part, to say where the time goes; the clock's own cost is measured
and taken off.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agents.pipeline import Pipeline
from agents.sim.loopback import Loopback
from agents.sim.venue import SimulatedVenue
from agents.stage import ShardState, Stage
from benchmarks.machine import describe
from infra.settings import load_settings
from schemas.event import Event, derive_id
from schemas.feed import FeedRecord
from schemas.orders import VenueReport
from streams.composition import Run, build_stage, compose
from streams.demo.plan import DemoPlan
from streams.offline.backtest import STAGES_IN_PROCESS, Backtest, backtest

CAPTURE: Final = Path(__file__).resolve().parents[1].parent / "shared/data/binance/usdm-btcusdt-20240808.gz"
PASSES: Final = 3
AIM_PER_S: Final = 25_000
_LAPS: Final = 200_000


class Meter:
    """Nanoseconds and calls of one part of the run."""

    __slots__ = ("calls", "spent_ns")

    def __init__(self) -> None:
        self.calls = 0
        self.spent_ns = 0

    def add(self, began_ns: int) -> None:
        """Count one call that began at ``began_ns`` by the performance counter."""
        self.spent_ns += time.perf_counter_ns() - began_ns
        self.calls += 1


class TimedStage:
    """A stage with a clock around ``step``."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.meter = Meter()

    @property
    def name(self) -> str:
        """The stage's own name: ids hang on it."""
        return self._stage.name

    def state_type(self, key: str) -> type:
        """Return what the stage says."""
        return self._stage.state_type(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Step the stage by the clock."""
        began_ns = time.perf_counter_ns()
        result = self._stage.step(state, event)
        self.meter.add(began_ns)
        return result


class TimedLoopback(Loopback):
    """The venue of a backtest with clocks around what is asked of it for every message."""

    def __init__(self, venue: SimulatedVenue) -> None:
        super().__init__(venue)
        self.market = Meter()
        self.time = Meter()

    def on_market(self, event: Event) -> None:
        """Show it a market event by the clock."""
        began_ns = time.perf_counter_ns()
        super().on_market(event)
        self.market.add(began_ns)

    def advance(self, now_ns: int) -> Sequence[VenueReport]:
        """Move its time on by the clock."""
        began_ns = time.perf_counter_ns()
        reports = super().advance(now_ns)
        self.time.add(began_ns)
        return reports


def compose_run(capture: Path, policy: str) -> Run:
    """Return the run that ``tradermind backtest`` would make of the capture."""
    plan = DemoPlan(directory=Path(".run"), feed=str(capture), policy=policy)
    return compose(load_settings(None, plan.overrides()))


def measure(run: Run) -> tuple[int, float, float]:
    """Run once, untouched; return messages, wall seconds and CPU seconds (user and system)."""
    wall, cpu = time.perf_counter(), time.process_time()
    report = backtest(run)
    return report.messages, time.perf_counter() - wall, time.process_time() - cpu


def clock_cost_ns() -> float:
    """Return what one use of a Meter costs."""
    meter = Meter()
    began_ns = time.process_time_ns()
    for _ in range(_LAPS):
        meter.add(time.perf_counter_ns())
    return (time.process_time_ns() - began_ns) / _LAPS


def id_cost_ns() -> float:
    """Return what one event id costs."""
    cause = derive_id("cause", "benchmark", 0)
    began_ns = time.process_time_ns()
    for ordinal in range(_LAPS):
        cause = derive_id(cause, "experts", ordinal & 3)
    return (time.process_time_ns() - began_ns) / _LAPS


class TimedBacktest(Backtest):
    """A backtest whose parts carry clocks. Its outputs are those of any other."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.stages = {name: TimedStage(build_stage(run, name)) for name in STAGES_IN_PROCESS}
        self._loopback = self.timed_venue = TimedLoopback(self.venue)
        self.reading = Meter()
        self.identities = 0
        self.pipeline = Pipeline(list(self.stages.values()), perform=self._loopback.perform, observe=self._count)

    def _count(self, event: Event) -> None:
        self.identities += 1
        self.report.observe(event)

    def timed_records(self) -> Iterator[FeedRecord]:
        """Yield the capture's records, each read and parsed by the clock."""
        records = self.records(0)
        while True:
            began_ns = time.perf_counter_ns()
            record = next(records, None)
            self.reading.add(began_ns)
            if record is None:
                return
            yield record

    def go(self) -> int:
        """Run to the end; return the nanoseconds of CPU that it took."""
        began_ns = time.process_time_ns()
        for record in self.timed_records():
            self.take(record)
        self.close()
        return time.process_time_ns() - began_ns


def account(run: Run) -> list[tuple[str, int, float]]:
    """Return (part, calls, microseconds of CPU per message), the clocks' own cost taken off.

    The clocks show the wall's time, which others on the machine stretch; all parts are scaled so that their sum with
    the rest is the CPU time of the pass.
    """
    timed = TimedBacktest(run)
    began_ns = time.perf_counter_ns()
    cpu_ns = timed.go()
    stretch = cpu_ns / (time.perf_counter_ns() - began_ns)
    messages, clock_ns = timed.report.messages, clock_cost_ns()
    meters = {"read and parse the capture": timed.reading}
    meters["venue: its own book"] = timed.timed_venue.market
    meters["venue: time and reports"] = timed.timed_venue.time
    meters |= {f"stage {name}": stage.meter for name, stage in timed.stages.items()}
    rows = [
        (name, meter.calls, max(0.0, meter.spent_ns * stretch - meter.calls * clock_ns / 2) / messages / 1e3)
        for name, meter in meters.items()
    ]
    made = timed.identities + messages
    rows.append(("event ids", made, made * id_cost_ns() / messages / 1e3))
    clocks_us = sum(meter.calls for meter in meters.values()) * clock_ns / messages / 1e3
    rest_us = cpu_ns / messages / 1e3 - clocks_us - sum(cost_us for _, _, cost_us in rows)
    rows.append(("routing, stamping, the rest", 0, rest_us))
    return rows


def main() -> None:
    """Print the figure and where the time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", nargs="?", type=Path, default=CAPTURE)
    parser.add_argument("--policy", default="probe", help="probe trades, so that every stage has work")
    parser.add_argument("--passes", type=int, default=PASSES)
    options = parser.parse_args()
    print(f"pipeline: all stages in process on {options.capture.name}, policy {options.policy}; {describe()}\n")
    passes = []
    for number in range(1, options.passes + 1):
        messages, wall_s, cpu_s = measure(compose_run(options.capture, options.policy))
        passes.append(messages / cpu_s)
        print(
            f"pass {number}: {messages:,} messages, {cpu_s:.2f} s of CPU ({messages / cpu_s:,.0f}/s),"
            f" {wall_s:.2f} s by the wall ({messages / wall_s:,.0f}/s)"
        )
    median = statistics.median(passes)
    print(f"median: {median:,.0f} messages per second of one core; aim {AIM_PER_S:,}: {verdict(median)}")
    print("\nwhere the time goes: CPU microseconds per message")
    rows = account(compose_run(options.capture, options.policy))
    whole_us = sum(cost_us for _, _, cost_us in rows)
    for name, calls, cost_us in rows:
        print(f"  {name:30} {calls or '':>8} {cost_us:6.2f} {100 * cost_us / whole_us:4.0f} %")
    print(f"  {'sum':30} {'':>8} {whole_us:6.2f}")


def verdict(per_second: float) -> str:
    """Return whether the aim is reached, in words."""
    return "reached" if per_second > AIM_PER_S else "NOT reached"


if __name__ == "__main__":
    main()
