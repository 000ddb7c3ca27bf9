"""A worker whose one stage does not begin before a file is there: what waits for it meanwhile is what is measured.

Run as a program with one argument, JSON: that of engine_toys, and ``gate``, the file.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engine_toys
from engine_toys import HOSTINGS, Tally

from agents.stage import NO_EVENTS, ShardState
from schemas.event import Event
from schemas.opinions import MarketMark
from schemas.topics import MARKET_MARK
from streams.engine.ports import Inlet, StageHosting, StageKind


class Sponge:
    """Counts marks, and says nothing: how many, and a sum that depends on their order."""

    name = "decider"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Count a mark; one that is out of its order is a bug."""
        if type(event) is MarketMark:
            tally = state.get("marks", Tally())
            assert event.mid == tally.count, f"mark {event.mid} came as number {tally.count}"
            state["marks"] = Tally(tally.count + 1)
        return state, NO_EVENTS


class Gate:
    """A companion that lets the stage begin when its file is there."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Wait for the file."""
        while not self._file.exists():
            await asyncio.sleep(0.05)

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Never called: the stage asks for nothing."""
        raise AssertionError("nothing was asked for")

    def reached(self, now_ns: int) -> None:
        """Take no note."""

    async def stop(self) -> None:
        """End."""


def main(arguments: dict[str, Any]) -> int:
    """Run the worker until it is stopped."""
    gate = Path(arguments.pop("gate"))
    HOSTINGS["decider"] = StageHosting(
        name="decider",
        topics=(MARKET_MARK,),
        make_stage=Sponge,
        kind=StageKind.OUTBOX,
        wall_clock=True,
        companion=lambda: Gate(gate),
    )
    return engine_toys.main(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    sys.exit(main(json.loads(sys.argv[1])))
