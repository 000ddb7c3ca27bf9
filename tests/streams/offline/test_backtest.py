"""A backtest is a function of its settings: the same seed, the same report; a policy does what it says."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import money_events
import pytest

from infra.settings import SettingsError, load_settings
from schemas.event import Event
from schemas.market import DepthUpdate, Trade
from schemas.orders import ExecType, OrderStatus
from schemas.values import Side
from streams.composition import Run, compose
from streams.offline.backtest import Backtest, backtest
from streams.offline.backtest_report import BacktestReport

pytestmark = pytest.mark.slow

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"
SECONDS = 20.0


def composed(policy: str, seed: int = 7, **more: Any) -> Run:
    """Return a run of the simulated market in which the committee alone trades, by this policy."""
    values: dict[str, Any] = {
        "run.seed": seed,
        "strategies.committee.policy": policy,
        "strategies.pulse.instruments": ["EXT:DEMO"],
    }
    return compose(load_settings(SETTINGS, values | more, environment={}))


def test_the_same_seed_gives_the_same_report_and_the_probe_trades() -> None:
    first, second = (backtest(composed("probe"), seconds=SECONDS) for _ in range(2))
    assert first.as_json() == second.as_json()
    assert first.fills > 0
    assert first.orders > 0
    assert first.decisions["TARGET"] > 0
    assert first.fees > 0
    assert first.net_pnl()["main"] != 0


def test_a_null_policy_never_trades_and_loses_nothing() -> None:
    seen: list[Event] = []
    times: list[int] = []
    report = backtest(composed("null"), seconds=SECONDS, observe=seen.append, progress=times.append)
    assert set(report.decisions) == {"NO_TRADE NULL_POLICY"}
    assert (report.orders, report.fills, report.trades) == (0, 0, 0)
    assert report.net_pnl() == {"main": Decimal(0)}
    assert report.max_drawdown == {"main": 0.0}
    assert times == sorted(times)
    assert len(times) == report.messages > 0
    assert {type(event) for event in seen} >= {Trade, DepthUpdate}


def test_the_seed_makes_the_market() -> None:
    def trades(seed: int) -> list[tuple[int, int]]:
        test = Backtest(composed("null", seed))
        events = [event for record in test.records(3.0) for event in record.events]
        return [(event.price, event.quantity) for event in events if isinstance(event, Trade)]

    assert trades(1) == trades(1)
    assert trades(1) != trades(2)


def test_a_live_feed_cannot_be_back_tested() -> None:
    run = composed("null", **{"feed.kind": "binance", "feed.instruments": ["BINANCE:BTCUSDT"]})
    with pytest.raises(SettingsError, match="cannot be back-tested"):
        Backtest(run)


def test_a_report_counts_intents_costs_and_the_deepest_fall() -> None:
    report = BacktestReport()
    order = money_events.approved()
    report.observe(money_events.order_event(order, OrderStatus.PENDING_NEW, exec_type=ExecType.PENDING_NEW))
    report.observe(money_events.order_event(order, OrderStatus.NEW, exec_type=ExecType.NEW))
    report.observe(money_events.fill(1, Side.BUY, money_events.ONE, 100 * money_events.ONE, fee=Decimal("0.5")))
    for equity in (1_000, 900, 950):
        report.observe(money_events.account_mark(equity=Decimal(equity), equity_peak=Decimal(1_000)))
    result = report.as_json()
    assert (result["orders"], result["fills"]) == (1, 1)
    assert result["costs"]["fees"] == "0.5"
    assert result["net_pnl"] == {"main": "-50"}
    assert result["max_drawdown"] == {"main": 0.1}
