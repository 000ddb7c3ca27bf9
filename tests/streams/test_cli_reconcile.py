"""``tradermind reconcile`` on the record of a simulated day: difference 0, and one changed row is that row."""

import asyncio
import functools
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec.structs import force_setattr, replace
from psycopg.rows import dict_row
from typer import Typer
from typer.testing import CliRunner, Result
from venue_trading import FAULTS, Trading, simulated, trade

from agents.execution.reconciliation_state import BookDifference, Doubt, ReconciliationState, VenueStanding
from agents.sim.venue_record import encode_batch
from agents.sim.venue_state import VenueChanges
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from infra.postgres.queries_statement import book_faults, our_statement
from infra.venues.account import AccountStatement
from infra.venues.account_compare import differences
from schemas.event import Event
from schemas.orders import AccountMark, Fill, OrderEvent, Position
from schemas.values import NS_PER_S
from streams import cli_reads
from streams.cli_reconcile import reconcile
from streams.exchange_statement import EndedExchange, statement_of

RUNNER = CliRunner()
APP = Typer()
APP.command()(reconcile)
ROOT = Path(__file__).resolve().parents[2]
TOLD = (OrderEvent, Fill, Position, AccountMark)


def _write(dsn: str, events: Sequence[Event]) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())


@functools.cache
def _a_day(seed: int) -> Trading:
    """Trade with faults, funding every ten seconds, until nothing is on its way; every instrument is marked last."""
    trading = simulated(seed, FAULTS, funding_interval_ns=10 * NS_PER_S)
    trade(trading, 250)
    for key in trading.desk.config.instruments:
        trading.follow(trading.desk.mark(key, trading.engine.mid(key)))
    return trading


@pytest.fixture
def day(database: str, tmp_path: Path) -> tuple[str, Path, Trading]:
    """The DSN of a record, the directory of the run that it is of, and what was traded."""
    migrate(database)
    trading = _a_day(5)
    events: list[Event] = [item for item in trading.desk.events if isinstance(item, TOLD)]
    defined = list(trading.desk.config.instruments.values())
    for number, event in enumerate([*defined, *events]):
        force_setattr(event, "seq", number)
        if not event.event_id:
            force_setattr(event, "event_id", f"defined-{number}")
    _write(database, [*defined, *events])
    changes = VenueChanges()
    changes.orders = trading.venue.state.orders
    (tmp_path / "exchange.record").write_bytes(encode_batch(trading.venue.state, changes, {}))
    (tmp_path / "exchange.json").write_text('{"name": "SIM/5"}')
    overrides = {"postgres.dsn": database, "venue.url": "http://127.0.0.1:9"}
    (tmp_path / "run.json").write_text(json.dumps({"overrides": overrides}))
    return database, tmp_path, trading


def _ask(directory: Path, *more: str) -> Result:
    return RUNNER.invoke(APP, ["--run", str(directory), *more], env={"COLUMNS": "200"})


def _told(directory: Path) -> dict[str, Any]:
    result = _ask(directory, "--json")
    assert result.exit_code in (0, 1), result.output
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == bool(told["difference"])
    return told


def test_a_day_of_faults_and_funding_has_a_difference_of_zero(day: tuple[str, Path, Trading]) -> None:
    _, directory, trading = day
    told = _told(directory)
    assert told["differences"] == []
    assert told["compared"]["orders"] == len(trading.venue.state.orders) > 50
    orders = trading.venue.state.orders.values()
    fills = sum(not fill.busted for order in orders for fill in order.fills)
    assert told["compared"]["fills"] == fills > 50
    assert trading.venue.state.accounts["main"].funding["USD"] != 0
    assert told["compared"]["funding"] == 1
    result = _ask(directory)
    assert result.exit_code == 0
    assert "difference 0" in result.stdout
    assert "the exchange has ended" in result.stdout


