"""Our worker doing the benchmark's work with every guarantee on: ``python -m benchmarks.stream_ours JSON``.

Decoding with validation, dropping of duplicates, partition check, numbered outputs by an idempotent producer, state and
place in Postgres once a second, claimed by epoch.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from agents.stage import NO_EVENTS, ShardState
from benchmarks.tick_work import VOTE_EVERY, WEIGHT
from schemas.codec import Codec
from schemas.event import Event
from schemas.market import Trade
from schemas.opinions import MarketMark, MarkQuality
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_EVENT
from streams.engine.ports import EngineSettings, StageHosting, StageKind
from streams.engine.worker import Worker


class Flow(msgspec.Struct):
    """A symbol: ticks so far, average price, signed flow."""

    count: int
    average: float
    flow: int


class VoteEveryHundred:
    """The work of ``TickWork`` as a stage."""

    name = "experts"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        del key
        return Flow

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Take a tick; vote once in a hundred."""
        if type(event) is not Trade:
            return state, NO_EVENTS
        flow = state.get(event.key)
        if flow is None:
            flow = Flow(0, float(event.price), 0)
        flow.count += 1
        flow.average += WEIGHT * (event.price - flow.average)
        flow.flow += event.quantity
        state[event.key] = flow
        return state, NO_EVENTS if flow.count % VOTE_EVERY else [_vote(event, flow)]


def _vote(event: Trade, flow: Flow) -> MarketMark:
    return MarketMark(
        key=event.key,
        event_time_ns=event.event_time_ns,
        available_at_ns=event.available_at_ns,
        mid=int(flow.average),
        bid_price=None,
        ask_price=None,
        bid_quantity=None,
        ask_quantity=None,
        volume=flow.flow,
        newest_time_ns=event.available_at_ns,
        quality=MarkQuality.GOOD,
        on_grid=False,
        grid_time_ns=0,
    )


HOSTING: Final = StageHosting(
    name="experts", topics=(MARKET_EVENT,), make_stage=VoteEveryHundred, kind=StageKind.ONE_TOPIC
)


def main(arguments: dict[str, Any]) -> int:
    """Be a worker until it is stopped."""
    facts = {"settings_hash": "bench", "code_version": "bench", "codec": Codec(SchemaTable.committed())}
    return asyncio.run(Worker(EngineSettings(**facts, **arguments), [HOSTING]).run())


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
