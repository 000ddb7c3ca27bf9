"""Toy workers of which one is stuck: its companion begins, and never ends beginning. Run as engine_toys is."""

import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace

import engine_toys
from engine_toys import HOSTINGS

from schemas.event import Event
from streams.engine.ports import Inlet


class NeverReady:
    """A companion that waits for something that does not come."""

    async def start(self, inlet: Inlet, epoch: int) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Never called: it has not begun."""
        raise AssertionError("it has not begun")

    def reached(self, now_ns: int) -> None:
        """Never called: it has not begun."""
        raise AssertionError("it has not begun")

    async def stop(self) -> None:
        """End."""


if __name__ == "__main__":
    HOSTINGS["decider"] = replace(HOSTINGS["decider"], companion=NeverReady)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    sys.exit(engine_toys.main(json.loads(sys.argv[1])))
