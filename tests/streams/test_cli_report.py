"""``tradermind report self-assessment``: every figure is counted from the signed audit, and from nothing else."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from audit_stories import KEYS
from money_events import T0, approved, command, fill, order_event, reset
from typer.testing import CliRunner, Result

from infra.postgres.audit_chain import AuditChain
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.control import ControlAction
from schemas.decisions import CheckResult, DenyReason, OrderDenied
from schemas.orders import ExecType, OrderStatus
from schemas.values import Level, Side
from streams.cli_report import app

RUNNER = CliRunner()
R = DenyReason


def _denied(name: str, *reasons: DenyReason) -> OrderDenied:
    checks = tuple(CheckResult(reason=reason, passed=False, observed="2", limit="1") for reason in reasons)
    order = approved(name)
    return OrderDenied(
        key="main",
        event_time_ns=T0,
        available_at_ns=T0,
        event_id=f"denied-{name}",
        order_id=name,
        decision_id=f"d-{name}",
        account="main",
        strategy="alpha",
        instrument=order.instrument,
        side=Side.BUY,
        quantity=order.quantity,
        target=1.0,
        reasons=reasons,
        limits_version="v1",
        checks=checks,
    )


def _story() -> list[Any]:
    first, second = approved("a", event_id="ok-a"), approved("b", event_id="ok-b", limits_version="v2")
    sent = {"exec_type": ExecType.PENDING_NEW, "generation": 1}
    refused = {"exec_type": ExecType.DENIED, "deny_reasons": (R.KILLED, R.MSG_RATE), "generation": 1}
    return [
        first,
        second,
        approved("c", event_id="only-cancels", quantity=0, cancels=("a",)),
        _denied("x", R.PRICE_COLLAR, R.MSG_RATE),
        _denied("y", R.MSG_RATE),
        order_event(first, OrderStatus.PENDING_NEW, event_id="e1", seq=1, **sent),
        order_event(first, OrderStatus.UNKNOWN, event_id="e2", seq=2, exec_type=ExecType.TIMED_OUT, generation=1),
        order_event(first, OrderStatus.UNKNOWN, event_id="e3", seq=3, exec_type=ExecType.STATUS, generation=1),
        order_event(first, OrderStatus.REJECTED, event_id="e4", seq=4, exec_type=ExecType.REJECTED, generation=1),
        order_event(second, OrderStatus.DENIED, event_id="e5", seq=5, **refused),
        fill(1, Side.BUY, 1, 1, generation=1, seq=6),
        command(ControlAction.SET_LEVEL, level=Level.HALTED, reason="too fast"),
        reset(Level.ACTIVE),
    ]


@pytest.fixture
def audited(database: str) -> str:
    """A record whose audit has the story above."""
    migrate(database)

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await Projections(connection, AuditChain(KEYS, None)).write(_story())

    asyncio.run(write())
    return database


def _report(dsn: str, *options: str) -> Result:
    return RUNNER.invoke(app, ["self-assessment", "--dsn", dsn, *options])


def test_every_figure_is_that_of_the_audit(audited: str) -> None:
    found = json.loads(_report(audited, "--json").stdout)
    assert found["orders"] == {
        "approved": 2,
        "denied_by_risk": 2,
        "denied_by_execution": 1,
        "sent": 1,
        "rejected_by_venue": 1,
        "once_unknown": 1,
        "fills": 1,
    }
    assert found["reasons"] == [
        {"reason": "KILLED", "by_risk": 0, "by_execution": 1},
        {"reason": "MSG_RATE", "by_risk": 2, "by_execution": 1},
        {"reason": "PRICE_COLLAR", "by_risk": 1, "by_execution": 0},
    ]
    assert set(found["reasons_never_given"]) == set(DenyReason) - {R.KILLED, R.MSG_RATE, R.PRICE_COLLAR}
    assert {(row["version"], row["orders"]) for row in found["limits"]} == {("v", 2), ("v2", 1), ("v1", 2)}
    ordered, reset_by_two = found["people"]
    assert (ordered["author"], ordered["level"], ordered["reason"]) == ("ann", "HALTED", "too fast")
    assert (reset_by_two["outcome"], reset_by_two["approved_by"]) == ("APPLIED", "ann, bob")
    assert {row["stream"]: row["rows"] for row in found["streams"]} == {"commands": 2, "orders": 11}


def test_what_was_changed_elsewhere_changes_nothing_here(audited: str) -> None:
    before = _report(audited, "--json", "--from", "0", "--to", "9000000000000000000").stdout
    with psycopg.connect(audited) as connection:
        connection.execute("DELETE FROM order_verdicts")
        connection.execute("DELETE FROM fills")
    assert _report(audited, "--json", "--from", "0", "--to", "9000000000000000000").stdout == before


def test_people_read_tables_and_where_to_look_further(audited: str) -> None:
    told = _report(audited).stdout
    for part in ("Refused by the controls", "MSG_RATE", "too fast", "docs/controls.md", "tradermind audit verify"):
        assert part in told


def test_a_time_of_which_nothing_is_audited_is_said_so(audited: str) -> None:
    result = _report(audited, "--from", "0", "--to", "1970-01-02")
    assert (result.exit_code, result.stderr) == (1, "Nothing was audited in that time.\n")
    result = _report(audited, "--from", "yesterday")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
