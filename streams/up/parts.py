"""Which parts are to run, and when one that has ended is started again: the rule alone, without a process in sight.

A worker that says by its exit code 2 that its settings or its surroundings are not right would say so again: it is left
down, and named. Whatever else has ended is started again, after a wait that doubles.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from infra.servers.process import ChildProcess, ServerFailed

REFUSED: Final = 2
"""The exit code of a worker that cannot start with what it was given."""
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_STEADY_S: Final = 60.0


def wait_s(failures: int) -> float:
    """Return how long to wait before the start that follows so many failures in a row, in seconds."""
    return float(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(failures - 1, 10)))


@dataclass(slots=True)
class Part:
    """One process. ``child`` returns it, ``again`` starts it anew (it may take long, and raise ServerFailed).

    ``final_code`` is the exit code after which it is left down. ``say`` tells people what happens to it.
    """

    name: str
    child: Callable[[], ChildProcess]
    again: Callable[[], object]
    say: Callable[[str], None]
    final_code: int | None = None
    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    starts: int = 1
    refusal: str | None = None
    _due_s: float | None = None
    _since_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._since_s = self.clock()

    @property
    def state(self) -> str:
        """What people read of it: ``up``, ``down``, or ``left down``."""
        if self.refusal is not None:
            return "left down"
        return "up" if self._due_s is None and self.child().alive() else "down"

    def notice(self) -> None:
        """Look whether it runs; of one that has ended, say so and decide when it is started again."""
        if self.refusal is not None or self._due_s is not None:
            return
        if self.child().alive():
            if self.clock() - self._since_s > _STEADY_S:
                self.failures = 0
            return
        code, last = self.child().exit_code(), self.child().last_lines(1)
        if code == self.final_code:
            self.refusal = last
            self.say(f"{self.name} cannot run and is left down: {last}")
            return
        self._fail(f"{self.name} ended with code {code}: {last}")

    @property
    def is_due(self) -> bool:
        """Whether it has ended and has waited long enough."""
        return self._due_s is not None and self.clock() >= self._due_s

    def start(self) -> None:
        """Start it again; where that fails it waits for longer."""
        try:
            self.again()
        except ServerFailed as error:
            self._fail(str(error))
            return
        self.starts += 1
        self._due_s, self._since_s = None, self.clock()
        self.say(f"{self.name} was started again.")

    def _fail(self, why: str) -> None:
        self.failures += 1
        pause_s = wait_s(self.failures)
        self._due_s = self.clock() + pause_s
        self.say(f"{why.rstrip('.')}. It is started again in {pause_s:g} s.")
