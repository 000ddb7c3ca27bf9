"""Three small stages as a real worker process, to be killed: what they compute depends on every input and its order.

Run as a program with one argument, JSON: ``stages``, ``bootstrap``, ``dsn`` and, if wanted, ``metrics`` (a folder for
those of sinks) and other engine settings.
"""

import asyncio
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agents.stage import NO_EVENTS, ShardState
from schemas.codec import Codec
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.decisions import Decision, DecisionOutcome
from schemas.event import Event, Heartbeat
from schemas.feedback import ExpertScore
from schemas.ingress import IngestTrade, IngressEnvelope
from schemas.market import Trade
from schemas.opinions import AlertLevel, AnomalyAlert, Bar, MarketMark, MarkQuality
from schemas.schema_table import SchemaTable
from schemas.topics import DECISION, EXPERT_ALERT, INGEST_TRADE, MARKET_EVENT, MARKET_MARK, TOPICS
from streams.engine.ports import EngineSettings, RawRecord, StageHosting, StageKind
from streams.engine.worker import Worker
from streams.sinks import Sink

PARTITIONS = 2
CRASH_EXPERTS = 66_600_000
CRASH_DECIDER = 66_600_001
"""The price of a trade, and of a mark, on which a stage has a bug."""
BAR_EVERY = 3
ALERT_EVERY = 50


class Tally(msgspec.Struct):
    """How often something came, and a digest of all that came before, in order."""

    count: int = 0
    digest: str = ""

    def after(self, token: str) -> "Tally":
        """Return the tally with one more."""
        return Tally(self.count + 1, hashlib.sha256(f"{self.digest}|{token}".encode()).hexdigest()[:16])


class ToyExperts:
    """One topic: a mark for every trade, a bar for every third of an instrument, now and then an alert."""

    name = "experts"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Count a trade."""
        if type(event) is not Trade:
            return state, NO_EVENTS
        assert event.price != CRASH_EXPERTS, "a bug"
        tally = state[event.key] = state.get(event.key, Tally()).after(event.trade_id)
        when = {"event_time_ns": event.event_time_ns, "available_at_ns": event.available_at_ns}
        outputs: list[Event] = [mark(event.key, event.price, tally.count, event.available_at_ns)]
        if tally.count % BAR_EVERY == 0:
            prices = {name: event.price for name in ("open_price", "high_price", "low_price", "close_price")}
            facts = {"volume": None, "trades": tally.count, "complete": True, "imputed": False}
            outputs.append(Bar(key=event.key, interval_ns=1, open_time_ns=0, **prices, **facts, **when))
        if tally.count % ALERT_EVERY == 0:
            outputs.append(
                AnomalyAlert(key=event.key, level=AlertLevel.HIGH, kind="toy", score=1.0, detail=tally.digest, **when)
            )
        return state, outputs


def mark(key: str, price: int, number: int, now_ns: int) -> MarketMark:
    """Return a mark of an instrument."""
    sides: dict[str, None] = dict.fromkeys(("bid_price", "ask_price", "bid_quantity", "ask_quantity", "volume"))
    return MarketMark(
        key=key,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        mid=price,
        **sides,
        newest_time_ns=number,
        quality=MarkQuality.GOOD,
        on_grid=True,
        grid_time_ns=now_ns,
    )


class ToyDecider:
    """Outbox: a decision for every mark; it names how many alerts and heartbeats came before."""

    name = "decider"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Decide on a mark."""
        kind = type(event).__name__
        tally = state[kind] = state.get(kind, Tally()).after(event.event_id)
        if type(event) is not MarketMark:
            return state, NO_EVENTS
        assert event.mid != CRASH_DECIDER, "a bug"
        before = {name: float(state.get(name, Tally()).count) for name in ("AnomalyAlert", "Heartbeat")}
        return state, [
            Decision(
                key="toy",
                event_time_ns=event.event_time_ns,
                available_at_ns=event.available_at_ns,
                decision_id=str(event.mid),
                account="toy",
                strategy=tally.digest,
                instrument=event.key,
                ballot_id="",
                tally_id="",
                outcome=DecisionOutcome.TARGET,
                reason=None,
                target=0.5,
                previous_target=0.0,
                mid=event.mid,
                horizon_ns=1,
                policy="toy",
                policy_stage="toy",
                edge=None,
                cost=None,
                observation=before,
                expires_at_ns=0,
            )
        ]


