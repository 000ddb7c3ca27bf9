"""The simulated exchange whose market data comes evenly, one event a message, instead of a step's events at once.

``python -m benchmarks.paced_exchange`` is run in place of ``streams.exchange``. How many events a second there are is
set by how often the market steps, so ``step_for`` finds the step for a rate; the events of a step are then spread over
the time that it takes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from agents.sim.market import MarketTerms, SimulatedMarket
from infra.venues.wire import MarketLine
from schemas.values import NS_PER_S
from streams.exchange import main
from streams.exchange_core import ExchangeConfig, ExchangeCore
from streams.exchange_server import ExchangeServer

MODULE: Final = "benchmarks.paced_exchange"
_SAMPLE_STEPS: Final = 400
_ROUNDS: Final = 8


class _Keyed(msgspec.Struct):
    key: str


_LINES: Final = msgspec.json.Decoder(list[MarketLine])
_KEYED: Final = msgspec.json.Decoder(_Keyed)


class PacedServer(ExchangeServer):
    """An exchange server that holds each market event back by at most one step of the market."""

    def __init__(self, core: ExchangeCore) -> None:
        super().__init__(core)
        self._step_s = core.config.step_ns / NS_PER_S
        self._lines: deque[tuple[float, bytes]] = deque()
        self._came = asyncio.Event()

    async def run(self) -> None:
        """Keep time and send what is due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._release())
            group.create_task(super().run())

    def _publish(self, readers: Any, message: bytes) -> None:
        if readers is not self._market_readers:
            super()._publish(readers, message)
            return
        lines = _interleaved(_LINES.decode(message))
        now_s = time.monotonic()
        first_s = max(now_s, self._lines[-1][0] if self._lines else now_s)
        for number, line in enumerate(lines):
            due_s = first_s + number * self._step_s / len(lines)
            self._lines.append((due_s, msgspec.json.encode([line])))
        self._came.set()

    async def _release(self) -> None:
        while True:
            while self._lines:
                due_s, message = self._lines[0]
                if (wait_s := due_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                self._lines.popleft()
                super()._publish(self._market_readers, message)
            self._came.clear()
            await self._came.wait()


def _interleaved(lines: Sequence[MarketLine]) -> list[MarketLine]:
    """Return the lines of a step with the instruments taking turns; a step tells of one after the other."""
    by_key: dict[str, list[MarketLine]] = {}
    for line in lines:
        by_key.setdefault(_KEYED.decode(line.event).key, []).append(line)
    placed = [((number + 0.5) / len(mine), line) for mine in by_key.values() for number, line in enumerate(mine)]
    return [line for _, line in sorted(placed, key=lambda item: item[0])]


def step_for(config: ExchangeConfig, per_s: float) -> ExchangeConfig:
    """Return the exchange with the market's step that gives about ``per_s`` events a second of all instruments."""
    for _ in range(_ROUNDS):
        config = replace(config, step_ns=max(1, round(events_per_step(config) / per_s * NS_PER_S)))
    return config


def events_per_step(config: ExchangeConfig) -> float:
    """Return how many events of market data one step gives, over a sample from the market's beginning."""
    terms = MarketTerms(
        instruments=config.instruments,
        start_prices=config.start_prices,
        seed=config.seed,
        start_ns=0,
        step_ns=config.step_ns,
        regime=config.regime,
    )
    market = SimulatedMarket(terms)
    return _count(market.advance() for _ in range(_SAMPLE_STEPS)) / _SAMPLE_STEPS


def _count(steps: Iterable[list[Any]]) -> int:
    return sum(len(events) for events in steps)


if __name__ == "__main__":
    raise SystemExit(main(server_type=PacedServer))
