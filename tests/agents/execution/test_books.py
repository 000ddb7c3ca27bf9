"""Positions, ledger and valuation: exact, balanced, and equal to sums worked out another way."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proposed_changes import examined, level_change
from trading_desk import CONFIG, ONE, PERP, SPOT, T0, Desk, instrument, wide_limits

from agents.execution.ledger import imbalance, post
from agents.execution.positions import PositionState, apply_fill, average_price, unrealised_pnl
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from schemas.changes import ChangeRefusal, ControlOutcome
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.orders import AccountMark, CancelRequested, Fill, OrderEvent, OrderStatus, Posting, ReportKind
from schemas.values import NS_PER_S, Level, Side, TimeInForce

UNIT = Fraction(1, ONE)


def _naive(fills: list[tuple[int, int]]) -> tuple[int, Fraction, Fraction]:
    """Return quantity, cost and realised P&L at average cost, in exact fractions."""
    quantity, cost, realised = 0, Fraction(0), Fraction(0)
    for signed, price in fills:
        if quantity * signed >= 0:
            quantity += signed
            cost += signed * price * UNIT * UNIT
            continue
        closed = min(abs(signed), abs(quantity)) * (1 if quantity > 0 else -1)
        average = cost / quantity
        realised += closed * price * UNIT * UNIT - average * closed
        cost -= average * closed
        quantity -= closed
        rest = signed + closed
        if rest:
            quantity, cost = rest, rest * price * UNIT * UNIT
    return quantity, cost, realised


_FILLS = st.lists(
    st.tuples(
        st.integers(-50 * ONE, 50 * ONE).filter(bool),
        st.integers(1, 100_000 * ONE),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(fills=_FILLS)
def test_average_cost_equals_exact_fractions_and_no_cent_is_lost(fills: list[tuple[int, int]]) -> None:
    position = PositionState()
    for signed, price in fills:
        apply_fill(position, signed, price, Decimal(1))
    quantity, cost, realised = _naive(fills)
    assert position.quantity == quantity
    assert abs(Fraction(position.cost) - cost) < Fraction(len(fills), 10**17)
    assert abs(Fraction(position.realised_pnl) - realised) < Fraction(len(fills), 10**17)
    spent = sum((Decimal(signed * price).scaleb(-16) for signed, price in fills), Decimal(0))
    assert position.realised_pnl - position.cost == -spent, "what rounding moves between the two cancels exactly"
    if quantity:
        assert average_price(position, Decimal(1)) == pytest.approx(float(cost / quantity * ONE * ONE), abs=1)
    else:
        assert average_price(position, Decimal(1)) is None
        assert position.cost == 0


def test_a_fill_through_zero_closes_one_position_and_opens_the_other() -> None:
    position = PositionState()
    assert apply_fill(position, 2 * ONE, 100 * ONE, Decimal(1)) == 0
    assert apply_fill(position, -5 * ONE, 110 * ONE, Decimal(1)) == 20
    assert (position.quantity, average_price(position, Decimal(1))) == (-3 * ONE, 110 * ONE)
    assert unrealised_pnl(position, 105 * ONE, Decimal(1)) == 15


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([PERP, SPOT]),
            st.sampled_from(list(Side)),
            st.integers(1, 5 * ONE),
            st.integers(ONE, 60_000 * ONE),
            st.decimals(0, 50, places=8),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_entry_balances_and_the_books_add_up_to_the_fills(
    steps: list[tuple[str, Side, int, int, Decimal]],
) -> None:
    desk = Desk()
    for number, (key, side, quantity, price, fee) in enumerate(steps):
        desk.approve(f"o{number}", instrument=key, side=side, quantity=quantity, decision_mid=price, limit_price=price)
        desk.trade(f"o{number}", f"f{number}", quantity, price, instrument=key, fee=fee)
    fills = [event for event in desk.events if isinstance(event, Fill)]
    booked = [fill for fill in fills if fill.order_id]
    for fill in booked:
        assert not any(imbalance(fill.postings).values())
    balances = desk.account.balances
    assert not any(
        sum((amount for key, amount in balances.items() if key.endswith(f"|{asset}")), Decimal(0))
        for asset in {key.split("|")[1] for key in balances}
    )
    for key in (PERP, SPOT):
        position = desk.account.positions.get(f"alpha|{key}", PositionState())
        held = sum(fill.side.sign * fill.quantity for fill in booked if fill.instrument == key)
        assert position.quantity == held
        name = f"contracts/alpha/{PERP}|{PERP}" if key == PERP else f"inventory/alpha/{SPOT}|ETH"
        assert balances.get(name, Decimal(0)) == Decimal(held).scaleb(-8)
    spot = desk.account.positions.get(f"alpha|{SPOT}", PositionState())
    assert balances.get(f"trading/alpha/{SPOT}|USD", Decimal(0)) == spot.cost, "trading holds the open cost"


def test_an_entry_that_does_not_balance_ends_the_process() -> None:
    with pytest.raises(AssertionError):
        post({}, (Posting(ledger_account="cash", asset="USD", amount=Decimal(1)),))


def test_a_mark_is_answered_for_every_trader_and_equity_is_capital_plus_gains() -> None:
    desk = Desk()
    desk.mark(PERP, 100 * ONE)
    desk.approve("o1", quantity=10 * ONE)
    desk.trade("o1", "f1", 10 * ONE)
    desk.beat(1_000)
    first, second = desk.mark(PERP, 103 * ONE)
    assert isinstance(first, AccountMark)
    assert isinstance(second, AccountMark)
    assert (first.strategy, second.strategy) == ("alpha", "beta")
    assert (first.position, second.position) == (10 * ONE, 0)
    assert first.unrealised_pnl == 30
    assert first.equity == second.equity == Decimal(100_000) + 30 - Decimal("0.04")
    assert first.equity_peak == first.equity
    (fallen, _) = desk.mark(PERP, 90 * ONE)
    assert isinstance(fallen, AccountMark)
    assert fallen.equity_peak == first.equity
    assert fallen.day_pnl == Decimal("-100.04")
    assert desk.mark(PERP, 90 * ONE, on_grid=False) == []
    (blind, _) = desk.mark(PERP, None)
    assert isinstance(blind, AccountMark)
    assert (blind.mid, blind.unrealised_pnl) == (None, fallen.unrealised_pnl)


def test_spot_is_worth_its_inventory_and_the_day_starts_anew_at_midnight() -> None:
    desk = Desk(now_ns=T0 - T0 % (86_400 * NS_PER_S) + 86_000 * NS_PER_S)
    desk.mark(SPOT, 100 * ONE)
    desk.approve("o1", instrument=SPOT, quantity=10 * ONE)
    desk.trade("o1", "f1", 10 * ONE, instrument=SPOT)
    (evening,) = desk.mark(SPOT, 101 * ONE)
    desk.beat(600_000)
    (morning,) = desk.mark(SPOT, 103 * ONE)
    assert isinstance(evening, AccountMark)
    assert isinstance(morning, AccountMark)
    assert evening.day_pnl == Decimal("9.96")
    assert morning.day_pnl == 20
    assert morning.equity == Decimal("100029.96")


def test_money_in_another_currency_is_valued_at_the_configured_rate() -> None:
    euro = instrument("SIM:ETHEUR", quote_currency="EUR")
    config = ExecutionConfig(
        instruments={euro.key: euro},
        accounts={
            "main": AccountTerms(capital=Decimal(1_000), currency="USD", conversion_rates={"EUR": Decimal("1.5")})
        },
        strategies={"alpha": StrategyTerms(account="main", instruments=(euro.key,))},
        limits={"main": wide_limits("alpha", conversion_rates={"EUR": "1.5"})},
    )
    desk = Desk(config)
    desk.approve("o1", instrument=euro.key)
    desk.trade("o1", "f1", ONE, instrument=euro.key, fee=Decimal(2), fee_currency="EUR")
    (mark,) = desk.mark(euro.key, 110 * ONE)
    assert isinstance(mark, AccountMark)
    assert (mark.equity, mark.unrealised_pnl, mark.fees) == (Decimal(1_012), Decimal(15), Decimal(3))


def test_settings_that_cannot_be_booked_are_refused() -> None:
    parts = {"accounts": CONFIG.accounts, "limits": CONFIG.limits, "instruments": CONFIG.instruments}
    inverse = {PERP: instrument(PERP, inverse=True)}
    trades = {"alpha": StrategyTerms(account="main", instruments=(PERP,))}
    with pytest.raises(ValueError, match="inverse"):
        ExecutionConfig(**parts | {"instruments": inverse}, strategies=trades)
    with pytest.raises(ValueError, match="no conversion rate"):
        ExecutionConfig(**parts | {"instruments": {PERP: instrument(PERP, quote_currency="JPY")}}, strategies=trades)
    with pytest.raises(ValueError, match="not defined"):
        ExecutionConfig(**parts, strategies={"alpha": StrategyTerms(account="other", instruments=())})
    with pytest.raises(ValueError, match="no limits"):
        ExecutionConfig(**parts | {"limits": {}}, strategies=trades)


def _command(
    desk: Desk, action: ControlAction, scope: ScopeKind, target: str, level: Level | None = None, ordinal: int = 0
) -> list[object]:
    command = ControlCommand(
        key="c",
        event_time_ns=desk.now_ns,
        available_at_ns=desk.now_ns,
        command_id="c",
        author="me",
        reason="test",
        action=action,
        scope=scope,
        target=target,
        level=level,
        ordinal=ordinal,
    )
    return list(desk.give(command))


def test_a_command_that_comes_by_two_ways_is_carried_out_once() -> None:
    """Straight from where it is written, and later by Kafka: what was lifted meanwhile stays lifted."""
    desk = Desk()
    everywhere = (ControlAction.SET_LEVEL, ScopeKind.GLOBAL, "*")
    _command(desk, *everywhere, Level.HALTED, ordinal=1)
    desk.give(examined(level_change(), ordinal=2))
    _resting(desk, "a", "alpha")
    assert _command(desk, *everywhere, Level.HALTED, ordinal=1) == []
    assert _command(desk, ControlAction.CANCEL, ScopeKind.GLOBAL, "*", ordinal=1) == []
    assert len(desk.approve("b", strategy="alpha")) == 2
    cancelled = _command(desk, ControlAction.CANCEL, ScopeKind.GLOBAL, "a", ordinal=3)
    assert [event.order_id for event in cancelled if isinstance(event, CancelRequested)] == ["a"]


def _resting(desk: Desk, order_id: str, strategy: str) -> None:
    desk.approve(order_id, strategy=strategy, time_in_force=TimeInForce.GTC, limit_price=90 * ONE)
    desk.report(order_id, ReportKind.ACCEPTED, venue_order_id=f"v-{order_id}")


def test_halted_cancels_what_works_in_its_scope_and_lets_nothing_out() -> None:
    desk = Desk()
    _resting(desk, "a", "alpha")
    _resting(desk, "b", "beta")
    outputs = _command(desk, ControlAction.SET_LEVEL, ScopeKind.STRATEGY, "alpha", Level.HALTED)
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == ["a"]
    (denied,) = desk.approve("c", strategy="alpha")
    assert isinstance(denied, OrderEvent)
    assert denied.status is OrderStatus.DENIED
    assert "KILLED" in denied.deny_reasons
    assert len(desk.approve("d", strategy="beta")) == 2
    (refused,) = _command(desk, ControlAction.SET_LEVEL, ScopeKind.STRATEGY, "alpha", Level.ACTIVE)
    assert isinstance(refused, ControlOutcome)
    assert refused.refusal is ChangeRefusal.NEEDS_TWO_PEOPLE
    desk.give(examined(level_change(scope=ScopeKind.STRATEGY, target="alpha")))
    assert len(desk.approve("e", strategy="alpha")) == 2


@pytest.mark.parametrize(
    ("scope", "target", "expected"),
    [
        (ScopeKind.GLOBAL, "*", ["a", "b"]),
        (ScopeKind.GLOBAL, "b", ["b"]),
        (ScopeKind.STRATEGY, "beta", ["b"]),
        (ScopeKind.INSTRUMENT, PERP, ["a", "b"]),
        (ScopeKind.INSTRUMENT, SPOT, []),
        (ScopeKind.ACCOUNT, "main", ["a", "b"]),
        (ScopeKind.GLOBAL, "gone", []),
    ],
)
def test_cancel_reaches_exactly_its_scope(scope: ScopeKind, target: str, expected: list[str]) -> None:
    desk = Desk()
    _resting(desk, "a", "alpha")
    _resting(desk, "b", "beta")
    outputs = _command(desk, ControlAction.CANCEL, scope, target)
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == expected


def test_an_order_that_the_limits_refuse_is_denied_at_the_last_step_with_every_reason() -> None:
    desk = Desk()
    (denied,) = desk.approve("o1", quantity=ONE // 3, limit_price=300 * ONE + 1)
    assert isinstance(denied, OrderEvent)
    assert (denied.status, denied.final) == (OrderStatus.DENIED, True)
    assert set(denied.deny_reasons) >= {"LOT_SIZE", "TICK_SIZE", "PRICE_COLLAR"}
