"""Every way of ordering that a strategy can be set to, from its decision to the venue's fills, in one process."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.msgpack import encode

from infra.settings import load_settings
from schemas.decisions import OrderApproved
from schemas.event import Event
from schemas.orders import ExecType, Fill, OrderEvent, OrderStatus
from schemas.values import Leg, Liquidity, OrderType
from streams.composition import Run, compose
from streams.offline.backtest import Backtest, backtest

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"
NEAR = {"stop_loss": 0.0001, "take_profit": 0.00005}


def _run(changes: dict[str, Any]) -> Run:
    """Return a run of the simulated market in which the committee alone trades, in the way that its settings say."""
    values: dict[str, Any] = {"run.seed": 7, "strategies.pulse.instruments": ["EXT:DEMO"]}
    own = {"policy": "probe"} | changes
    values |= {f"strategies.committee.{name}": value for name, value in own.items()}
    return compose(load_settings(SETTINGS, values, environment={}))


def _seen(seconds: float, **changes: Any) -> list[Event]:
    seen: list[Event] = []
    backtest(_run(changes), seconds=seconds, observe=seen.append)
    return seen


def _of(seen: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in seen if isinstance(event, kind)]


def test_market_orders_take_what_there_is_within_their_protection_price() -> None:
    seen = _seen(12.0, order_type="MARKET")
    orders, fills = _of(seen, OrderApproved), _of(seen, Fill)
    assert {order.order_type for order in orders if order.quantity} == {OrderType.MARKET}
    assert fills and {fill.liquidity for fill in fills} == {Liquidity.TAKER}
    bounds = {order.order_id: order for order in orders}
    for fill in fills:
        assert fill.side.sign * (bounds[fill.order_id].limit_price - fill.price) >= 0


def test_post_only_orders_are_only_ever_made() -> None:
    seen = _seen(20.0, time_in_force="POST_ONLY")
    fills = _of(seen, Fill)
    assert fills and {fill.liquidity for fill in fills} == {Liquidity.MAKER}


@pytest.mark.slow(seconds=4)
def test_protected_runs_are_the_same_to_the_byte_and_no_leg_trades_beyond_its_position() -> None:
    first, second = (_seen(30.0, **NEAR) for _ in range(2))
    assert [encode(event) for event in first] == [encode(event) for event in second]
    legs = [fill for fill in _of(first, Fill) if fill.leg is not None]
    assert {fill.leg for fill in legs} == {Leg.STOP_LOSS, Leg.TAKE_PROFIT}
    assert all(fill.side.sign * fill.position_after <= 0 for fill in legs)
    events = _of(first, OrderEvent)
    triggered = {event.order_id for event in events if event.exec_type is ExecType.TRIGGERED}
    assert triggered
    stops = {event.order_id: event for event in events if event.stop_price is not None}
    for fill in legs:
        if fill.order_id in triggered:
            assert fill.side.sign * (fill.price - stops[fill.order_id].stop_price) >= -10 * 50_000_000


def test_at_every_moment_of_rest_what_is_held_is_covered_by_stops() -> None:
    test = Backtest(_run(NEAR))
    checked = 0
    for record in test.records(15.0):
        test.take(record)
        account = test.pipeline.state("risk").get("account/main")
        if account is None or any(order.cancelling or not order.seen for order in account.exposure.working.values()):
            continue
        for (strategy, instrument), line in account.exposure.lines().items():
            kept = account.protections.get(f"{strategy}|{instrument}")
            if not line.position or kept is None or kept.failures or kept.waiting:
                continue
            closing = line.sells if line.position > 0 else line.buys
            assert closing <= abs(line.position)
            checked += closing == abs(line.position)
    assert checked > 100
    statuses = {order.status for order in test.venue.state.orders.values() if order.stop_price is not None}
    assert OrderStatus.CANCELED in statuses
