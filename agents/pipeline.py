"""The stages wired in one process, by event type: what a backtest, a training run and a simulation test call.

Pure like the stages: no clock and no I/O. One event is followed to quiescence before the next is taken, so the
order of everything is a function of the input alone.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from agents.stage import ShardState, Stage, run_step
from schemas.decisions import Decision
from schemas.event import Event, Heartbeat
from schemas.routing import PERFORMED, is_shadow
from schemas.topics import ROUTES, TOPICS, Topic

Perform = Callable[[Event], Iterable[Event]]
Observe = Callable[[Event], None]
_Reader = tuple[Stage, ShardState]
_HEARTBEAT_KEYS: Final = ("market.event", "feature.snapshot", "expert.vote")


class Pipeline:
    """Stages that meet through events only, exactly as they meet through topics.

    ``perform`` carries out a request to the venue and returns the reports that follow at once (usually none);
    ``observe`` sees every event that would have gone to a topic, in order.
    """

    def __init__(self, stages: Sequence[Stage], *, perform: Perform, observe: Observe | None = None) -> None:
        self._stages = {stage.name: (stage, ShardState()) for stage in stages}
        self._perform = perform
        self._observe = observe
        self._readers: dict[type[msgspec.Struct], tuple[_Reader, ...]] = {
            record: self._consumers(topic) for record, topic in ROUTES.items()
        }
        self._on_clock = {key: self._consumers(TOPICS[f"tradermind.{key}.v1"]) for key in _HEARTBEAT_KEYS}
        self._on_market = self._on_clock["market.event"]
        self._queue: deque[tuple[_Reader, Event]] = deque()

    def _consumers(self, topic: Topic) -> tuple[_Reader, ...]:
        return tuple(self._stages[name] for name in topic.consumers if name in self._stages)

    def state(self, stage: str) -> ShardState:
        """Return the state of a stage, for whoever reports on the run."""
        return self._stages[stage][1]

    def feed(self, stage: str, event: Event) -> None:
        """Give one event with an identity to one stage, as a feed or a venue does, and follow all that comes of it."""
        self._run(self._stages[stage], event)
        self._come_to_rest()

    def publish(self, event: Event) -> None:
        """Put one event with an identity on its topic, as another system or a person does, and follow it."""
        self._route(event)
        self._come_to_rest()

    def _come_to_rest(self) -> None:
        queue = self._queue
        while queue:
            self._run(*queue.popleft())

    def _run(self, reader: _Reader, event: Event) -> None:
        stage, state = reader
        _, outputs = run_step(stage, state, event)
        for output in outputs:
            if type(output) in PERFORMED:
                for report in self._perform(output):
                    self._queue.append((reader, report))
            else:
                self._route(output)

    def _route(self, event: Event) -> None:
        if self._observe is not None:
            self._observe(event)
        kind = type(event)
        if kind is Decision and is_shadow(event):
            return
        readers = self._readers[kind] if kind is not Heartbeat else self._on_clock.get(event.key, self._on_market)
        for reader in readers:
            self._queue.append((reader, event))