class ToyFeedback:
    """Outbox: counts each decision and each mark by number, and answers each decision with a score."""

    name = "feedback"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Count an effect."""
        if type(event) is Heartbeat:
            return state, NO_EVENTS
        assert isinstance(event, Decision | MarketMark)
        key = f"{type(event).__name__}:{event.mid}"
        state[key] = state.get(key, Tally()).after(event.event_id)
        order = state["order"] = state.get("order", Tally()).after(event.event_id)
        if type(event) is not Decision:
            return state, NO_EVENTS
        return state, [
            ExpertScore(
                key=event.instrument,
                event_time_ns=event.event_time_ns,
                available_at_ns=event.available_at_ns,
                ballot_id=order.digest,
                expert=event.decision_id,
                horizon_ns=1,
                outcome=0,
                move=0,
                loss=0.0,
                base_loss=0.0,
                pool_loss=0.0,
                abstained=False,
            )
        ]


class ToyIngress:
    """One public topic: passes trades on; those of a market that is closed only after one of ``TOY:OPEN``."""

    name = "ingress.trade"

    def state_type(self, key: str) -> type:
        """Return the one type."""
        return Tally

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Pass a trade on."""
        assert isinstance(event, IngressEnvelope) and isinstance(event.record, IngestTrade)
        state[event.key] = state.get(event.key, Tally()).after(event.event_id)
        if event.key == "TOY:CLOSED" and "TOY:OPEN" not in state:
            raise BadRecord(DeadLetterReason.INSTRUMENT_REFUSED, "the market is closed")
        seen = event.record
        facts = {"trade_id": seen.trade_id, "price": seen.price, "quantity": None, "aggressor": None}
        return state, [Trade(key=event.key, event_time_ns=1, available_at_ns=event.available_at_ns, **facts)]


def _enveloped(record: RawRecord, decoded: Any) -> Event:
    return IngressEnvelope(
        key=decoded.instrument,
        event_time_ns=decoded.event_time_ns,
        available_at_ns=record.timestamp_ms * 1_000_000,
        event_id=decoded.event_id,
        record=decoded,
    )


def _hosting(name: str, make: Callable[[], Any], topics: tuple[Any, ...], kind: StageKind) -> StageHosting:
    clock = kind is StageKind.OUTBOX
    return StageHosting(name=name, topics=topics, make_stage=make, kind=kind, wall_clock=clock)


HOSTINGS = {
    "experts": _hosting("experts", ToyExperts, (MARKET_EVENT,), StageKind.ONE_TOPIC),
    "decider": _hosting("decider", ToyDecider, (MARKET_MARK, EXPERT_ALERT), StageKind.OUTBOX),
    "feedback": _hosting("feedback", ToyFeedback, (DECISION, MARKET_MARK), StageKind.OUTBOX),
    "ingress.trade": replace(
        _hosting("ingress.trade", ToyIngress, (INGEST_TRADE,), StageKind.ONE_TOPIC), wrap=_enveloped
    ),
}


METRICS_QUEUE = 500
"""How many events wait for a disk that takes no metrics."""


def sinks(dsn: str, metrics: str | None = None) -> StageHosting:
    """Return the real sink: every topic into Postgres, and metrics into files of this folder, if one is named."""
    from infra.influx import (
        InfluxWriter,
        LineFiles,
        PointCounts,
    )  # Half of what a worker imports: the others need none.

    writer = None if metrics is None else InfluxWriter(LineFiles(Path(metrics)), METRICS_QUEUE, backoff_s=(0.2,))
    sink = Sink(dsn, toy_codec(), writer)

    async def handle(records: Sequence[RawRecord]) -> Sequence[tuple[RawRecord, BadRecord]]:
        return (await sink.handle(records)).refused

    def facts() -> dict[str, int]:
        counts = PointCounts() if writer is None else writer.counts
        return {"points_written": counts.written, "metrics_dropped": counts.dropped}

    async def close() -> None:
        if writer is not None:
            await asyncio.to_thread(writer.close)
        await sink.close()

    return StageHosting(
        name="sinks",
        topics=tuple(topic for topic in TOPICS.values() if "sinks" in topic.consumers),
        kind=StageKind.HANDLER,
        handle=handle,
        dead_letter_topics=True,
        close=close,
        facts=facts,
    )


def topic_partitions() -> dict[str, int]:
    """Return name -> partitions of all topics of the platform, dead letters with them."""
    spread = {topic.name: topic.partitions(PARTITIONS) for topic in TOPICS.values()}
    return spread | {topic.dead_letters: topic.partitions(PARTITIONS) for topic in TOPICS.values()}


def toy_codec() -> Codec:
    """Return the committed schemas' codec."""
    return Codec(SchemaTable.committed())


def command(arguments: dict[str, Any]) -> list[str]:
    """Return the command line of a worker with these arguments."""
    return [sys.executable, __file__, json.dumps(arguments)]


def main(arguments: dict[str, Any]) -> int:
    """Run a worker with these stages until it is stopped."""
    names, metrics = arguments.pop("stages"), arguments.pop("metrics", None)
    stages = [sinks(arguments["dsn"], metrics) if name == "sinks" else HOSTINGS[name] for name in names]
    facts: dict[str, Any] = {"instrument_partitions": PARTITIONS, "settings_hash": "toy", "code_version": "1"}
    engine = EngineSettings(codec=toy_codec(), **(facts | arguments))
    return asyncio.run(Worker(engine, stages).run())


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    sys.exit(main(json.loads(sys.argv[1])))
