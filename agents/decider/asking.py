"""How a policy is asked about one tally: only in a market that can be traded, and held to what may be wanted now."""

import math
from typing import Final, NamedTuple

from agents.decider.config import DeciderConfig
from agents.decider.costs import estimated
from agents.decider.observation import observe
from agents.decider.policy import Policy, PolicyAnswer, PolicyContext
from agents.decider.state import CLOCK_KEY, Clock, InstrumentOutlook, LineState, instrument_key
from agents.stage import ShardState
from schemas.decisions import NoTradeReason
from schemas.opinions import MarkQuality, VoteTally

_TRADABLE: Final = (MarkQuality.GOOD, MarkQuality.TOP_ONLY)


class Asked(NamedTuple):
    """What came of asking: ``answer`` as held to what may be wanted, what was ``seen``, and ``said``, the policy's own.

    Without a fresh market no policy is asked: ``said`` is None, and the target in force is kept.
    """

    answer: PolicyAnswer
    seen: dict[str, float | None]
    said: PolicyAnswer | None = None


def ask(state: ShardState, config: DeciderConfig, tally: VoteTally, line: LineState, policy: Policy) -> Asked:
    """Return what the policy wants on a line now. An answer that is not valid is kept as it was said."""
    clock: Clock = state.get(CLOCK_KEY) or Clock()
    outlook: InstrumentOutlook = state.get(instrument_key(tally.key)) or InstrumentOutlook()
    mark = outlook.mark
    if mark is None:
        return Asked(PolicyAnswer(line.target, NoTradeReason.NO_MARKET), {})
    seen = observe(tally, mark, outlook, line, clock.now_ns)
    if mark.quality not in _TRADABLE or mark.mid is None or tally.mid is None:
        return Asked(PolicyAnswer(line.target, NoTradeReason.NO_MARKET), seen)
    late = clock.now_ns - tally.available_at_ns > config.decision_life_ns
    if late or clock.now_ns - mark.newest_time_ns > config.stale_after_ns:
        return Asked(PolicyAnswer(line.target, NoTradeReason.DATA_STALE), seen)
    instrument = config.instruments[tally.key]
    costs = estimated(state, instrument, config.cost_priors)
    seen |= {"cost.excess": costs.excess, "cost.fee": costs.fee}
    context = PolicyContext(tally, mark, instrument, line.target, line.ballots, costs)
    said = policy.decide(seen, context)
    answer = _restricted(config, said, context, outlook, line, clock.now_ns) if is_valid(said) else said
    return Asked(answer, seen, said)


def is_valid(answer: PolicyAnswer) -> bool:
    """Tell whether an answer is one: a target in [-1, 1], and figures that are numbers."""
    figures = (answer.edge, answer.cost)
    return -1.0 <= answer.target <= 1.0 and all(figure is None or math.isfinite(figure) for figure in figures)


def _restricted(
    config: DeciderConfig,
    answer: PolicyAnswer,
    context: PolicyContext,
    outlook: InstrumentOutlook,
    line: LineState,
    now_ns: int,
) -> PolicyAnswer:
    """Return the answer held to what may be wanted now: under a restriction only less of what is held."""
    target = answer.target
    if config.long_only_aware and not context.instrument.shortable:
        target = max(0.0, target)
    reason = None
    if outlook.restricted:
        reason = NoTradeReason.ALERT
    elif now_ns < line.denied_until_ns:
        reason = NoTradeReason.LEVEL
    if reason is not None:
        target = max(0.0, min(target, line.target)) if line.target >= 0 else min(0.0, max(target, line.target))
    if target == answer.target:
        return answer
    kept = reason or NoTradeReason.TARGET_UNCHANGED
    return PolicyAnswer(target, kept if target == line.target else None, answer.edge, answer.cost)