CHANGES = {
    "an order's status": ("UPDATE orders SET status = 'UNKNOWN' WHERE order_id = '{order}'", "order {order} status"),
    "an order": ("DELETE FROM orders WHERE order_id = '{order}'", "order {order} "),
    "a fill's price": ("UPDATE fills SET price = price + 0.00000001 WHERE fill_id = '{fill}'", "fill {fill} price"),
    "a fill's fee": ("UPDATE fills SET fee = fee + 1e-18 WHERE fill_id = '{fill}'", "fill {fill} fee"),
    "a fill": ("DELETE FROM fills WHERE fill_id = '{fill}'", "fill {fill} "),
    "a position": (
        "UPDATE positions SET quantity = quantity + 0.00000001 WHERE (account, strategy, instrument) IN"
        " (SELECT account, strategy, instrument FROM positions WHERE instrument = 'SIM:BTCUSD'"
        " ORDER BY 1, 2, 3 LIMIT 1)",
        "position main|SIM:BTCUSD ",
    ),
    "cash in the ledger": (
        "UPDATE ledger SET amount = amount + 1e-18 WHERE (event_id, line) IN"
        " (SELECT event_id, line FROM ledger WHERE ledger_account = 'cash' ORDER BY 1, 2 LIMIT 1)",
        "cash main|USD ",
    ),
    "funding in the ledger": (
        "UPDATE ledger SET amount = amount + 1e-18 WHERE (event_id, line) IN (SELECT event_id, line FROM ledger"
        " WHERE ledger_account LIKE 'expense/funding/%' ORDER BY 1, 2 LIMIT 1)",
        "funding main|USD ",
    ),
}


def _keep(dsn: str, clean_at_ns: int, *missing: BookDifference) -> None:
    standing = VenueStanding(instruments=["SIM:BTCUSD"], attempt=3, answered=2, differences=list(missing))
    state = ReconciliationState(epoch=4, began_at_ns=NS_PER_S, venues={"SIM": standing}, clean_at_ns=clean_at_ns)
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM shard_state WHERE stage = 'execution'")
        connection.execute(
            "INSERT INTO shard_state (stage, shard, key, value) VALUES ('execution', '0', 'reconciliation', %s)",
            (msgspec.msgpack.encode(state),),
        )


def test_what_execution_still_waits_for_is_listed_beside_and_is_no_success(day: tuple[str, Path, Trading]) -> None:
    dsn, directory, _ = day
    assert _told(directory)["start_up"] is None, "nobody has claimed the shard of this record"
    item = BookDifference(kind=Doubt.ORPHAN_ORDER, instrument="SIM:BTCUSD", name="o7", theirs="BUY 1 NEW")
    _keep(dsn, 0, item)
    asked = _ask(directory)
    assert asked.exit_code == 1
    assert "NOT reconciled under epoch 4 since 1970-01-01T00:00:01+00:00 (SIM asked 3 times)" in asked.stdout
    assert "ORPHAN_ORDER" in asked.stdout
    told = json.loads(_ask(directory, "--json").stdout)["start_up"]
    assert (told["clean"], [one["name"] for one in told["missing"]]) == (False, ["o7"])
    listed = RUNNER.invoke(cli_reads.app, ["orders", "--run", str(directory)])
    assert listed.exit_code == 0
    assert "nothing new is traded" in listed.stderr
    foreign = BookDifference(kind=Doubt.FOREIGN_ORDER, instrument="SIM:BTCUSD", name="web_1", theirs="BUY 1 NEW")
    _keep(dsn, 5 * NS_PER_S, foreign)
    asked = _ask(directory)
    assert asked.exit_code == 0
    assert "web_1" in asked.stdout, "another's order is told of all the same"
    assert "nothing new" not in RUNNER.invoke(cli_reads.app, ["orders", "--run", str(directory)]).stderr


def test_any_one_changed_row_is_named_with_both_sides(day: tuple[str, Path, Trading]) -> None:
    dsn, _, trading = day
    theirs = statement_of(trading.venue.state)
    order = next(order for order in trading.venue.state.orders.values() if order.fills and not order.fills[0].busted)
    names = {"order": order.order_id, "fill": order.fills[0].fill_id}
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        for statement, expected in CHANGES.values():
            assert connection.execute(statement.format(**names).encode()).rowcount == 1
            found = [*book_faults(connection), *differences(our_statement(connection), theirs)]
            named = {f"{item.what} {item.name} {item.field}": item for item in found}
            assert expected.format(**names) in named, found
            assert all(item.ours != item.theirs for item in found)
            connection.rollback()


