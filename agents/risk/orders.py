"""One order from intention to verdict: priced, checked against the hard limits, counted when approved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from agents.limits.checks import check_order, failed
from agents.limits.exposure import ExposureLine, MarketView, view_of
from agents.limits.windows import PriceRange
from agents.limits.working import WorkingOrder
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.leg_prices import OrderForm
from agents.risk.levels import effective_level
from agents.risk.sizing import limit_price
from agents.risk.standing import book_in, limits_of
from agents.risk.state import LEVELS_KEY, AccountRisk, InstrumentRisk, account_key, instrument_key
from agents.stage import ShardState
from schemas.decisions import OrderApproved, OrderDenied
from schemas.event import Event, derive_id
from schemas.opinions import MarketMark
from schemas.order_ids import order_id_of
from schemas.values import Side


@dataclass(frozen=True, slots=True)
class Intention:
    """What is to be ordered: a signed quantity, and the decision that it answers.

    With ``amends`` it is to change that order, and ``quantity`` is the whole order's, what is filled included.
    With a ``form`` it is put in that way, else in its strategy's. ``name`` and ``ordinal`` make its id among the
    decision's orders.
    """

    decision_id: str
    strategy: StrategyRisk
    instrument: str
    quantity: int
    target: float
    cancels: tuple[str, ...]
    decided_at_ns: int
    expires_at_ns: int
    ordinal: int = 0
    name: str = "order"
    form: OrderForm | None = None
    amends: WorkingOrder | None = None

    @property
    def order_id(self) -> str:
        """The order's id: a function of its decision, the same whenever it is derived; its end says whose it is."""
        return order_id_of(self.decision_id, (self.strategy.account, self.strategy.name), self.name, self.ordinal)


def to_cancel(
    working: dict[str, WorkingOrder], strategy: str, instrument: str, *, legs: bool = False
) -> tuple[str, ...]:
    """Return the resting orders of a line, which a new target replaces. What takes at once ends by itself.

    What only protects the position stays, save ``legs`` are wanted, too.
    """
    return tuple(
        order.order_id
        for order in working.values()
        if order.strategy == strategy and order.instrument == instrument and order.rests and not order.cancelling
        if legs or order.leg is None
    )


def market_of(state: ShardState, config: RiskConfig) -> MarketView:
    """Return the newest mark of each instrument that has one, how far each moved of late, and our clock."""
    marks: dict[str, MarketMark] = {}
    ranges: dict[str, PriceRange] = {}
    for name in config.instruments:
        kept: InstrumentRisk | None = state.get(instrument_key(name))
        if kept is not None and kept.mark is not None:
            marks[name] = kept.mark
            ranges[name] = kept.mids
    return MarketView(config.instruments, marks, ranges, state[LEVELS_KEY].clock_ns)


def judge(state: ShardState, config: RiskConfig, intention: Intention, reducing: bool = False) -> Sequence[Event]:
    """Return the verdict on an intention, and count it.

    A denied order's cancels are carried out all the same: they can only lower risk. ``reducing`` forbids this
    order to do anything but reduce.
    """
    account: AccountRisk = state[account_key(intention.strategy.account)]
    limits = limits_of(state, config, intention.strategy.account)
    now_ns: int = state[LEVELS_KEY].now_ns
    order = _priced(state, config, intention, reducing)
    level = effective_level(state, intention.strategy.account, intention.strategy.name, intention.instrument)
    view = view_of(account.exposure, market_of(state, config), level)
    # What could not be sized is judged as an order all the same, not as the mere cancels it would pass for.
    judged = order if order.quantity else msgspec.structs.replace(order, cancels=())
    results = check_order(judged, view, limits, now_ns)
    reasons = failed(results)
    state[account_key(intention.strategy.account)] = account
    if not reasons:
        account.approved += 1
        account.exposure.add_approval(order, limits, now_ns)
        return (msgspec.structs.replace(order, checks=results),)
    account.denied += 1
    denied = OrderDenied(
        key=order.account,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        order_id=order.order_id,
        decision_id=order.decision_id,
        account=order.account,
        strategy=order.strategy,
        instrument=order.instrument,
        side=order.side if order.quantity else None,
        quantity=order.quantity,
        target=intention.target,
        reasons=reasons,
        limits_version=order.limits_version,
        checks=results,
        stop_price=order.stop_price,
        parent_order_id=order.parent_order_id,
        leg=order.leg,
    )
    if intention.amends is not None:
        # As it is, the order is not what is wanted any more.
        intention = replace(intention, quantity=0, cancels=(intention.amends.order_id,), amends=None)
    if not intention.cancels:
        return (denied,)
    return (denied, *cancel_only(state, config, intention))


