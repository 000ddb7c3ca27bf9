"""What a stage's own metrics are made of: outputs of a few types, the time of a few steps, and the state.

Observers look once a second at what was gathered meanwhile and at where the state stands, so that a worker which has
just taken up a checkpoint tells what is in it before anything new has come.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Final, Protocol

from agents.stage import ShardState, Stage, run_step
from schemas.event import Event

_TIMES_KEPT: Final = 10_000


class Observer(Protocol):
    """Makes metrics of one stage; shared by its shards in a worker.

    ``kept``: types of outputs that it wants to be shown; ``timed``: types of inputs whose steps are to be timed.
    """

    @property
    def kept(self) -> frozenset[type[Event]]: ...
    @property
    def timed(self) -> frozenset[type[Event]]: ...

    def see(self, outputs: Sequence[Event], took_s: Sequence[float]) -> None:
        """Take what was gathered of one shard since the last time."""

    def tell(self, states: Sequence[ShardState]) -> Mapping[str, str]:
        """Tell what stands in the shards that are held; return what they wait for before they are ready, by name."""


class Gathered:
    """What one shard gathers for its stage's observer."""

    def __init__(self, observer: Observer | None) -> None:
        self.kept: frozenset[type[Event]] = frozenset() if observer is None else observer.kept
        self.outputs: list[Event] = []
        self._timed: frozenset[type[Event]] = frozenset() if observer is None else observer.timed
        self._took_s: deque[float] = deque(maxlen=_TIMES_KEPT)

    def step(self, stage: Stage, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Do what ``run_step`` does, and time it where it is to be timed."""
        if type(event) not in self._timed:
            return run_step(stage, state, event)
        began_s = perf_counter()
        result = run_step(stage, state, event)
        self._took_s.append(perf_counter() - began_s)
        return result

    @property
    def run(self) -> Callable[[Stage, ShardState, Event], tuple[ShardState, Sequence[Event]]]:
        """What a shard calls for each event: nobody pays for a clock that nobody reads."""
        return self.step if self._timed else run_step

    def give(self) -> tuple[Sequence[Event], Sequence[float]]:
        """Return what was gathered, and begin anew."""
        outputs, self.outputs = self.outputs, []
        took_s = list(self._took_s)
        self._took_s.clear()
        return outputs, took_s
