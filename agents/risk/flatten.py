"""Closing what a person ordered closed: reduce-only orders, tried until the line holds nothing.

An order may fill in part, or be capped by the largest order allowed; so the wish is kept, not only the order.
"""

from collections.abc import Sequence

from agents.limits.exposure import ExposureLine
from agents.limits.limit_set import LimitSet
from agents.risk.config import RiskConfig
from agents.risk.levels import in_scope
from agents.risk.orders import Intention, cancel_only, judge, to_cancel
from agents.risk.sizing import largest_quantity, toward_zero
from agents.risk.standing import limits_of
from agents.risk.state import (
    LEVELS_KEY,
    AccountRisk,
    Flattening,
    InstrumentRisk,
    account_key,
    instrument_key,
    line_key,
)
from agents.stage import ShardState
from schemas.control import ControlCommand
from schemas.decisions import DenyReason, OrderDenied
from schemas.event import Event, derive_id
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.values import NS_PER_S

_RETRY_NS = NS_PER_S
_DOUBLINGS_MAX = 6
_DUST = frozenset({DenyReason.ORDER_QTY_MIN, DenyReason.NOTIONAL_MIN})


def begin(state: ShardState, config: RiskConfig, command: ControlCommand) -> list[Event]:
    """Mark every line in the command's scope for closing, and make the first try at each.

    Each line's decision id is derived from the command, so that ``why`` leads to the person.
    """
    events: list[Event] = []
    for name in sorted({strategy.account for strategy in config.strategies.values()}):
        account: AccountRisk = state[account_key(name)]
        for strategy, instrument in sorted(account.exposure.lines()):
            if strategy not in config.strategies or not in_scope(command, name, strategy, instrument):
                continue
            line = line_key(strategy, instrument)
            decision_id = derive_id(command.event_id, f"flatten/{name}/{line}", 0)
            account.flattening[line] = Flattening(decision_id=decision_id)
            state[account_key(name)] = account
            events += attempt(state, config, name, (strategy, instrument))
    return events


def retry(state: ShardState, config: RiskConfig, instrument: str) -> list[Event]:
    """Try again to close the lines of an instrument that has a new mark."""
    events: list[Event] = []
    for name in sorted({strategy.account for strategy in config.strategies.values()}):
        account: AccountRisk = state[account_key(name)]
        for line in sorted(account.flattening):
            strategy, _, of_line = line.partition("|")
            if of_line == instrument and account.flattening[line].next_try_ns <= state[LEVELS_KEY].now_ns:
                events += attempt(state, config, name, (strategy, instrument))
    return events


def attempt(state: ShardState, config: RiskConfig, account_name: str, key: tuple[str, str]) -> Sequence[Event]:
    """Cancel what rests on the line, order what remains to be closed, and forget the wish once nothing does."""
    account: AccountRisk = state[account_key(account_name)]
    wish = account.flattening[line_key(*key)]
    line = account.exposure.line(*key)
    if line.position == 0 and line.buys == 0 and line.sells == 0:
        return _forget(state, account_name, account, line)
    now_ns: int = state[LEVELS_KEY].now_ns
    quantity = _closing(state, config, line)
    intention = Intention(
        decision_id=wish.decision_id,
        strategy=config.strategies[key[0]],
        instrument=key[1],
        quantity=quantity,
        target=0.0,
        cancels=to_cancel(account.exposure.working, *key, legs=True),
        decided_at_ns=now_ns,
        expires_at_ns=now_ns + config.order_life_ns,
        ordinal=wish.attempt,
    )
    state[account_key(account_name)] = account
    if quantity == 0:
        if intention.cancels:
            wish.attempt += 1
            return cancel_only(state, config, intention)
        # Nothing to send: either an order is under way, or what is left is less than a lot and cannot be closed.
        under_way = line.buys or line.sells
        return () if under_way else _forget(state, account_name, account, line)
    wish.attempt += 1
    events = judge(state, config, intention, reducing=True)
    denied = [event for event in events if isinstance(event, OrderDenied)]
    wish.denials = wish.denials + 1 if denied else 0
    wish.next_try_ns = now_ns + (_RETRY_NS << min(wish.denials, _DOUBLINGS_MAX))
    if any(_DUST.intersection(event.reasons) for event in denied):
        _forget(state, account_name, account, line)
    return events


def _forget(state: ShardState, name: str, account: AccountRisk, line: ExposureLine) -> Sequence[Event]:
    del account.flattening[line_key(line.strategy, line.instrument)]
    state[account_key(name)] = account
    return ()


def _closing(state: ShardState, config: RiskConfig, line: ExposureLine) -> int:
    instrument = config.instruments.get(line.instrument)
    kept: InstrumentRisk | None = state.get(instrument_key(line.instrument))
    if instrument is None:
        return -line.position
    size = max(0, line.position - line.sells if line.position > 0 else -line.position - line.buys)
    limits = limits_of(state, config, config.strategies[line.strategy].account)
    size = toward_zero(
        min(size, _largest(instrument, None if kept is None else kept.mark, limits)), instrument.lot_size
    )
    return -size if line.position > 0 else size


def _largest(instrument: InstrumentDefined, mark: MarketMark | None, limits: LimitSet) -> int:
    if mark is None or mark.mid is None or mark.mid <= 0:
        return instrument.quantity_max
    # A collar's room is left below the value limit, since the order is priced beyond the mid.
    return largest_quantity(instrument, int(mark.mid * (1 + limits.price_collar)) + 1, limits)
