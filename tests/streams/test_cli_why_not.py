"""Why there was no trade: the newest decision by then, what was in force, and what was refused, as a user asks it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from every_event import example
from money_events import ONE, PERP, T0, approved, decision, entry, fill, order_event, tally
from typer.testing import CliRunner, Result

from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.changes import ControlOutcome, OutcomeKind
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.decisions import CheckResult, DecisionOutcome, DenyReason, NoTradeReason, OrderDenied
from schemas.event import Event
from schemas.opinions import AlertLevel, AnomalyAlert, Vote
from schemas.orders import OrderStatus
from schemas.values import NS_PER_S, Level, Side
from streams.cli import app

pytestmark = pytest.mark.embedded
RUNNER = CliRunner()
DENIED = CheckResult(reason=DenyReason.DRAWDOWN, passed=False, observed="0.12", limit="0.10")


def at(seconds: float) -> int:
    return T0 + int(seconds * NS_PER_S)


def level(name: Level, seconds: float, scope: ScopeKind = ScopeKind.GLOBAL, target: str = "*") -> Event:
    facts = {"scope": scope, "target": target, "level": name, "action": ControlAction.SET_LEVEL, "author": "ann"}
    name_ = f"c{seconds}"
    return example(ControlCommand, event_id=name_, command_id=name_, available_at_ns=at(seconds), **facts)


def no_trade(number: int, seconds: float, reason: NoTradeReason, **changes: Any) -> Event:
    return decision(0.0, number, at_ns=at(seconds), outcome=DecisionOutcome.NO_TRADE, reason=reason, **changes)


def story() -> list[Event]:
    """Five seconds of one line: too little edge, a halt, a denial, a trade, and an alert; and another strategy."""
    first = msgspec.structs.replace(entry("momentum", 0.625, 0.125), evidence={"return_10s": 0.0004})
    order = approved("order-4", decision_id="decision-4", event_id="verdict-4", available_at_ns=at(4.1))
    return [
        tally(1, entries=(first,)),
        example(Vote, event_id="vote-1", key=PERP, ballot_id="ballot-1", expert="momentum", available_at_ns=at(0)),
        no_trade(1, 0, NoTradeReason.EDGE_BELOW_COST, edge=0.0001, cost=0.0004),
        level(Level.HALTED, 1.5),
        no_trade(2, 2, NoTradeReason.LEVEL),
        level(Level.ACTIVE, 2.5),
        decision(-1.0, 3, at_ns=at(3)),
        example(
            OrderDenied,
            event_id="denied-3",
            decision_id="decision-3",
            order_id="order-3",
            reasons=(DenyReason.DRAWDOWN,),
            checks=(DENIED,),
            available_at_ns=at(3.1),
        ),
        decision(1.0, 4, at_ns=at(4)),
        order,
        order_event(order, OrderStatus.NEW, event_id="oe-1", generation=1, seq=1, available_at_ns=at(4.2)),
        fill(1, Side.BUY, ONE, 100 * ONE, order_id="order-4", decision_id="decision-4", available_at_ns=at(4.3)),
        example(AnomalyAlert, event_id="a", key=PERP, level=AlertLevel.HIGH, kind="JUMP", available_at_ns=at(5)),
        no_trade(5, 6, NoTradeReason.ALERT),
    ]


def write(dsn: str, events: Sequence[Event]) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())


@pytest.fixture
def record(database: str) -> str:
    """The DSN of the record of the story."""
    migrate(database)
    write(database, story())
    return database


def ask(dsn: str, *arguments: str) -> Result:
    return RUNNER.invoke(app, ["why-not", *arguments, "--dsn", dsn], env={"COLUMNS": "200"})


def slots(dsn: str, seconds: float, *more: str) -> list[dict[str, Any]]:
    result = ask(dsn, PERP, "--at", str(at(seconds)), "--json", *more)
    assert result.exit_code == 0, result.output
    answer: list[dict[str, Any]] = json.loads(result.stdout)
    return answer


def test_the_decider_wanted_none_and_its_tally_and_votes_are_there(record: str) -> None:
    (slot,) = slots(record, 1)
    assert slot["because"].startswith("The decider wanted none: EDGE_BELOW_COST.")
    assert (slot["level"], slot["levels"], slot["age_ns"]) == ("ACTIVE", [], NS_PER_S)
    assert slot["chain"]["tally"]["event_id"] == slot["chain"]["decision"]["tally_id"]
    assert [vote["expert"] for vote in slot["chain"]["votes"]] == ["momentum"]


def test_the_level_in_force_at_that_time_counts_and_not_the_one_of_today(record: str) -> None:
    (halted,) = slots(record, 2.2)
    assert (halted["level"], halted["levels"][0]["author"]) == ("HALTED", "ann")
    assert "wanted none: LEVEL. The level in force was HALTED." in halted["because"]
    (lifted,) = slots(record, 2.6)
    assert (lifted["level"], lifted["levels"][0]["level"]) == ("ACTIVE", "ACTIVE")


def test_a_denied_order_names_its_reasons(record: str) -> None:
    (slot,) = slots(record, 3.5)
    assert slot["because"].startswith("Risk denied the order: DRAWDOWN.")
    assert slot["chain"]["verdicts"][0]["checks"][0]["limit"] == "0.10"
    (before,) = slots(record, 3.05)
    assert before["because"].startswith("The decider wanted a trade; risk made no order of it")


def test_an_order_that_had_no_fill_yet_and_a_trade_are_told_apart(record: str) -> None:
    (approved_only,) = slots(record, 4.15)
    assert "execution had not taken up" in approved_only["because"]
    (working,) = slots(record, 4.25)
    assert working["because"].startswith("The order order-4 was NEW") and not working["traded"]
    (traded,) = slots(record, 4.5)
    assert traded["because"].startswith("There was a trade: 1 fills") and traded["traded"]


def test_a_high_alert_restricts_its_instrument(record: str) -> None:
    (slot,) = slots(record, 6.5)
    assert (slot["level"], slot["levels"][-1]["scope"]) == ("REDUCING", "ALERT")
    assert "JUMP" in slot["levels"][-1]["reason"]


def test_an_old_decision_is_called_old(record: str) -> None:
    (slot,) = slots(record, 60)
    assert slot["stale"] and "s old, and no later one is in the record" in slot["because"]


def test_commands_at_other_accounts_do_not_count(record: str) -> None:
    write(record, [level(Level.HALTED, 6.1, ScopeKind.ACCOUNT, "another")])
    (slot,) = slots(record, 6.5)
    assert slot["level"] == "REDUCING"


def test_a_lift_that_was_refused_lifts_nothing(record: str) -> None:
    lift = level(Level.ACTIVE, 2.1)
    assert isinstance(lift, ControlCommand)
    refused = {"outcome": OutcomeKind.REFUSED, "command_id": lift.command_id, "available_at_ns": at(2.15)}
    write(record, [lift, example(ControlOutcome, **refused)])
    (slot,) = slots(record, 2.2)
    assert (slot["level"], slot["levels"][0]["author"]) == ("HALTED", "ann")


def test_a_restore_keeps_an_account_in_reducing_until_a_person_lifts_it(record: str) -> None:
    with psycopg.connect(record) as connection:
        connection.execute(
            "INSERT INTO restores (step, era, cluster_id, report, author, why, finished_at)"
            " VALUES ('DONE', 7, 'c', '{\"reducing\": [\"main\"]}', 'cy', 'the disk broke', ns_to_time(%s))",
            (at(0.5),),
        )
    (slot,) = slots(record, 1)
    assert (slot["level"], slot["levels"][0]["scope"]) == ("REDUCING", "RESTORE")
    write(record, [level(Level.ACTIVE, 0.75, ScopeKind.ACCOUNT, "main")])
    (lifted,) = slots(record, 1)
    assert lifted["level"] == "ACTIVE"


def test_each_strategy_is_told_of_and_advice_and_shadows_are_not(record: str) -> None:
    write(
        record,
        [
            no_trade(6, 5, NoTradeReason.WARMING_UP, strategy="pulse"),
            no_trade(7, 6.1, NoTradeReason.WARMING_UP, strategy="new", policy_stage="SHADOW"),
            decision(0.5, 8, at_ns=at(6.2), outcome=DecisionOutcome.ADVICE),
        ],
    )
    told = {slot["strategy"]: slot["chain"]["decision"]["event_id"] for slot in slots(record, 6.5)}
    assert set(told.values()) == {"decision-5", "decision-6"}
    assert [slot["strategy"] for slot in slots(record, 6.5, "--strategy", "pulse")] == ["pulse"]


def test_a_person_reads_the_sentence_first_and_the_chain_after_it(record: str) -> None:
    result = ask(record, PERP, "--at", "2023-11-14T22:13:23.5")
    assert result.exit_code == 0, result.output
    assert result.stdout.index("Risk denied the order: DRAWDOWN.") < result.stdout.index("risk checks")


def test_what_has_no_answer_ends_with_its_code_and_one_sentence(record: str) -> None:
    for arguments, code, said in (
        ((PERP, "--at", str(T0 - 1)), 1, "no decision on"),
        (("SIM:NONE", "--at", str(T0)), 1, "no decision on"),
        ((PERP, "--at", str(T0), "--account", "nobody"), 1, "Nobody who was asked for"),
        ((PERP, "--at", "yesterday"), 2, "is no time"),
    ):
        result = ask(record, *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.output
        assert said in result.stderr
