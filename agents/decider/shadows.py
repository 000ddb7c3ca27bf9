"""What models in shadow would do: a decision for each tally that the champion decides on, on a line on paper.

Nobody acts on it. It goes to a topic that no stage reads, and what it earned is worked out from the record
(``agents.release.paper``).
"""

from decimal import Decimal

from agents.decider.acting import ask_model
from agents.decider.asking import Asked
from agents.decider.config import DeciderConfig, Follows, StrategyConfig
from agents.decider.decisions import Told, decision_of
from agents.decider.moments import count_return, pay_on_paper, take_paper_gain
from agents.decider.policy_source import ModelName
from agents.decider.releases import retire, shadows_of
from agents.decider.state import ShadowLine, shadow_key
from agents.reward.experience import one_way_cost
from agents.stage import ShardState
from schemas.decisions import DecisionOutcome, NoTradeReason
from schemas.event import Event
from schemas.feedback import ReleaseStage
from schemas.opinions import VoteTally
from schemas.values import UNITS_PER_ONE, to_decimal


def shadowed(
    state: ShardState, config: DeciderConfig, tally: VoteTally, strategy: StrategyConfig, ordinal: int
) -> list[Event]:
    """Return each shadow's decision where the champion acts; of one that is unfit its retirement instead.

    ``ordinal`` is that of the first among the tally's outputs.
    """
    found: list[Event] = []
    if strategy.follows is not Follows.CHAMPION:
        return found
    for model in shadows_of(state):
        key = shadow_key(model.sha256, strategy.name, tally.key)
        line: ShadowLine = state.get(key) or ShadowLine()
        take_paper_gain(line, tally.mid)
        asked = ask_model(state, config, tally, (strategy, line), model)
        if isinstance(asked, Asked):
            found.append(_follow(config, tally, strategy, (model, line, asked), ordinal + len(found)))
            state[key] = line
        else:
            found.append(retire(state, config, model, asked, tally))
    return found


def _follow(
    config: DeciderConfig,
    tally: VoteTally,
    strategy: StrategyConfig,
    said: tuple[ModelName, ShadowLine, Asked],
    at: int,
) -> Event:
    model, line, asked = said
    previous, target = line.target, asked.answer.target
    outcome, reason = DecisionOutcome.NO_TRADE, asked.answer.reason
    if target != previous:
        outcome, reason = DecisionOutcome.TARGET, None
    elif reason is None:
        reason = NoTradeReason.TARGET_UNCHANGED
    line.ballots += 1
    count_return(line)
    pay_on_paper(line, target, one_way_cost(asked.seen))
    line.target = target
    line.position = _held(config, tally, strategy, target)
    told = Told(asked, previous, outcome, reason)
    return decision_of(config, tally, strategy, (model.model, ReleaseStage.SHADOW.value), (at, told))


def _held(config: DeciderConfig, tally: VoteTally, strategy: StrategyConfig, target: float) -> int:
    """Return the position that the target is worth at the tally's mid, in units of 1e-8, on paper not in whole lots."""
    if strategy.budget is None or not tally.mid:
        return 0
    instrument = config.instruments[tally.key]
    rate = strategy.conversion_rates.get(instrument.quote_currency, Decimal(1))
    worth = float(to_decimal(tally.mid) * instrument.multiplier * rate)
    return round(target * float(strategy.budget) / worth * UNITS_PER_ONE)