def cancel_only(state: ShardState, config: RiskConfig, intention: Intention) -> Sequence[Event]:
    """Return an approval that carries the intention's cancels and no order, and count its messages."""
    account: AccountRisk = state[account_key(intention.strategy.account)]
    limits = limits_of(state, config, intention.strategy.account)
    now_ns: int = state[LEVELS_KEY].now_ns
    bare = msgspec.structs.replace(
        _priced(state, config, intention, False),
        order_id=derive_id(intention.order_id, "cancels", 0),
        quantity=0,
        limit_price=None,
        stop_price=None,
    )
    view = view_of(account.exposure, MarketView(config.instruments, {}, {}, 0), effective_level(state, "", "", ""))
    results = check_order(bare, view, limits, now_ns)
    assert not failed(results), "cancels are never refused"
    account.exposure.add_approval(bare, limits, now_ns)
    state[account_key(intention.strategy.account)] = account
    return (msgspec.structs.replace(bare, checks=results),)


def _priced(state: ShardState, config: RiskConfig, intention: Intention, reducing: bool) -> OrderApproved:
    strategy, now_ns = intention.strategy, state[LEVELS_KEY].now_ns
    limits = limits_of(state, config, strategy.account)
    kept: InstrumentRisk | None = state.get(instrument_key(intention.instrument))
    mark = None if kept is None else kept.mark
    instrument = config.instruments.get(intention.instrument)
    side = Side.BUY if intention.quantity > 0 else Side.SELL
    form, price = intention.form, None
    if form is not None:
        price = form.limit_price
    elif mark is not None and instrument is not None and intention.quantity:
        price = limit_price(side, mark, instrument, strategy, limits)
    account: AccountRisk = state[account_key(strategy.account)]
    line = account.exposure.line(strategy.name, intention.instrument)
    return OrderApproved(
        key=strategy.account,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        order_id=intention.order_id,
        decision_id=intention.decision_id,
        account=strategy.account,
        strategy=strategy.name,
        instrument=intention.instrument,
        side=side,
        quantity=abs(intention.quantity),
        order_type=strategy.order_type if form is None else form.order_type,
        limit_price=price,
        time_in_force=strategy.time_in_force if form is None else form.time_in_force,
        reduce_only=reducing or _reduces(line, side, intention),
        cancels=intention.cancels,
        decision_mid=0 if mark is None or mark.mid is None else mark.mid,
        limits_version=book_in(state, config).version,
        checks=(),
        expires_at_ns=intention.expires_at_ns,
        decided_at_ns=intention.decided_at_ns,
        stop_price=None if form is None else form.stop_price,
        parent_order_id=None if form is None else form.parent_order_id,
        leg=None if form is None else form.leg,
        amends=None if intention.amends is None else intention.amends.order_id,
    )


def _reduces(line: ExposureLine, side: Side, intention: Intention) -> bool:
    """Tell whether all that the order may still fill brings the position nearer to 0."""
    changed = intention.amends
    if changed is None:
        return line.reduced_by(side, abs(intention.quantity))
    return line.after(side, -changed.leaves).reduced_by(side, abs(intention.quantity) - changed.filled)
