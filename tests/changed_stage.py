"""A toy stage with a deliberate change from its n-th event on: what a recomputation must catch and locate."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from msgspec.structs import replace as replaced

from agents.stage import ShardState, Stage
from schemas.decisions import Decision
from schemas.event import Event
from schemas.opinions import MarketMark
from streams.engine.ports import StageHosting

Change = Callable[[Sequence[Event]], Sequence[Event]]


class ChangedStage:
    """Steps as the stage does and, from the ``since``-th event of ``kind`` on (the first is 1), changes the outputs."""

    def __init__(self, stage: Stage, kind: type[Event], since: int, change: Change) -> None:
        self._stage = stage
        self._kind = kind
        self._since = since
        self._change = change
        self._seen = 0

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._stage.name

    def state_type(self, key: str) -> type:
        """Return the stage's type."""
        return self._stage.state_type(key)

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Step, and change what comes of it."""
        state, outputs = self._stage.step(state, event)
        self._seen += type(event) is self._kind
        return state, self._change(outputs) if self._seen >= self._since else outputs


def changed(hosting: StageHosting, kind: type[Event], since: int, change: Change) -> StageHosting:
    """Return a hosting whose stage is changed from its ``since``-th event of a kind on."""
    return replace(hosting, make_stage=lambda: ChangedStage(hosting.make_stage(), kind, since, change))


def one_bit(outputs: Sequence[Event]) -> Sequence[Event]:
    """Flip the lowest bit of one value: a mark's middle, or a decision's target."""
    return [_flipped(output) for output in outputs]


def _flipped(output: Event) -> Event:
    if isinstance(output, MarketMark) and output.mid is not None:
        return replaced(output, mid=output.mid ^ 1)
    if isinstance(output, Decision) and output.target is not None:
        return replaced(output, target=flip_lowest_bit(output.target))
    return output


def flip_lowest_bit(value: float) -> float:
    """Return the neighbouring float."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    flipped: float = struct.unpack("<d", struct.pack("<q", bits ^ 1))[0]
    return flipped
