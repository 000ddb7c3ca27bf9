"""Executors at work, without whoever decides: approvals and marks are written as risk and the experts would.

What is measured or proved of an executor alone needs orders that flow as fast as it takes them, as long as it takes.
The exchange is a process of its own, and its record on disk says what has reached it, and when.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from confluent_kafka import Producer
from msgspec.structs import replace

from agents.sim.engine import VenueOrder
from agents.sim.venue_record import Changed, Line, Queued, Totals
from infra.audit_keys import development_overrides
from infra.kafka import client_settings
from infra.kafka_topics import mend_topics
from infra.postgres.migrate import migrate
from infra.servers.process import ChildProcess
from infra.settings import load_settings
from infra.topic_specs import topic_specs
from schemas.codec import Codec
from schemas.decisions import OrderApproved
from schemas.event import Event, derive_id
from schemas.opinions import MarketMark, MarkQuality
from schemas.order_ids import order_id_of
from schemas.schema_table import SchemaTable
from schemas.topics import MARKET_MARK, ORDER_APPROVED, Topic
from schemas.values import NS_PER_S, OrderType, Side, TimeInForce, units
from streams.composition import compose
from streams.demo.servers import exchange_config, launch_exchange, write_overrides
from streams.launch import WORKERS
from streams.processes import start_worker

SETTINGS: Final = Path(__file__).resolve().parents[1] / "tradermind.toml"
INSTRUMENT: Final = "SIM:BTCUSD"
ACCOUNT: Final = "main"
_QUANTITY: Final = units("0.001")
_PRICES: Final = 97
_ONE_SIDE: Final = 40
_LIFE_NS: Final = 2 * NS_PER_S
_LINES: Final = msgspec.json.Decoder(Line)


def settings_of(strategies: Sequence[str]) -> dict[str, Any]:
    """Return what a run must be told so that these strategies may trade all the time and no limit stops them."""
    share = str(round(1 / (len(strategies) + 3), 5))
    terms = {
        "account": ACCOUNT,
        "policy": "null",
        "horizon_s": 1,
        "instruments": [INSTRUMENT],
        "share": share,
        "risk_budget": "0.01",
    }
    others: dict[str, dict[str, Any]] = {
        "committee": {"policy": "null", "horizon_s": 1, "share": share},
        "pulse": {"horizon_s": 1, "share": share, "parameters": {"every": 1_000_000, "size": 0.5}},
    }
    return {
        "feed.kind": "simulated",
        "grid.horizons_s": [1],
        "venue.latency_ms": 0,
        "strategies": {name: terms for name in strategies} | others,
        "staleness": {"mark_ms": 30_000, "market_ms": 30_000, "decision_ms": 30_000},
        "limits.global": {
            "messages_max": 1_000_000,
            "executions_max": 1_000_000,
            "rejects_max": 1_000_000,
            "duplicate_window_ms": 1,
            "daily_loss_max": 90_000,
            "drawdown_max": "0.9",
            "order_value_max": 10_000_000,
            "position_value_max": 100_000_000,
            "gross_exposure_max": 100_000_000,
            "net_exposure_max": 100_000_000,
            "leverage_max": 10_000,
            "price_move_max": "0.9",
            "clock_drift_max_ms": 60_000,
        },
    }


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request for an order as it reached the exchange: the times that it carried and at which it came (ns)."""

    order_id: str
    client_order_id: str
    strategy: str
    epoch: int
    sent_ns: int
    arrived_ns: int


