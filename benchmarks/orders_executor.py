"""The executor by itself, from the approval to the fill in its books: ``python -m benchmarks.orders_executor``.

Real Postgres with every batch committed before its requests leave, the sender's claim and people's commands read ten
times a second, the simulated exchange as a process with its record on disk; in Kafka's place something that takes all.
Each rate is run twice: with one request under way at a time, as it was, and with those of different accounts and
instruments side by side. The clock of *intent to request* starts when the intent's commit has returned.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from agents.sim.instruments import START_PRICES
from benchmarks.machine import cpu_seconds, describe
from benchmarks.orders import PEER_PER_S, lines_of, settings_of
from benchmarks.orders_outcome import figures
from benchmarks.results import add_json_option, run_in_directory, say, table, write_json
from infra.postgres.checkpoints import RunFacts, ShardName, ShardStore
from infra.postgres.migrate import migrate
from infra.servers import start_postgres
from infra.settings import load_settings
from infra.venues import VenuePort
from schemas.codec import Codec
from schemas.decisions import OrderApproved
from schemas.event import Event, derive_id, stamp_identity, stamp_position
from schemas.opinions import MarketMark, MarkQuality
from schemas.orders import OrderStatus, SubmitRequested
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_MARK, ORDER_APPROVED, Topic
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units
from streams.commands import PostgresCommands
from streams.composition import compose
from streams.demo.servers import exchange_config, launch_exchange
from streams.engine.outbox import OutboxShard
from streams.engine.ports import Outgoing, RawRecord
from streams.engine.producing import Acknowledgement
from streams.engine.sending import Sender
from streams.engine.shard import ShardCore
from streams.execution import PostgresLatencies, VenueCompanion, hosting
from streams.sending_right import PostgresClaims, SendingRight
from streams.venues import open_venue

RATES: Final = (200.0, 400.0, 600.0, 800.0)
_STEP_S: Final = 0.005
_MARK_EVERY_S: Final = 0.5
_DRAIN_S: Final = 15.0
_BEAT_MS: Final = 100
_QUANTITY: Final = {"SIM:BTCUSD": units("0.001"), "SIM:ETHUSD": units("0.02")}
_EDGE: Final = units("1")


@dataclass
class Marks:
    """When each intent's commit had returned, and when its request left (ns of one clock)."""

    committed: dict[str, int] = field(default_factory=dict)
    requested: dict[str, int] = field(default_factory=dict)


class Noting:
    """A venue port and a companion at once, around the real ones: it notes times and passes everything on."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self.port: Any = None
        self.companion: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.companion if name in ("start", "reached", "stop") else self.port, name)

    async def perform(self, requests: Sequence[Event], origins: Sequence[int]) -> None:
        """Note that the intents among these have been committed."""
        now_ns = time.perf_counter_ns()
        for request in requests:
            if isinstance(request, SubmitRequested):
                self._marks.committed[request.order_id] = now_ns
        await self.companion.perform(requests, origins)

    async def submit(self, request: SubmitRequested, *, epoch: int, now_ns: int) -> None:
        """Note that the request leaves."""
        self._marks.requested[request.order_id] = time.perf_counter_ns()
        await self.port.submit(request, epoch=epoch, now_ns=now_ns)


class InOneLine(VenueCompanion):
    """The sender as it was: each request waits for the answer to the one before, whatever they are on."""

    async def _send(self) -> None:
        while True:
            request, origin = await self._requests.next()
            assert request is not None
            await self._perform(request, origin)
            self._requests.over(request)


class NoLog:
    """Takes records as Kafka does, at once and for good."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    async def write(self, topic: str, partition: int, records: Sequence[Outgoing]) -> list[Acknowledgement]:
        """Take records."""
        first = self._next.get((topic, partition), 0)
        self._next[topic, partition] = first + len(records)
        taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        taken.set_result(SimpleNamespace(offset=first))
        return [Acknowledgement(topic, partition, taken, len(records) - 1)]


