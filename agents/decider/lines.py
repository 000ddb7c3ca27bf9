"""What account events tell of a line: what it holds, what works, and whether the target in force has come about."""

from typing import Final

from agents.decider.config import DeciderConfig
from agents.decider.costs import take_fill, take_valuation
from agents.decider.moments import take_gain
from agents.decider.policy import PolicyAnswer
from agents.decider.state import LineState, line_key
from agents.stage import ShardState
from schemas.decisions import DenyReason, NoTradeReason
from schemas.opinions import VoteTally
from schemas.orders import AccountMark, ExecType, Fill, OrderEvent, OrderStatus

_BLOCKED: Final = (
    NoTradeReason.NO_MARKET,
    NoTradeReason.DATA_STALE,
    NoTradeReason.ALERT,
    NoTradeReason.LEVEL,
    NoTradeReason.POLICY_INVALID,
)
_LEVEL_REASONS: Final = frozenset({DenyReason.KILLED, DenyReason.REDUCE_ONLY})


def line_of(state: ShardState, strategy: str, instrument: str) -> LineState:
    """Return what is known of a line; whoever changes it puts it back."""
    return state.get(line_key(strategy, instrument)) or LineState()


def take_order_event(state: ShardState, config: DeciderConfig, event: OrderEvent) -> None:
    """Take what an order's line holds after it, and what became of the decision in force."""
    line = line_of(state, event.strategy, event.instrument)
    line.position, line.working = event.position_after, event.working_after
    closed = event.leg is not None and event.exec_type is ExecType.TRADE
    if closed or (event.decision_id == line.decision_id and event.status is OrderStatus.FILLED):
        # What a stop or a profit has closed is not entered again for the same target.
        line.satisfied = True
    if event.status is OrderStatus.DENIED and _LEVEL_REASONS.intersection(event.deny_reasons):
        line.denied_until_ns = event.available_at_ns + (config.retry_after_ns or 0)
    state[line_key(event.strategy, event.instrument)] = line


def take_account_mark(state: ShardState, config: DeciderConfig, mark: AccountMark) -> None:
    """Take a line's valuation."""
    line = line_of(state, mark.strategy, mark.instrument)
    line.position, line.working = mark.position, mark.working
    line.unrealised_pnl = float(mark.unrealised_pnl)
    strategy = next((item for item in config.strategies if item.name == mark.strategy), None)
    if strategy is not None:
        take_gain(line, mark, strategy)
    state[line_key(mark.strategy, mark.instrument)] = line
    take_valuation(state, mark)


def take_line_fill(state: ShardState, config: DeciderConfig, fill: Fill) -> None:
    """Learn from a fill what trading costs. The position after it came with the OrderEvent before it."""
    if fill.leg is not None or fill.reverses is not None:
        return  # Neither to leave at a stop nor what is taken back costs what following a target does.
    line: LineState | None = state.get(line_key(fill.strategy, fill.instrument))
    known = line is not None and line.decision_id == fill.decision_id
    half_spread = line.half_spread if line is not None and known else None
    # What is left of an instrument that is traded no more teaches nothing.
    if (instrument := config.instruments.get(fill.instrument)) is not None:
        take_fill(state, fill, instrument, half_spread)


def asserts_again(config: DeciderConfig, line: LineState, answer: PolicyAnswer, tally: VoteTally) -> bool:
    """Return whether a target that was denied, or expired, or filled in part, is due once more."""
    if config.retry_after_ns is None or line.satisfied or line.working:
        return False
    if answer.reason in _BLOCKED:
        return False
    return tally.available_at_ns - line.asserted_at_ns >= config.retry_after_ns