def test_a_changed_row_is_listed_and_the_exit_code_is_1(day: tuple[str, Path, Trading]) -> None:
    dsn, directory, trading = day
    order = next(order for order in trading.venue.state.orders.values() if order.fills and not order.fills[0].busted)
    fill = order.fills[0]
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE fills SET quantity = quantity + 0.00000001 WHERE fill_id = %s", (fill.fill_id,))
    told = _told(directory)
    (found,) = [item for item in told["differences"] if item["what"] == "fill"]
    assert (found["name"], found["field"]) == (fill.fill_id, "quantity")
    assert Decimal(found["ours"]) - Decimal(found["theirs"]) == Decimal("0.00000001")
    result = _ask(directory)
    assert result.exit_code == 1
    assert f"difference {told['difference']}" in result.stdout
    assert fill.fill_id in result.stdout


def test_what_the_venue_has_and_we_have_not_is_found(day: tuple[str, Path, Trading]) -> None:
    _, directory, trading = day
    theirs = statement_of(trading.venue.state)
    # The record on disk gives what the living venue states.
    stored = asyncio.run(EndedExchange(directory / "exchange.record", "SIM/5").account_statement())
    assert differences(stored, theirs) == []
    assert msgspec.json.decode(msgspec.json.encode(theirs), type=AccountStatement) == theirs
    order = next(iter(trading.venue.state.orders.values()))
    stranger = replace(order, order_id="stranger", fills=[])
    state = replace(trading.venue.state, orders=trading.venue.state.orders | {"stranger": stranger})
    changes = VenueChanges()
    changes.orders = state.orders
    (directory / "exchange.record").write_bytes(encode_batch(state, changes, {}))
    (found,) = _told(directory)["differences"]
    assert (found["what"], found["name"], found["ours"]) == ("order", "stranger", None)


def test_what_was_sent_to_binance_is_compared_with_binance_by_the_settings(
    day: tuple[str, Path, Trading], tmp_path: Path
) -> None:
    """Binance cannot be reached here, and is asked only once an order of ours is its: then nothing is said."""
    dsn, directory, trading = day
    toml = (ROOT / "tradermind.toml").read_text()
    keys = {name: tmp_path / name for name in ("key", "secret")}
    for file in keys.values():
        file.write_text("x" * 64)
        file.chmod(0o600)
    section = f'[venues.binance]\napi_key_file = "{keys["key"]}"\nsecret_file = "{keys["secret"]}"\n'
    settings = tmp_path / "settings.toml"
    settings.write_text(f'{toml}\n{section}rest_url = "http://127.0.0.1:9"\n')
    ours = ["--settings", str(settings), "--json"]
    assert json.loads(_ask(directory, *ours).stdout)["difference"] == 0
    order = next(iter(trading.venue.state.orders))
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE orders SET instrument = 'BINANCE:BTCUSDT' WHERE order_id = %s", (order,))
    away = _ask(directory, *ours)
    assert (away.exit_code, away.stdout) == (2, "")
    assert away.stderr.startswith("Binance ")


def test_without_a_venue_or_a_database_it_ends_with_2_and_one_sentence(
    day: tuple[str, Path, Trading], tmp_path: Path
) -> None:
    dsn, directory, _ = day
    away = _ask(directory, "--venue", "http://127.0.0.1:9")
    assert (away.exit_code, away.stdout) == (2, "")
    assert "does not answer" in away.stderr
    nothing = RUNNER.invoke(APP, ["--run", str(directory), "--dsn", "host=127.0.0.1 port=9 connect_timeout=1"])
    assert nothing.exit_code == 2
    assert nothing.stderr.count("\n") == 1
    (directory / "exchange.record").write_bytes(b"{}\n")
    damaged = RUNNER.invoke(APP, ["--run", str(directory), "--dsn", dsn])
    assert damaged.exit_code == 2
    assert "is damaged" in damaged.stderr