class Inputs:
    """Marks and approvals as records of their topics."""

    def __init__(self, accounts: int) -> None:
        self._codec = Codec(SchemaTable.committed())
        self._lines = lines_of(accounts)
        self._offsets: dict[str, int] = {}
        self._count = 0
        self._sides: dict[tuple[str, str, str], Side] = {}

    def marks(self) -> list[RawRecord]:
        """Return a mark of each instrument at its start price, now."""
        now_ns = time.time_ns()
        found = []
        for name, mid in START_PRICES.items():
            times = {"event_time_ns": now_ns, "available_at_ns": now_ns, "newest_time_ns": now_ns}
            prices = {"mid": mid, "bid_price": mid - _EDGE, "ask_price": mid + _EDGE}
            terms: dict[str, Any] = {"bid_quantity": units("1"), "ask_quantity": units("1"), "volume": 0, **prices}
            mark = MarketMark(key=name, quality=MarkQuality.GOOD, on_grid=False, grid_time_ns=now_ns, **times, **terms)
            found.append(self._record(MARKET_MARK, mark))
        return found

    def approval(self) -> tuple[str, RawRecord]:
        """Return the next line's approval, which turns its position round, and the order's id."""
        account, strategy, instrument = line = self._lines[self._count % len(self._lines)]
        self._count += 1
        side = self._sides[line] = Side.BUY if self._sides.get(line) is not Side.BUY else Side.SELL
        now_ns, mid = time.time_ns(), START_PRICES[instrument]
        tick = units("0.5")
        name = derive_id(f"{self._count}/{now_ns}", "benchmark", 0)
        order = OrderApproved(
            key=account,
            event_time_ns=now_ns,
            available_at_ns=now_ns,
            order_id=name,
            decision_id=name,
            account=account,
            strategy=strategy,
            instrument=instrument,
            side=side,
            quantity=_QUANTITY[instrument],
            order_type=OrderType.LIMIT,
            limit_price=(mid + side.sign * mid // 100) // tick * tick,
            time_in_force=TimeInForce.IOC,
            reduce_only=False,
            cancels=(),
            decision_mid=mid,
            limits_version="",
            checks=(),
            expires_at_ns=now_ns + 2 * NS_PER_S,
            decided_at_ns=now_ns,
        )
        return name, self._record(ORDER_APPROVED, order)

    def _record(self, topic: Topic, event: Event) -> RawRecord:
        offset = self._offsets.get(topic.name, 0)
        self._offsets[topic.name] = offset + 1
        stamp_identity(event, f"{topic.name}/{offset}", "benchmark", 0)
        stamp_position(event, "benchmark", 1, offset + 1)
        return RawRecord(topic.name, 0, offset, event.key.encode(), self._codec.encode(topic.name, event), (), 0)


@asynccontextmanager
async def _executor(run: Any, dsn: str, noting: Noting, in_one_line: bool) -> AsyncIterator[OutboxShard]:
    async def open_noted() -> VenuePort:
        noting.port = await open_venue(run)
        found: Any = noting
        return found

    hosted = hosting(run, open_noted, dsn)

    def companion() -> Any:
        sender = InOneLine if in_one_line else VenueCompanion
        right = SendingRight(PostgresCommands(dsn), PostgresClaims(dsn, "execution", "0"))
        noting.companion = sender(open_noted, PostgresLatencies(dsn), right, on_capture=False)
        return noting

    core = ShardCore(replace(hosted, companion=companion), "0", 0, Codec(SchemaTable.committed()), 4)
    store = ShardStore(dsn, ShardName("execution", "0", "benchmark"), durable=True)
    facts = RunFacts("none", "benchmark", "benchmark")
    shard = OutboxShard(core, store, facts, Sender(SimpleNamespace(producer=NoLog())), _BEAT_MS)
    await shard.take_up(await store.claim(facts))
    running = asyncio.ensure_future(shard.run())
    try:
        yield shard
    finally:
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _load(shard: OutboxShard, inputs: Inputs, per_s: float, seconds: float) -> tuple[list[str], float]:
    """Offer approvals at a rate; return their orders and how long it took until all had an outcome."""
    names: list[str] = []
    began = marked = time.monotonic()
    await shard.offer(inputs.marks())
    while len(names) < per_s * seconds:
        due = min(int((time.monotonic() - began) * per_s) + 1, round(per_s * seconds))
        chunk = [inputs.approval() for _ in range(due - len(names))]
        names += [name for name, _ in chunk]
        if chunk:
            await shard.offer([record for _, record in chunk])
        if time.monotonic() - marked > _MARK_EVERY_S:
            marked = time.monotonic()
            await shard.offer(inputs.marks())
        await asyncio.sleep(_STEP_S)
    until = time.monotonic() + _DRAIN_S
    while time.monotonic() < until and not all(_final(shard, name) for name in names[-2000:]):
        await asyncio.sleep(_STEP_S)
    return names, time.monotonic() - began


def _final(shard: OutboxShard, name: str) -> bool:
    order = shard.core.state.get(f"order/{name}")
    return order is not None and order.final


def _outcome(shard: OutboxShard, names: Sequence[str], took_s: float, marks: Marks) -> dict[str, Any]:
    orders = [shard.core.state.get(f"order/{name}") for name in names]
    counts: dict[str, int] = {}
    for order in orders:
        status = "none" if order is None else str(order.status)
        counts[status] = counts.get(status, 0) + 1
    at_venue = sum(counts.get(str(status), 0) for status in (OrderStatus.FILLED, OrderStatus.EXPIRED))
    waits_ms = [(marks.requested[name] - marks.committed[name]) / 1e6 for name in names if name in marks.requested]
    return {
        "orders": len(names),
        "at_venue_per_s": at_venue / took_s,
        "took_s": took_s,
        "statuses": counts,
        "whole": at_venue == len(names),
        "intent_to_request": figures(waits_ms),
        "batches": shard.core.counters.batches,
    }


async def _run_way(run: Any, dsn: str, options: argparse.Namespace, in_one_line: bool) -> list[dict[str, Any]]:
    marks = Marks()
    found = []
    async with _executor(run, dsn, Noting(marks), in_one_line) as shard:
        inputs = Inputs(options.accounts)
        await _load(shard, inputs, 50.0, 3.0)
        for per_s in options.rates:
            used_s, batches = time.process_time(), shard.core.counters.batches
            names, took_s = await _load(shard, inputs, per_s, options.seconds)
            result = _outcome(shard, names, took_s, marks)
            result |= {"asked_per_s": per_s, "in_one_line": in_one_line, "batches": result["batches"] - batches}
            result["cpu_us_per_order"] = (time.process_time() - used_s) / len(names) * 1e6
            say(
                f"{'one line' if in_one_line else 'side by side'}, {per_s:g}/s: {result['at_venue_per_s']:.0f} orders/s"
            )
            found.append(result)
    return found


def _measure(options: argparse.Namespace, directory: Path) -> bool:
    results: list[dict[str, Any]] = []
    for in_one_line in (True, False):
        with ExitStack() as stack:
            place = directory / ("one" if in_one_line else "side")
            place.mkdir()
            place.chmod(0o755)
            postgres = start_postgres(place)
            stack.callback(postgres.stop)
            migrate(postgres.dsn)
            settings = settings_of(options.accounts) | {"run.directory": str(place)}
            config = exchange_config(compose(load_settings(None, settings)), place)
            url, exchange = launch_exchange(stack, config, place)
            run = compose(load_settings(None, settings | {"venue.url": url}))
            results += asyncio.run(_run_way(run, postgres.dsn, options, in_one_line))
            say(f"the exchange used {cpu_seconds(exchange.pid):.1f} s of CPU")
    write_json(options.json, {"machine": describe(), "results": results})
    report(results)
    return all(result["statuses"].get("none", 0) == 0 for result in results)


def _way(result: dict[str, Any]) -> str:
    return "one line" if result["in_one_line"] else "side by side"


def _place(result: dict[str, Any]) -> tuple[float, bool]:
    return result["asked_per_s"], not result["in_one_line"]


def report(results: Sequence[dict[str, Any]]) -> None:
    """Print both ways side by side."""
    print(f"the executor, real Postgres, the exchange a process; {describe()}\n")
    header = ("approvals/s", "way", "orders/s", "all at venue", "p50 ms", "p99 ms", "batches", "CPU us/order")
    rows = [
        [
            f"{result['asked_per_s']:g}",
            _way(result),
            result["at_venue_per_s"],
            result["whole"],
            result["intent_to_request"]["p50_ms"],
            result["intent_to_request"]["p99_ms"],
            result["batches"],
            result["cpu_us_per_order"],
        ]
        for result in sorted(results, key=_place)
    ]
    print(table(header, rows))
    print("(ms: from the commit of the intent to the request at the socket)")
    for result in results:
        if not result["whole"]:
            print(f"{result['asked_per_s']:g}/s, {_way(result)}: {result['statuses']}")
    best = max((item["at_venue_per_s"] for item in results if item["whole"] and not item["in_one_line"]), default=0.0)
    print(f"\nall at the venue at up to {best:.0f} orders a second; the best published by a peer is {PEER_PER_S:g}")


def main(arguments: Sequence[str]) -> int:
    """Measure and print; 1 when an approval had no outcome, 2 when the servers cannot be started here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="approvals a second, rising")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate, each way")
    parser.add_argument("--accounts", type=int, default=64, help="each trades two instruments")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    return run_in_directory(partial(_measure, options))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
