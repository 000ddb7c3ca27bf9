"""The one abstraction: ``step(state, event) -> (state, events)``.

Time, randomness, ids and outside answers enter only as events or as functions of them. The same stage runs in a
worker, in replay, in a backtest and in the training environment; only who calls ``step`` differs (DESIGN 2).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from schemas.event import Event, Heartbeat, derive_id, stamp_identity, stamp_identity_as

NO_EVENTS: tuple[Event, ...] = ()


class ShardState(dict[str, Any]):
    """The state of one stage on one partition: key -> a msgspec Struct.

    Assigning marks the key as touched, and only touched keys are written at the next checkpoint. A stage that
    changes a large value in place assigns it again: ``state[key] = book``.
    """

    __slots__ = ("touched",)

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[str] = set()

    def __setitem__(self, key: str, value: Any) -> None:
        self.touched.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.touched.add(key)
        super().__delitem__(key)

    def touch(self, keys: Iterable[str]) -> None:
        """Mark keys whose values were changed in place: what assigning each of them again does, in one call."""
        self.touched.update(keys)

    def restore(self, key: str, value: Any) -> None:
        """Put back a value read from a checkpoint, without marking it as touched."""
        super().__setitem__(key, value)


class Stage(Protocol):
    """A pure part of the platform. One instance serves one shard; it holds settings, never state."""

    @property
    def name(self) -> str:
        """The stage's name: it is part of ids, sources, consumer groups and table rows."""

    def state_type(self, key: str) -> type:
        """Return the Struct type that is kept under ``key``, so that a checkpoint can be read back."""

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take one event; return the state after it and what follows from it, in order, without identities."""


def run_step(stage: Stage, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
    """Call ``step`` and give each output its identity. Every caller of a stage goes through here.

    A Heartbeat reaches every partition under one id, so what follows from it is told apart by its key, too: an
    instrument's outputs have the same ids however the instruments are spread over shards.
    """
    state, outputs = stage.step(state, event)
    if type(event) is Heartbeat:
        _stamp_by_key(stage.name, event, outputs)
        return state, outputs
    if outputs:
        cause_id, name = event.event_id, stage.name
        for ordinal, output in enumerate(outputs):
            stamp_identity(output, cause_id, name, ordinal)
    return state, outputs


def _stamp_by_key(stage: str, heartbeat: Event, outputs: Sequence[Event]) -> None:
    counts: dict[str, int] = {}
    for output in outputs:
        ordinal = counts.get(output.key, 0)
        counts[output.key] = ordinal + 1
        identity = derive_id(f"{heartbeat.event_id}|{output.key}", stage, ordinal)
        stamp_identity_as(output, heartbeat.event_id, identity)
