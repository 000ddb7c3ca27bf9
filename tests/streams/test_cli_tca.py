"""``tradermind tca`` on a record made by hand: every part as worked out on paper, and what it writes is read back."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from money_events import ONE, PERP, SPOT, T0, approved, decision, fill, instrument, mark, order_event
from typer import Typer
from typer.testing import CliRunner, Result

from agents.costs.shortfall import PARTS
from infra.postgres.migrate import migrate
from infra.postgres.projections import Projections
from infra.settings import SettingsError, load_settings
from infra.settings_costs import read_costs
from schemas.event import Event
from schemas.orders import ExecType, OrderStatus
from schemas.values import NS_PER_MS, NS_PER_S, Side
from streams.cli_tca import tca
from streams.composition import compose
from streams.cost_priors import priors_of

ROOT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()
APP = Typer()
APP.command()(tca)
MS = NS_PER_MS
CENT = ONE // 100


def _write(dsn: str, events: Sequence[Event]) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await Projections(connection).write(events)

    asyncio.run(run())


def _order(name: str, at_ns: int, filled: int, status: OrderStatus, **changes: Any) -> list[Event]:
    """An order of two units, decided at 100 with a quoted spread of two cents and sent 10 ms later; it ends at 1 s."""
    order = approved(name, quantity=2 * ONE, event_id=f"verdict-{name}", decision_id=f"d-{name}", **changes)
    terms = {"filled_quantity": filled, "generation": 1}
    sent = order_event(
        order,
        OrderStatus.PENDING_NEW,
        exec_type=ExecType.PENDING_NEW,
        available_at_ns=at_ns + 10 * MS,
        event_id=f"sent-{name}",
        seq=1,
        **(terms | {"filled_quantity": 0}),
    )
    ended = order_event(order, status, available_at_ns=at_ns + NS_PER_S, event_id=f"ended-{name}", seq=2, **terms)
    observed = {"spread_relative": 0.0002}
    decided = decision(1.0, at_ns=at_ns, event_id=f"d-{name}", decision_id=f"d-{name}", observation=observed)
    return [decided, order, sent, ended]


def _marks(key: str, *mids: tuple[int, int | None]) -> list[Event]:
    return [mark(key, at_ns, None if cents is None else 100 * ONE + cents * CENT) for at_ns, cents in mids]


@pytest.fixture
def record(database: str) -> str:
    """One order filled whole, one in half, one whose horizon has not come, one that never left."""
    migrate(database)
    later = T0 + 100 * NS_PER_S
    perpetual = [
        *((T0, 0), (T0 + 10 * MS, 5), (T0 + 500 * MS, 7), (T0 + 501 * MS, None)),
        *((T0 + 10_500 * MS, 12), (T0 + 11 * NS_PER_S, 9), (later, 0), (later + 500 * MS, 0)),
    ]
    spot = [(T0, 0), (T0 + 500 * MS, 0), (T0 + 10_500 * MS, -4), (T0 + 11 * NS_PER_S, -10)]
    of_spot = {"instrument": SPOT, "strategy": "beta", "side": Side.SELL}
    fills = [
        fill(1, Side.BUY, 2 * ONE, 100 * ONE + 9 * CENT, order_id="whole", decision_id="d-whole", seq=1),
        fill(2, Side.SELL, ONE, 100 * ONE - CENT, order_id="half", decision_id="d-half", seq=2, **of_spot_fill()),
        fill(3, Side.BUY, 2 * ONE, 100 * ONE, order_id="young", decision_id="d-young", seq=3),
    ]
    at = (T0 + 500 * MS, T0 + 500 * MS, later + 500 * MS)
    timed = [msgspec.structs.replace(item, event_time_ns=at_ns) for item, at_ns in zip(fills, at, strict=True)]
    _write(
        database,
        [
            msgspec.structs.replace(instrument(PERP), event_id="i1"),
            msgspec.structs.replace(instrument(SPOT), event_id="i2"),
            *_marks(PERP, *perpetual),
            *_marks(SPOT, *spot),
            *_order("whole", T0, 2 * ONE, OrderStatus.FILLED),
            *_order("half", T0, ONE, OrderStatus.CANCELED, **of_spot),
            *_order("young", later, 2 * ONE, OrderStatus.FILLED),
            *_order("never", T0, 0, OrderStatus.NOT_SENT),
            *timed,
        ],
    )
    return database


def of_spot_fill() -> dict[str, Any]:
    return {"instrument": SPOT, "strategy": "beta", "fee": Decimal("0.0001"), "fee_currency": "ETH"}


def _ask(dsn: str, *more: str) -> Result:
    return RUNNER.invoke(APP, [*more, "--dsn", dsn], env={"COLUMNS": "200"})


def _told(dsn: str, *more: str) -> dict[str, Any]:
    result = _ask(dsn, *more, "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def _parts(row: dict[str, Any]) -> dict[str, Decimal]:
    parts = {name: Decimal(row[name]) for name in PARTS}
    assert sum(parts.values()) == Decimal(row["total"])
    return {name: amount for name, amount in parts.items() if amount}


def test_each_order_is_split_as_worked_out_by_hand(record: str) -> None:
    told = _told(record, "--by", "order")
    rows = {row["order_id"]: row for row in told["rows"]}
    assert set(rows) == {"whole", "half", "young"}, "what never left costs nothing"
    # Two units: the mid went 0 -> 5 -> 7 cents by the fill at 9, and stood at 12 ten seconds after it.
    cents = {"delay": 10, "drift": 4, "spread": -6, "impact": 10, "fees": 3}
    assert _parts(rows["whole"]) == {name: Decimal(amount) / 100 for name, amount in cents.items()}
    # A seller of two had one filled a cent below the mid, which fell 4 cents; of the other he missed 10.
    fee = Decimal("0.0001") * (100 - Decimal("0.01"))
    expected = {"spread": Decimal("-0.03"), "impact": Decimal("0.04"), "opportunity": Decimal("0.1"), "fees": fee}
    assert _parts(rows["half"]) == expected
    assert (rows["half"]["filled"], rows["half"]["currency"]) == (0.5, "USD")
    assert (rows["young"]["measured"], told["unmeasured"]) == (0, {"no mid at the horizon yet": 1})


def test_instruments_and_strategies_are_sums_and_can_be_chosen(record: str) -> None:
    by_instrument = {row["instrument"]: row for row in _told(record)["rows"]}
    assert (by_instrument[PERP]["orders"], by_instrument[PERP]["measured"]) == (2, 1)
    assert by_instrument[PERP]["total_bp"] == pytest.approx(0.21 / 200 * 10_000)
    by_strategy = {row["strategy"]: row for row in _told(record, "--by", "strategy")["rows"]}
    assert by_strategy["beta"]["total"] == by_instrument[SPOT]["total"]
    (only,) = _told(record, "--instrument", SPOT)["rows"]
    assert only == by_instrument[SPOT]
    shown = _ask(record).stdout
    assert "1 not measured: no mid at the horizon yet." in shown
    assert "impact coefficient" in shown


def test_the_estimates_are_those_of_the_decider_and_settings_take_them(record: str, tmp_path: Path) -> None:
    file = tmp_path / "costs.toml"
    told = _told(record, "--write", str(file))
    estimate = told["estimates"][PERP]
    # One fill: slip 9 basis points, of which 1 was quoted; twenty fills' worth of belief in 0.
    assert estimate["excess"] == pytest.approx(0.0008 / 21)
    assert estimate["fee"] == pytest.approx((20 * 0.0004 + 0.00015) / 21)
    assert estimate["impact_coefficient"] > 0
    believed = priors_of(read_costs(file))[PERP]
    assert believed.fills == 21.0
    for name in ("excess", "fee", "impact_coefficient"):
        assert getattr(believed, name) == pytest.approx(estimate[name], abs=1e-12)
    whole = tmp_path / "settings.toml"
    whole.write_text((ROOT / "tradermind.toml").read_text() + file.read_text())
    assert compose(load_settings(whole)).cost_priors[PERP] == believed


def test_a_costs_file_that_is_not_one_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "costs.toml"
    for content, told in (("fills = 1", "costs"), ('[costs."SIM:BTCUSD"]\nfee = 1\nfills = 2', "fee"), ("[", "TOML")):
        file.write_text(content)
        with pytest.raises(SettingsError, match=told):
            read_costs(file)
    unknown = tmp_path / "settings.toml"
    unknown.write_text((ROOT / "tradermind.toml").read_text() + '[costs."SIM:NONE"]\nfee = 0.0001\nfills = 2\n')
    with pytest.raises(SettingsError, match="SIM:NONE"):
        load_settings(unknown)


def test_a_record_without_orders_ends_with_1_and_no_record_with_2(database: str) -> None:
    migrate(database)
    empty = _ask(database)
    assert (empty.exit_code, empty.stdout) == (1, "")
    assert "No order has reached the venue." in empty.stderr
    assert _ask("host=127.0.0.1 port=9 connect_timeout=1").exit_code == 2
