"""One seed, run and checked: what was done, what was found wrong, and a digest of all that came of it."""

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from streams.simulation.checkers import violations
from streams.simulation.plan import plan_of
from streams.simulation.violations import Violation
from streams.simulation.virtual_time import VirtualLoop, run_virtually
from streams.simulation.world import CrashPoint, Parts, World

DEFAULT_EVENTS: Final = 160
_VIOLATIONS_KEPT: Final = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed. ``digest`` is of every byte in the log, the database and the venue's record."""

    seed: int
    events: int
    virtual_s: float
    records: int
    orders: int
    fills: int
    injected: Counter[str]
    violations: tuple[Violation, ...]
    digest: str
    calls: int
    crash: CrashPoint | None = None
    crashed: str | None = None

    @property
    def command(self) -> str:
        """The command that runs this seed again."""
        seed = f"tradermind simulate --seed {self.seed} --events {self.events}"
        if self.crash is None:
            return seed
        return f"{seed} --crash-points --point {self.crash.at}{' --everybody' if self.crash.everybody else ''}"


def simulate(
    seed: int, events: int = DEFAULT_EVENTS, parts: Parts | None = None, crash: CrashPoint | None = None
) -> Outcome:
    """Run one seed to rest and check it. Two calls with the same arguments return the same outcome.

    With a ``crash`` that is all that goes wrong; ``crashed`` then names whose call it was, None when the run ended
    before it.
    """
    loop = VirtualLoop()
    plan = plan_of(seed, events)
    if crash is not None:
        plan = replace(plan, venue_faults=())
    world = World(loop, plan, parts or Parts(), crash)
    # Short-lived and full of cycles: collecting while it runs costs a quarter of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        run_virtually(loop, world.run())
        found = tuple(islice(violations(world), _VIOLATIONS_KEPT))
    finally:
        if was_enabled:
            gc.enable()
    injected = world.dice.injected.copy()
    injected["ended_by_a_fault"] = len(world.happened.expected_ends)
    return Outcome(
        seed=seed,
        events=events,
        virtual_s=loop.time(),
        records=sum(map(len, world.log.lanes.values())),
        orders=len(world.venue.core.state.orders),
        fills=world.venue.core.state.fill_number,
        injected=injected,
        violations=found,
        digest=_digest(world),
        calls=world.happened.calls,
        crash=crash,
        crashed=world.happened.crashed,
    )


def _digest(world: World) -> str:
    digest = hashlib.sha256()
    for lane, records in sorted(world.log.lanes.items()):
        for record in records:
            digest.update(repr((lane, record.offset, record.key, record.value, record.headers)).encode())
    for name, rows in sorted(world.database.shards.items()):
        state = sorted(rows.state.items())
        digest.update(repr((name, rows.epoch, rows.batch, rows.progress, state, rows.journal)).encode())
    digest.update(repr((world.venue.core.state.accounts, world.loop.time())).encode())
    return digest.hexdigest()


@dataclass(slots=True)
class Campaign:
    """What many seeds add up to."""

    seeds: int = 0
    records: int = 0
    orders: int = 0
    fills: int = 0
    virtual_s: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add one seed."""
        self.seeds += 1
        self.records += outcome.records
        self.orders += outcome.orders
        self.fills += outcome.fills
        self.virtual_s += outcome.virtual_s
        self.injected += outcome.injected
        if outcome.violations:
            self.failed.append(outcome)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for programs."""
        return {
            "seeds": self.seeds,
            "failed": len(self.failed),
            "records": self.records,
            "orders": self.orders,
            "fills": self.fills,
            "virtual_s": round(self.virtual_s, 1),
            "faults": dict(sorted(self.injected.items())),
            "failures": [
                {"seed": one.seed, "command": one.command, "violations": [str(found) for found in one.violations]}
                for one in self.failed
            ],
        }


def campaign(
    seeds: Iterable[int],
    events: int = DEFAULT_EVENTS,
    parts: Parts | None = None,
    observe: Callable[[Outcome], None] | None = None,
) -> Campaign:
    """Run many seeds; ``observe`` is told each outcome as it comes."""
    total = Campaign()
    for seed in seeds:
        outcome = simulate(seed, events, parts)
        total.add(outcome)
        if observe is not None:
            observe(outcome)
    return total