class ExchangeTail:
    """What the exchange has written down so far: every request that came, its orders as they stand, its newest mids."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._file: IO[bytes] | None = None
        self._half = b""
        self.arrivals: list[Arrival] = []
        self.orders: dict[str, VenueOrder] = {}
        self.ended_ns: dict[str, int] = {}
        self.mids: dict[str, int] = {}

    def read(self) -> int:
        """Read on; return how many requests had come by now."""
        if self._file is None and self._record.exists():
            self._file = self._record.open("rb")
        content = self._half + (self._file.read() if self._file is not None else b"")
        *lines, self._half = content.split(b"\n")
        for line in lines:
            self._take(_LINES.decode(line))
        return len(self.arrivals)

    def _take(self, line: Line) -> None:
        if isinstance(line, Queued) and line.action.submit is not None:
            action, request = line.action, line.action.submit
            arrival = Arrival(
                order_id=request.order_id,
                client_order_id=request.client_order_id,
                strategy=request.strategy,
                epoch=action.epoch,
                sent_ns=action.sent_ns,
                arrived_ns=action.due_ns,
            )
            self.arrivals.append(arrival)
        elif isinstance(line, Changed):
            self.orders[line.order.order_id] = line.order
            if not line.order.live:
                self.ended_ns.setdefault(line.order.order_id, time.time_ns())
        elif isinstance(line, Totals):
            self.mids |= line.mids

    def close(self) -> None:
        """Let go of the record."""
        if self._file is not None:
            self._file.close()


class Executors:
    """Topics, exchange and run file of a run on the servers given. Workers are started under their instance's name."""

    def __init__(self, directory: Path, bootstrap: str, dsn: str, changes: Mapping[str, Any], **exchange: Any) -> None:
        self.directory, self.bootstrap, self.dsn = directory, bootstrap, dsn
        directory.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._overrides = {
            "run.directory": str(directory),
            "kafka.bootstrap": bootstrap,
            "postgres.dsn": dsn,
            "influx.directory": str(directory / "influx"),
            **development_overrides(directory),
            **changes,
        }
        settings = load_settings(SETTINGS, self._overrides)
        self.run = compose(settings)
        migrate(dsn)
        mend_topics(bootstrap, topic_specs(settings))
        config = replace(exchange_config(self.run, directory), jitter_ns=0, **exchange)
        self.venue, self.exchange = launch_exchange(self._stack, config, directory)
        self.tail = ExchangeTail(directory / "exchange.record")
        self._stack.callback(self.tail.close)

    def start(self, stage: str, instance: str, **changes: Any) -> ChildProcess:
        """Start a worker; ``changes`` are settings of its own."""
        folder = self.directory / f"worker-{stage}-{instance}-{time.time_ns()}"
        folder.mkdir()
        values = {**self._overrides, "venue.url": self.venue, **changes}
        run_file = write_overrides(folder, values, [[name] for name in WORKERS])
        child = start_worker([stage], run_file, SETTINGS, folder, instance=instance)
        self._stack.callback(child.kill)
        return child

    def close(self) -> None:
        """End whatever still runs."""
        self._stack.close()


class OrderFlow:
    """Writes marks and approvals at the mid that the exchange has written down; each order has a content of its own."""

    def __init__(self, executors: Executors) -> None:
        self._producer = Producer({**client_settings(executors.bootstrap), "linger.ms": 0})
        self._tick = executors.run.instruments[INSTRUMENT].tick_size
        self._codec = Codec(SchemaTable.committed())
        self._tail = executors.tail
        self._generation = time.time_ns()
        self._numbers = count(1)

    def mark(self) -> None:
        """Write a mark of the exchange's newest mid."""
        now_ns, mid = time.time_ns(), self._mid()
        mark = MarketMark(
            **_times(INSTRUMENT, now_ns),
            mid=mid,
            bid_price=mid - self._tick,
            ask_price=mid + self._tick,
            bid_quantity=units("1"),
            ask_quantity=units("1"),
            volume=0,
            newest_time_ns=now_ns,
            quality=MarkQuality.GOOD,
            on_grid=False,
            grid_time_ns=now_ns,
        )
        self._write(MARKET_MARK, mark)

    def approve(self, strategy: str, *, rests: bool = False) -> str:
        """Write an approval and return the order's id: one that trades at once, or one that rests far below."""
        now_ns, number, mid = time.time_ns(), next(self._numbers), self._mid()
        # Many of one side, then many of the other: an order may not meet one of ours that is still under way.
        side = Side.BUY if rests or number // _ONE_SIDE % 2 else Side.SELL
        share = -0.015 if rests else 0.005 * side.sign
        price = round(mid * (1 + share)) // self._tick * self._tick + number % _PRICES * self._tick
        cause = derive_id(f"{self._generation}", strategy, number)
        approval = OrderApproved(
            **_times(ACCOUNT, now_ns),
            order_id=order_id_of(cause, (ACCOUNT, strategy)),
            decision_id=cause,
            account=ACCOUNT,
            strategy=strategy,
            instrument=INSTRUMENT,
            side=side,
            quantity=_QUANTITY,
            order_type=OrderType.LIMIT,
            limit_price=price,
            time_in_force=TimeInForce.GTC if rests else TimeInForce.IOC,
            reduce_only=False,
            cancels=(),
            decision_mid=mid,
            limits_version="flow",
            checks=(),
            expires_at_ns=now_ns + _LIFE_NS,
            decided_at_ns=now_ns,
        )
        self._write(ORDER_APPROVED, approval)
        return approval.order_id

    def flush(self) -> None:
        """Wait until Kafka has everything."""
        left = self._producer.flush(30)
        assert left == 0, f"Kafka did not take {left} records"

    def _mid(self) -> int:
        self._tail.read()
        return self._tail.mids[INSTRUMENT]

    def _write(self, topic: Topic, event: Event) -> None:
        number = next(self._numbers)
        event = replace(
            event,
            event_id=derive_id(f"{self._generation}", topic.name, number),
            source="flow/of-approvals",
            generation=self._generation,
            seq=number,
        )
        self._producer.produce(topic.name, self._codec.encode(topic.name, event), event.key.encode(), 0)
        self._producer.poll(0)


def _times(key: str, now_ns: int) -> dict[str, Any]:
    return {"key": key, "event_time_ns": now_ns, "available_at_ns": now_ns}
