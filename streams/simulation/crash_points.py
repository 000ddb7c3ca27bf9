"""A short run in which nothing goes wrong but one thing, again and again: at its n-th call to the world a process dies.

Every call of every process to log, database, venue and feed, and every answer that one takes, has a number; between
two of them nothing that a process does is seen outside. So a run for each number, once with the death of whoever makes
the call and once with that of everybody, is a run for each place where a crash can make a difference.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from streams.simulation.parts import Parts
from streams.simulation.run import Outcome, simulate
from streams.simulation.world import CrashPoint

SHORT_SEED: Final = 10
SHORT_EVENTS: Final = 40
"""Market events of a short run: enough for the first orders and fills, a command and votes from outside."""

Observe = Callable[[Outcome], None]


@dataclass(slots=True)
class CrashCampaign:
    """What the runs add up to. ``points`` is how many calls an undisturbed run makes."""

    points: int
    orders: int
    runs: int = 0
    killed: int = 0
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add one run."""
        self.runs += 1
        self.killed += outcome.crashed is not None
        if outcome.violations:
            self.failed.append(outcome)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        return {
            "points": self.points,
            "orders": self.orders,
            "runs": self.runs,
            "killed": self.killed,
            "failed": len(self.failed),
            "failures": [
                {"command": one.command, "violations": [str(found) for found in one.violations]} for one in self.failed
            ],
        }


def undisturbed(seed: int, events: int = SHORT_EVENTS, parts: Parts | None = None) -> Outcome:
    """Run without a crash, to count the calls."""
    return simulate(seed, events, parts, CrashPoint(0))


def crash_points(calls: int, most: int | None = None) -> Iterator[CrashPoint]:
    """Yield every point of a run of so many calls, or ``most`` of them, evenly; the last is one that never comes.

    A run with a crash is the undisturbed one up to there, so that each point up to ``calls`` is met.
    """
    numbers = range(1, calls + 2)
    step = 1 if most is None else max(1, len(numbers) // most)
    for index, number in enumerate(numbers[::step]):
        for everybody in (False, True) if step == 1 else (index % 2 == 1,):
            yield CrashPoint(number, everybody)
    if step > 1:
        yield CrashPoint(calls + 1)


def run_crash_points(
    seed: int,
    events: int = SHORT_EVENTS,
    *,
    most: int | None = None,
    parts: Parts | None = None,
    observe: Observe | None = None,
) -> CrashCampaign:
    """Run every point, or ``most`` of them; ``observe`` is told each outcome as it comes."""
    first = undisturbed(seed, events, parts)
    total = CrashCampaign(first.calls, first.orders)
    for point in crash_points(first.calls, most):
        outcome = simulate(seed, events, parts, point)
        total.add(outcome)
        if observe is not None:
            observe(outcome)
    return total
