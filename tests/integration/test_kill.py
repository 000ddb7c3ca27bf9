"""A kill reaches the venue while Kafka stands still, and with nothing alive but the executor; two people lift it."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from campaign import Platform, platform_on_fresh_topics
from confluent_kafka import Producer
from money_events import ONE, approved

from infra.kafka import client_settings
from infra.people import load_personal_key
from infra.postgres.changes import newest_command
from infra.postgres.commands import Command, insert_command
from infra.servers import RealKafka
from schemas.changes import Change, canonical_text
from schemas.codec import Codec
from schemas.control import Approval, ControlAction, ControlCommand, ScopeKind
from schemas.event import derive_id
from schemas.schema_table import SchemaTable
from schemas.topics import CONTROL, ORDER_APPROVED
from schemas.values import NS_PER_S, Level, TimeInForce
from streams.launch import WORKERS

CODEC = Codec(SchemaTable.committed())
INSTRUMENT = "SIM:BTCUSD"
CHANGES: dict[str, Any] = {
    "run.seed": 11,
    "feed.kind": "simulated",
    "grid.step_ms": 200,
    "grid.horizons_s": [1],
    # The orders of this test are its own, so that one rests for certain when the kill comes.
    "strategies.committee": {"policy": "null", "horizon_s": 1},
    "strategies.pulse": {"horizon_s": 1, "parameters": {"every": 1_000_000, "size": 0.5}},
    "staleness": {"mark_ms": 30_000, "market_ms": 30_000, "decision_ms": 30_000},
}


@pytest.fixture
def platform(tmp_path: Path, real_kafka: RealKafka, database: str) -> Iterator[Platform]:
    """The exchange and the topics of a run; its workers are started by the test."""
    with platform_on_fresh_topics(tmp_path / "run", real_kafka.bootstrap, database, CHANGES) as made:
        yield made


def _live(run: Platform) -> list[str]:
    return [order.order_id for order in run.venue_orders() if order.live]


def _approve(run: Platform, name: str) -> None:
    """Write an approval as risk would: to buy 1.5 % below the market, good till cancelled."""
    ((mid,),) = run.rows(
        f"SELECT mid FROM decisions WHERE instrument = '{INSTRUMENT}' AND mid IS NOT NULL ORDER BY available_at_ns DESC"
        " LIMIT 1"
    )
    now_ns = time.time_ns()
    order = approved(
        name,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        strategy="committee",
        instrument=INSTRUMENT,
        quantity=ONE // 100,
        limit_price=int(mid * Decimal("0.985")) * ONE,
        decision_mid=int(mid * ONE),
        time_in_force=TimeInForce.GTC,
        expires_at_ns=now_ns + 60 * NS_PER_S,
        decided_at_ns=now_ns,
        source="risk/of-this-test",
        generation=1,
        seq=now_ns,
        event_id=derive_id(name, "test", 0),
    )
    producer = Producer(client_settings(run.bootstrap))
    producer.produce(ORDER_APPROVED.name, CODEC.encode(ORDER_APPROVED.name, order), order.key.encode(), 0)
    assert producer.flush(30) == 0


@contextlib.contextmanager
def _standing_still(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_kill_needs_neither_kafka_nor_any_worker_but_the_executor(platform: Platform, real_kafka: RealKafka) -> None:
    run = platform
    run.start_all()
    run.until("a price", lambda: run.count("decisions WHERE mid IS NOT NULL") > 0)
    _approve(run, "before")
    run.until("an order that rests", lambda: _live(run) == ["before"])
    run.kill(*(name for name in run.workers if name != "execution"))
    with _standing_still(real_kafka.process.popen.pid):
        kill = Command("somebody", "it does what it should not", ControlAction.SET_LEVEL, level=Level.HALTED)
        insert_command(run.dsn, kill)
        run.until("its cancel", lambda: not _live(run), 20)
        known = [order.order_id for order in run.venue_orders()]
    for name in WORKERS:
        if name != "execution":
            run.start(name)
    # Risk hears of it for the first time.
    run.until("risk to hear of it", lambda: run.count("command_events") > 0)
    _approve(run, "after")
    run.until("a denial", lambda: run.count("orders WHERE status = 'DENIED'") > 0)
    ((reasons,),) = run.rows("SELECT deny_reasons FROM order_events WHERE order_id = 'after' AND status = 'DENIED'")
    assert "KILLED" in reasons
    assert [order.order_id for order in run.venue_orders()] == known, "after the kill nothing has left"
    _forge(run)
    _approve(run, "forged")
    run.until("another denial", lambda: run.count("orders WHERE status = 'DENIED'") > 1)
    assert [order.order_id for order in run.venue_orders()] == known, "a record on the topic lifts no kill"
    _lift(run)
    run.until("execution to say so", lambda: run.count("control_outcomes WHERE outcome = 'APPLIED'") > 0)
    _approve(run, "lifted")
    run.until("an order that rests again", lambda: _live(run) == ["lifted"])
    run.stop(*run.workers)


def _forge(run: Platform) -> None:
    """Write to the topic of commands, as whoever can, that all is well again, and that two people say so."""
    signed = tuple(Approval(person=name, signature="ab" * 64) for name in ("ann", "bob"))
    text = canonical_text(_reset(run))
    producer = Producer(client_settings(run.bootstrap))
    for number, (change, approvals) in enumerate((("", ()), (text, signed))):
        forged = ControlCommand(
            key=f"forged-{number}",
            event_time_ns=time.time_ns(),
            available_at_ns=time.time_ns(),
            command_id=f"forged-{number}",
            author="eve",
            reason="let me",
            action=ControlAction.SET_LEVEL,
            scope=ScopeKind.GLOBAL,
            target="*",
            level=Level.ACTIVE,
            ordinal=1_000_000 + number,
            change=change,
            approvals=approvals,
            source="control/of-this-test",
            generation=1,
            seq=number + 1,
            event_id=f"forged-{number}",
        )
        producer.produce(CONTROL.name, CODEC.encode(CONTROL.name, forged), forged.key.encode(), 0)
    assert producer.flush(30) == 0
    run.until("both to be heard", lambda: run.count("command_events WHERE author = 'eve'") == 2)


def _reset(run: Platform) -> Change:
    now_ns = time.time_ns()
    return Change(
        action=ControlAction.SET_LEVEL,
        scope=ScopeKind.GLOBAL,
        target="*",
        base=str(newest_command(run.dsn)),
        owner="ann",
        reason="looked at",
        proposed_at_ns=now_ns,
        expires_at_ns=now_ns + 60 * NS_PER_S,
        nonce="1",
        level=Level.ACTIVE,
    )


def _lift(run: Platform) -> None:
    """Let two people lift the kill."""
    text = canonical_text(_reset(run))
    keys = [load_personal_key(run.directory / f"{name}.key") for name in ("ann", "bob")]
    approvals = tuple(Approval(person=key.name, signature=key.sign(text)) for key in keys)
    reset = Command("ann", "looked at", ControlAction.SET_LEVEL, level=Level.ACTIVE, change=text, approvals=approvals)
    insert_command(run.dsn, reset)
