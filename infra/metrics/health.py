"""Whether a worker is alive and ready: facts that its event loop writes, and what a thread beside it makes of them.

Alive means that a restart would not help: the loop turns and no partition is stuck. A broker or a database that is away
is no reason to die, since everything would then restart at once and still not reach it. Ready means that the work is
being done: what the group has dealt is held, both servers answer, and nothing that a stage needs first is missing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

LOOP_STILL_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a probe: ``reasons`` is empty when it says yes; ``facts`` are for people."""

    reasons: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the answer is yes."""
        return not self.reasons


@dataclass(slots=True)
class Health:
    """What a worker knows of itself. Its loop writes each field whole; any thread may read.

    ``beaten_at_s`` is when the loop last turned, on the clock of ``now_s``. ``database_up`` and ``broker_up`` are None
    until they were first asked. ``dealt``: whether the group has given this worker its partitions, be it none.
    ``shards_due`` and ``shards_held`` count shards; ``missing`` says what else a stage waits for, by its name.
    """

    now_s: Callable[[], float] = time.monotonic
    loop_still_s: float = LOOP_STILL_S
    beaten_at_s: float = 0.0
    loop_lag_s: float = 0.0
    stuck: str | None = None
    database_up: bool | None = None
    broker_up: bool | None = None
    dealt: bool = False
    shards_due: int = 0
    shards_held: int = 0
    recovered: bool = False
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.beaten_at_s = self.now_s()

    def beat(self, lag_s: float) -> None:
        """Take note that the loop turns, its timer this late."""
        self.beaten_at_s, self.loop_lag_s = self.now_s(), lag_s

    @property
    def loop_late_s(self) -> float:
        """How long ago the loop should have turned, in seconds."""
        return max(self.loop_lag_s, self.now_s() - self.beaten_at_s)

    def alive(self) -> Verdict:
        """Answer ``/livez``."""
        still_s = self.now_s() - self.beaten_at_s
        reasons = []
        if still_s >= self.loop_still_s:
            reasons.append(f"the event loop has not turned for {still_s:.1f} s")
        if self.stuck is not None:
            reasons.append(self.stuck)
        return Verdict(tuple(reasons), {"loop_still_s": round(still_s, 3)})

    def started(self) -> Verdict:
        """Answer ``/startupz``: once yes, always yes."""
        return Verdict(() if self.recovered else ("not all shards have been recovered yet",), {})

    def ready(self) -> Verdict:
        """Answer ``/readyz``."""
        reasons = list(self.alive().reasons)
        if not self.dealt:
            reasons.append("the group has not dealt this worker its partitions")
        elif self.shards_held < self.shards_due:
            reasons.append(f"{self.shards_held} of {self.shards_due} shards are held")
        for name, up in (("the database", self.database_up), ("the broker", self.broker_up)):
            if not up:
                reasons.append(f"{name} {'was not asked yet' if up is None else 'does not answer'}")
        reasons += self.missing.values()
        facts = {
            "shards_due": self.shards_due,
            "shards_held": self.shards_held,
            "standby": self.dealt and self.shards_due == 0,
            "database": self.database_up,
            "broker": self.broker_up,
        }
        return Verdict(tuple(reasons), facts)
