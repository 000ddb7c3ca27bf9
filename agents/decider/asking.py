"""How a policy is asked about one tally: only in a market that can be traded, and held to what may be wanted now."""

import math
from typing import Final, NamedTuple

from agents.decider.allowed import Allowed, allowed_now, project
from agents.decider.config import DeciderConfig, StrategyConfig
from agents.decider.costs import estimated
from agents.decider.moments import moments_now
from agents.decider.observation import Standing, observe
from agents.decider.policy import Policy, PolicyAnswer, PolicyContext
from agents.decider.state import CLOCK_KEY, Clock, InstrumentOutlook, LineState, instrument_key
from agents.stage import ShardState
from schemas.decisions import NoTradeReason
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark, MarkQuality, VoteTally
from schemas.values import notional

_TRADABLE: Final = (MarkQuality.GOOD, MarkQuality.TOP_ONLY)

Placed = tuple[StrategyConfig, LineState]
"""A line, and the strategy that it is of."""


class Asked(NamedTuple):
    """What came of asking: ``answer`` as held to what may be wanted, what was ``seen``, and ``said``, the policy's own.

    Without a fresh market no policy is asked: ``said`` is None, and the target in force is kept.
    """

    answer: PolicyAnswer
    seen: dict[str, float | None]
    said: PolicyAnswer | None = None


def ask(state: ShardState, config: DeciderConfig, tally: VoteTally, placed: Placed, policy: Policy) -> Asked:
    """Return what the policy wants on a line now. An answer that is not valid is kept as it was said."""
    strategy, line = placed
    clock: Clock = state.get(CLOCK_KEY) or Clock()
    outlook: InstrumentOutlook = state.get(instrument_key(tally.key)) or InstrumentOutlook()
    mark = outlook.mark
    if mark is None:
        return Asked(PolicyAnswer(line.target, NoTradeReason.NO_MARKET), {})
    instrument = config.instruments[tally.key]
    costs = estimated(state, instrument, config.cost_priors)
    allowed = _allowed(config, instrument, outlook, line, clock.now_ns)
    standing = Standing(allowed, costs, _exposure(strategy, line, mark, instrument), moments_now(line))
    seen = observe(tally, outlook, line, clock.now_ns, standing)
    if mark.quality not in _TRADABLE or mark.mid is None or tally.mid is None:
        return Asked(PolicyAnswer(line.target, NoTradeReason.NO_MARKET), seen)
    late = clock.now_ns - tally.available_at_ns > config.decision_life_ns
    if late or clock.now_ns - mark.newest_time_ns > config.stale_after_ns:
        return Asked(PolicyAnswer(line.target, NoTradeReason.DATA_STALE), seen)
    context = PolicyContext(tally, mark, instrument, line.target, line.ballots, costs)
    said = policy.decide(seen, context)
    return Asked(_held_to(said, allowed, line.target) if is_valid(said) else said, seen, said)


def is_valid(answer: PolicyAnswer) -> bool:
    """Tell whether an answer is one: a target in [-1, 1], and figures that are numbers."""
    figures = (answer.edge, answer.cost)
    return -1.0 <= answer.target <= 1.0 and all(figure is None or math.isfinite(figure) for figure in figures)


def _allowed(
    config: DeciderConfig, instrument: InstrumentDefined, outlook: InstrumentOutlook, line: LineState, now_ns: int
) -> Allowed:
    """Return what may be wanted now: under a restriction only less of what is wanted already."""
    reason = None
    if outlook.restricted:
        reason = NoTradeReason.ALERT
    elif now_ns < line.denied_until_ns:
        reason = NoTradeReason.LEVEL
    return allowed_now(line.target, short=instrument.shortable or not config.long_only_aware, reason=reason)


def _exposure(
    strategy: StrategyConfig, line: LineState, mark: MarketMark, instrument: InstrumentDefined
) -> float | None:
    """Return the notional held as a share of the budget, None without a budget or a mid."""
    if not strategy.budget or mark.mid is None:
        return None
    held = notional(mark.mid, line.position, instrument.multiplier)
    return float(held * strategy.conversion_rates.get(instrument.quote_currency, 1) / strategy.budget)


def _held_to(answer: PolicyAnswer, allowed: Allowed, target_in_force: float) -> PolicyAnswer:
    target = project(answer.target, allowed)
    if target == answer.target:
        return answer
    kept = allowed.reason or NoTradeReason.TARGET_UNCHANGED
    return PolicyAnswer(target, kept if target == target_in_force else None, answer.edge, answer.cost)
