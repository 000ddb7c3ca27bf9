"""The reading commands, run as a user runs them: what they print, and how they end when there is nothing to say."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from every_event import example
from money_events import (
    ONE,
    PERP,
    SPOT,
    T0,
    account_mark,
    approved,
    decision,
    entry,
    fill,
    instrument,
    order_event,
    tally,
)
from typer.testing import CliRunner, Result

from agents.execution.ledger import TradeBooking, trade_entry
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from schemas.decisions import CheckResult, DecisionOutcome, DenyReason, NoTradeReason, OrderDenied, WithheldReason
from schemas.event import Event
from schemas.feedback import Experience, ExpertScore, TradeFeedback
from schemas.opinions import FeatureSnapshot, Vote
from schemas.orders import ExecType, OrderStatus, Position
from schemas.values import NS_PER_S, Leg, OrderType, Side, TimeInForce
from streams.cli_reads import app

pytestmark = pytest.mark.embedded
RUNNER = CliRunner()
CHECKS = (
    CheckResult(reason=DenyReason.PRICE_COLLAR, passed=True, observed="0.0012", limit="0.02"),
    CheckResult(reason=DenyReason.ORDER_VALUE_MAX, passed=True, observed="100", limit="10000"),
)


def a_traded_decision() -> list[Event]:
    """One decision with everything that led to it and came of it."""
    order = approved(
        "order-1", decision_id="decision-1", checks=CHECKS, event_id="verdict-1", limits_version="limits-7"
    )
    spoken = (
        msgspec.structs.replace(entry("momentum", 0.625, 0.125), evidence={"return_10s": 0.0004}),
        entry("anomaly", None, None),
    )
    steps = ((OrderStatus.PENDING_NEW, 0), (OrderStatus.NEW, 0), (OrderStatus.FILLED, ONE))
    return [
        example(FeatureSnapshot, event_id="snapshot-1", key=PERP, features={"spread": 2.5, "vpin": None}),
        example(Vote, event_id="vote-1", key=PERP, ballot_id="ballot-1", expert="momentum"),
        example(Vote, event_id="vote-2", key=PERP, ballot_id="ballot-1", expert="[bold]late[/bold]"),
        tally(1, entries=spoken, late=("[bold]late[/bold]",), context={"regime_trend": 0.75}),
        decision(0.5, edge=0.0009, cost=0.0004),
        order,
        *(
            order_event(order, status, filled_quantity=filled, event_id=f"oe-{number}", generation=1, seq=number)
            for number, (status, filled) in enumerate(steps)
        ),
        fill(1, Side.BUY, ONE, 101 * ONE, order_id="order-1"),
        example(
            TradeFeedback,
            event_id="feedback-1",
            entry_decision_id="decision-1",
            exit_decision_id="decision-9",
            net_pnl=Decimal("12.34"),
        ),
        example(Experience, event_id="experience-1", decision_id="decision-1", reward=Decimal("-0.75")),
        example(ExpertScore, event_id="score-1", ballot_id="ballot-1", expert="momentum"),
    ]


def a_denied_and_an_idle_decision() -> list[Event]:
    failed = CheckResult(reason=DenyReason.DRAWDOWN, passed=False, observed="0.12", limit="0.10")
    return [
        decision(-1.0, 2, at_ns=T0 + NS_PER_S),
        example(
            OrderDenied,
            event_id="denied-2",
            decision_id="decision-2",
            order_id="order-2",
            reasons=(DenyReason.DRAWDOWN,),
            checks=(failed,),
        ),
        decision(
            0.0, 3, at_ns=T0 + 2 * NS_PER_S, outcome=DecisionOutcome.NO_TRADE, reason=NoTradeReason.EDGE_BELOW_COST
        ),
    ]


def write(dsn: str, events: Sequence[Event]) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())


@pytest.fixture
def record(database: str) -> str:
    """The DSN of a record with three decisions."""
    migrate(database)
    write(database, [*a_traded_decision(), *a_denied_and_an_idle_decision()])
    return database


def ask(dsn: str, *arguments: str) -> Result:
    return RUNNER.invoke(app, [*arguments, "--dsn", dsn], env={"COLUMNS": "220"})


def asked_json(dsn: str, *arguments: str) -> Any:
    result = ask(dsn, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_why_prints_every_link_of_the_chain_in_order(record: str) -> None:
    result = ask(record, "why", "decision-1")
    assert result.exit_code == 0, result.output
    told = [
        *("features", "spread", "2.5", "votes and weights", "momentum", "0.625", "0.5", "return_10s", "tally"),
        *("closed by ALL", "regime_trend 0.75", "decision", "TARGET: target 0.5", "edge 0.0009", "risk checks"),
        *("APPROVED", "limits-7", "PRICE_COLLAR", "0.0012", "0.02", "ORDER_VALUE_MAX", "order-1: BUY 1"),
        *("PENDING_NEW", "NEW", "FILLED", "fills", "fill-1", "101", "feedback", "12.34", "reward -0.75"),
    ]
    position = 0
    for words in told:
        found = result.stdout.find(words, position)
        assert found >= 0, f"{words!r} is missing after {result.stdout[max(0, position - 60) : position]!r}"
        position = found


def test_a_vote_that_came_too_late_is_shown_and_markup_in_a_name_is_only_text(record: str) -> None:
    shown = ask(record, "why", "decision-1").stdout
    (line,) = [line for line in shown.splitlines() if line.strip().startswith("[bold]late[/bold]")]
    assert "too late" in line


def test_why_as_json_holds_the_whole_chain(record: str) -> None:
    chain = asked_json(record, "why", "decision-1")
    assert chain["decision"]["decision_id"] == "decision-1"
    assert chain["snapshot"]["features"] == {"spread": 2.5, "vpin": None}
    assert [check["reason"] for check in chain["verdicts"][0]["checks"]] == ["PRICE_COLLAR", "ORDER_VALUE_MAX"]
    assert [event["status"] for event in chain["order_events"]] == ["PENDING_NEW", "NEW", "FILLED"]
    assert chain["fills"][0]["price"] == "101"
    assert chain["fills"][0]["fee"] == "0.03"
    assert chain["feedback"][0]["net_pnl"] == "12.34"


def test_a_unique_beginning_or_an_order_id_is_enough(record: str) -> None:
    write(record, [decision(1.0, 0, event_id="f00dcafe", decision_id="f00dcafe")])
    assert asked_json(record, "why", "f00d")["decision"]["decision_id"] == "f00dcafe"
    assert asked_json(record, "why", "order-1")["decision"]["decision_id"] == "decision-1"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("deadbeef", "No decision or order in the record begins with 'deadbeef'."),
        ("decision-", "'decision-' is not unique: it could be decision-1, decision-2, decision-3."),
        ("d", "'d' is too short: give at least 4 characters of a decision's id."),
        ("x' OR 1=1", '"x\' OR 1=1" is not an id.'),
        ("%%%%", "'%%%%' is not an id."),
    ],
)
def test_an_unknown_id_is_one_sentence_and_exit_code_1(record: str, asked: str, sentence: str) -> None:
    result = ask(record, "why", asked)
    assert (result.exit_code, result.stderr, result.stdout) == (1, sentence + "\n", "")


def test_a_denied_decision_says_which_check_failed_and_that_there_was_no_order(record: str) -> None:
    shown = ask(record, "why", "decision-2").stdout
    assert "DENIED for DRAWDOWN" in shown
    assert "There was no order." in shown
    assert "The tally is not in the record." in shown


def test_an_idle_decision_says_why_nothing_was_done(record: str) -> None:
    shown = ask(record, "why", "decision-3").stdout
    assert "NO_TRADE because of EDGE_BELOW_COST" in shown
    assert "Risk was not asked" in shown


def test_a_decision_of_the_fallback_says_which_model_was_not_asked_and_why(record: str) -> None:
    withheld = {"policy": "baseline", "withheld": "swan", "withheld_for": WithheldReason.OUTSIDE_TRAINING}
    write(record, [decision(0.0, 4, event_id="decision-4", decision_id="decision-4", instrument=SPOT, **withheld)])
    shown = " ".join(ask(record, "why", "decision-4").stdout.split())
    assert f"swan is in force and was not asked: OUTSIDE_TRAINING, it was not trained on {SPOT}" in shown
    assert "is in force" not in ask(record, "why", "decision-3").stdout
    (row,) = asked_json(record, "decisions", "--instrument", SPOT)
    assert (row["policy"], row["withheld"], row["withheld_for"]) == ("baseline", "swan", "OUTSIDE_TRAINING")


def test_decisions_can_be_narrowed_down(record: str) -> None:
    assert [row["decision_id"] for row in asked_json(record, "decisions")] == ["decision-3", "decision-2", "decision-1"]
    assert [row["decision_id"] for row in asked_json(record, "decisions", "--outcome", "no_trade")] == ["decision-3"]
    assert [row["decision_id"] for row in asked_json(record, "decisions", "--limit", "1")] == ["decision-3"]
    assert asked_json(record, "decisions", "--instrument", SPOT) == []
    assert "There is no such decision." in ask(record, "decisions", "--reason", "LEVEL").stdout


def test_orders_show_their_newest_state_and_open_ones_can_be_asked_for(record: str) -> None:
    (order,) = asked_json(record, "orders")
    assert (order["status"], order["filled_quantity"], order["decision_id"]) == ("FILLED", "1", "decision-1")
    assert asked_json(record, "orders", "--open") == []
    resting = approved("order-5", decision_id="decision-2")
    write(record, [order_event(resting, OrderStatus.NEW, event_id="oe-9", generation=1, seq=9)])
    assert [row["order_id"] for row in asked_json(record, "orders", "--open")] == ["order-5"]


def test_a_decision_that_changed_an_order_leads_to_it_and_to_what_became_of_the_change(record: str) -> None:
    order = approved("order-8", decision_id="decision-8", event_id="verdict-8", time_in_force=TimeInForce.GTC)
    change = approved("change-9", decision_id="decision-9", event_id="verdict-9", amends="order-8", quantity=2 * ONE)
    told = {"amend_id": "change-9", "exec_type": ExecType.REPLACED, "quantity": 2 * ONE, "event_id": "oe-9"}
    events = [
        decision(0.5, 8, at_ns=T0 + 8 * NS_PER_S),
        decision(0.8, 9, at_ns=T0 + 9 * NS_PER_S),
        order,
        change,
        order_event(order, OrderStatus.NEW, event_id="oe-8", generation=1, seq=8),
        order_event(order, OrderStatus.NEW, generation=1, seq=9, **told),
    ]
    write(record, events)
    chain = asked_json(record, "why", "decision-9")
    assert [verdict["amends"] for verdict in chain["verdicts"]] == ["order-8"]
    assert [row["order_id"] for row in chain["orders"]] == ["order-8"]
    assert [(row["exec_type"], row["amend_id"], row["quantity"]) for row in chain["order_events"]] == [
        ("REPLACED", "change-9", "2")
    ]


def test_a_stop_is_shown_with_its_price_what_it_is_for_and_the_order_that_it_protects(record: str) -> None:
    protects: dict[str, Any] = {"leg": Leg.STOP_LOSS, "parent_order_id": "order-1", "stop_price": 98 * ONE}
    stop = approved(
        "order-7",
        decision_id="decision-1",
        event_id="verdict-7",
        side=Side.SELL,
        order_type=OrderType.STOP,
        time_in_force=TimeInForce.GTC,
        limit_price=97 * ONE,
        **protects,
    )
    told = order_event(stop, OrderStatus.NEW, event_id="oe-7", generation=1, seq=7, **protects)
    write(record, [stop, told])
    (row,) = asked_json(record, "orders", "--open")
    assert (row["order_type"], row["stop_price"], row["limit_price"]) == ("STOP", "98", "97")
    assert (row["leg"], row["parent_order_id"]) == ("STOP_LOSS", "order-1")
    shown = ask(record, "why", "order-7").stdout
    assert "SELL 1 STOP at 97 GTC" in " ".join(shown.split())
    assert shown.count("from 98, STOP_LOSS of order-1") == 2, "in the verdict and in the order"


def test_positions_and_pnl_are_exact_to_the_last_place(record: str) -> None:
    position = example(Position, account="main", strategy="alpha", instrument=PERP, quantity=-ONE // 2)
    marks = [
        account_mark(
            T0 + number * NS_PER_S,
            generation=1,
            seq=number,
            funding=Decimal("0.5"),
            fees=Decimal(number),
            realised_pnl=Decimal("10.000000000000000001"),
            unrealised_pnl=Decimal(-3),
            equity=Decimal(9_000),
        )
        for number in (2, 1)
    ]
    write(record, [position, *marks])
    (row,) = asked_json(record, "positions")
    assert (row["quantity"], row["mid"], row["unrealised_pnl"]) == ("-0.5", "100", "-3")
    found = asked_json(record, "pnl")
    (line,) = found["lines"]
    assert line["net_pnl"] == "4.000000000000000001", "10.000000000000000001 - 3 - fees 2 - funding 2 x 0.5"
    assert (line["fills"], line["slippage"]) == (1, "1")
    (account,) = found["accounts"]
    assert (account["equity"], account["drawdown"]) == ("9000", "0.1")
    assert "-0.5" in ask(record, "positions").stdout
    assert "9,000.00" in ask(record, "pnl").stdout
    write(record, [example(Position, account="main", strategy="alpha", instrument=PERP, quantity=0, generation=9)])
    assert asked_json(record, "positions") == []
    assert len(asked_json(record, "positions", "--flat")) == 1


def test_profit_and_positions_are_summed_by_account_strategy_or_instrument(record: str) -> None:
    """Two accounts, two strategies, two instruments: each sum is worked out here from the lines themselves."""
    slots = [("main", "alpha", PERP), ("main", "beta", PERP), ("main", "beta", SPOT), ("second", "gamma", SPOT)]
    events: list[Event] = []
    for number, (account, strategy, name) in enumerate(slots, 1):
        slot = {"account": account, "strategy": strategy, "instrument": name, "seq": number}
        changes = {"realised_pnl": Decimal(10**number), "fees": Decimal(number), "funding": Decimal("0.5")}
        events.append(account_mark(T0, **slot, **changes, unrealised_pnl=Decimal(-3), event_id=f"mark-{number}"))
        quantity = ONE * (number if number != 2 else -3)
        events.append(example(Position, **slot, quantity=quantity, event_id=f"position-{number}"))
    write(record, events)
    lines = asked_json(record, "pnl")["lines"]
    assert len(lines) == len(slots)
    for by in ("account", "strategy", "instrument"):
        summed = asked_json(record, "pnl", "--by", by)["lines"]
        assert [row[by] for row in summed] == sorted({line[by] for line in lines})
        for row in summed:
            mine = [line for line in lines if line[by] == row[by]]
            for name in ("realised_pnl", "unrealised_pnl", "fees", "funding", "net_pnl", "slippage"):
                assert Decimal(row[name]) == sum(Decimal(line[name]) for line in mine), (by, name)
    assert {row["instrument"]: row["quantity"] for row in asked_json(record, "positions", "--by", "instrument")} == {
        PERP: "-2",
        SPOT: "7",
    }
    held = {
        (row["account"], row["instrument"]): row["quantity"]
        for row in asked_json(record, "positions", "--by", "account")
    }
    assert held == {("main", PERP): "-2", ("main", SPOT): "3", ("second", SPOT): "4"}
    assert len(asked_json(record, "positions", "--by", "strategy")) == len(slots)
    assert ask(record, "pnl", "--by", "colour").exit_code == 2


def test_the_trial_balance_sums_to_zero_until_a_line_is_changed(record: str) -> None:
    lines = trade_entry(
        instrument(SPOT),
        "alpha",
        TradeBooking(
            signed_quantity=ONE, notional=Decimal(100), realised_pnl=Decimal(0), fee=Decimal("0.1"), fee_currency="USD"
        ),
    )
    slot = {"account": "main", "strategy": "alpha", "instrument": SPOT}
    bought = fill(9, Side.BUY, ONE, 100 * ONE, instrument=SPOT, postings=lines, event_id="f9", seq=9)
    write(record, [bought, example(Position, **slot, quantity=ONE, event_id="p9", seq=9)])
    told = ask(record, "ledger", "--json")
    assert told.exit_code == 0, told.output
    balances = {(row["ledger_account"], row["asset"]): row["amount"] for row in json.loads(told.stdout)["balances"]}
    assert balances["cash", "USD"] == "-100.1"
    assert balances["inventory/alpha", "ETH"] == "1"
    assert sum(Decimal(amount) for (_, asset), amount in balances.items() if asset == "USD") == 0
    with psycopg.connect(record) as connection:
        connection.execute("UPDATE ledger SET amount = amount + 1 WHERE ledger_account = 'cash'")
    broken = ask(record, "ledger")
    assert broken.exit_code == 1
    assert "trial balance" in broken.stdout
    assert "main|USD" in broken.stdout


@pytest.mark.parametrize("command", [["why", "decision-1"], ["positions"], ["pnl"], ["orders"]])
def test_without_a_database_it_is_one_sentence_and_exit_code_2(command: list[str]) -> None:
    result = ask("host=127.0.0.1 port=1 connect_timeout=1", *command)
    assert result.exit_code == 2
    assert result.stderr.startswith("The database cannot be reached: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_database_without_our_tables_is_one_sentence_and_exit_code_2(empty_database: str) -> None:
    result = ask(empty_database, "positions")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "The database holds no TraderMind record; has a run been started on it?\n"


def test_nothing_can_be_changed_through_a_reading_command(record: str) -> None:
    from infra.postgres.queries import open_record

    with open_record(record) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM decisions")


def test_the_newest_run_is_read_when_none_is_named(
    record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = RUNNER.invoke(app, ["positions"])
    assert nothing.exit_code == 2
    assert nothing.stderr.startswith("No run is known here")
    run = tmp_path / ".run" / "latest"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"overrides": {"postgres.dsn": record}}))
    assert RUNNER.invoke(app, ["orders"]).exit_code == 0
    assert RUNNER.invoke(app, ["orders", "--run", str(run)]).exit_code == 0
    missing = RUNNER.invoke(app, ["orders", "--run", str(tmp_path / "none")])
    assert (missing.exit_code, missing.stderr.startswith("There is no run in")) == (2, True)
    (run / "run.json").write_text("{}")
    broken = RUNNER.invoke(app, ["orders"])
    assert (broken.exit_code, broken.stderr) == (2, ".run/latest/run.json does not describe a run.\n")


def test_the_database_of_a_run_that_has_ended_is_started_for_the_question(tmp_path: Path) -> None:
    from infra.servers.postgres import start_postgres

    server = start_postgres(tmp_path)
    try:
        migrate(server.dsn)
        write(server.dsn, a_traded_decision())
        (tmp_path / "run.json").write_text(json.dumps({"overrides": {"postgres.dsn": server.dsn}}))
    finally:
        server.stop()
    result = RUNNER.invoke(app, ["orders", "--run", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    assert [row["order_id"] for row in json.loads(result.stdout)] == ["order-1"]
    assert not (tmp_path / "postgres" / "postmaster.pid").exists(), "it was stopped again"
