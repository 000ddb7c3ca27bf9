"""The stages wired in one process, by event type: what a backtest, a training run and a simulation test call.

Pure like the stages: no clock and no I/O. One event is followed to quiescence before the next is taken, so the
order of everything is a function of the input alone.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from agents.stage import ShardState, Stage, run_step
from schemas.event import Event, Heartbeat
from schemas.routing import PERFORMED, topic_of
from schemas.topics import ROUTES, TOPICS, Topic

Perform = Callable[[Event], Iterable[Event]]
Observe = Callable[[Event], None]
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
        self._readers = {record: self._consumers(topic) for record, topic in ROUTES.items()}
        self._clock_readers = {key: self._consumers(TOPICS[f"tradermind.{key}.v1"]) for key in _HEARTBEAT_KEYS}
        self._queue: deque[tuple[Stage, ShardState, Event]] = deque()

    def _consumers(self, topic: Topic) -> tuple[tuple[Stage, ShardState], ...]:
        return tuple(self._stages[name] for name in topic.consumers if name in self._stages)

    def state(self, stage: str) -> ShardState:
        """Return the state of a stage, for whoever reports on the run."""
        return self._stages[stage][1]

    def feed(self, stage: str, event: Event) -> None:
        """Give one event with an identity to one stage, as a feed or a venue does, and follow all that comes of it."""
        owner, state = self._stages[stage]
        self._run(owner, state, event)
        queue = self._queue
        while queue:
            self._run(*queue.popleft())

    def publish(self, event: Event) -> None:
        """Put one event with an identity on its topic, as another system or a person does, and follow it."""
        self._route(event)
        queue = self._queue
        while queue:
            self._run(*queue.popleft())

    def _run(self, stage: Stage, state: ShardState, event: Event) -> None:
        _, outputs = run_step(stage, state, event)
        for output in outputs:
            if type(output) in PERFORMED:
                for report in self._perform(output):
                    self._queue.append((stage, state, report))
            else:
                self._route(output)

    def _route(self, event: Event) -> None:
        if self._observe is not None:
            self._observe(event)
        if type(event) is Heartbeat:
            topic = topic_of(event)
            assert topic is not None
            readers = self._clock_readers[topic.name.removeprefix("tradermind.").removesuffix(".v1")]
        else:
            readers = self._readers[type(event)]
        for stage, state in readers:
            self._queue.append((stage, state, event))
