"""What a decision earned before the next one was taken: the trainer's reward, without waiting for a closed trade.

Between two valued marks the change of equity is exactly

    position after x (mid' - mid)  -  sum of signed quantity x (price - mid)  -  fees

where the second term is the slippage of the fills in between against the mid at the beginning. Running totals of
the three are kept at each grid mark; a decision's reward is their difference from its own grid time to the next
decision's, so rewards add up to the profit and loss of the line, whatever is filled late.
"""

from decimal import Decimal
from typing import Final

from agents.feedback.config import StrategyFeedback
from agents.feedback.state import Account, Line, OpenDecision
from schemas.decisions import Decision
from schemas.event import Event
from schemas.feedback import Experience
from schemas.market import InstrumentDefined
from schemas.orders import AccountMark, Fill
from schemas.values import NS_PER_S, ZERO, money, notional

ACCOUNTS_MAX: Final = 512
DECISIONS_MAX: Final = 512
ORPHAN_NS: Final = 60 * NS_PER_S
"""A decision whose tally has not come for this long will not be rewarded."""


def open_decision(line: Line, decision: Decision) -> None:
    """Remember a decision until the next one's mark. One that is told again takes its own place.

    Only the training environment tells one twice: first that it will be taken, then what was.
    """
    if line.decisions and line.decisions[-1].decision_id == decision.decision_id:
        del line.decisions[-1]
    del line.decisions[: max(0, len(line.decisions) + 1 - DECISIONS_MAX)]
    line.decisions.append(
        OpenDecision(
            decision_id=decision.decision_id,
            tally_id=decision.tally_id,
            available_at_ns=decision.available_at_ns,
            policy=decision.policy,
            policy_stage=decision.policy_stage,
            observation=decision.observation,
            intended=decision.target,
            horizon_ns=decision.horizon_ns,
        )
    )


def add_fill(line: Line, fill: Fill, fee: Decimal, instrument: InstrumentDefined, rate: Decimal) -> None:
    """Count a fill towards the interval that is open. ``fee`` is in the quote currency, ``rate`` converts it."""
    signed = fill.side.sign * fill.quantity
    line.traded += signed
    line.cost += money(notional(fill.price, signed, instrument.multiplier) * rate)
    line.fees += money(fee * rate)


def value_at(line: Line, mark: AccountMark, instrument: InstrumentDefined, rate: Decimal) -> None:
    """Close the open interval at a grid mark; without a mid it stays open until the next mark that has one.

    Funding that fell due at the mark lowers the profit and loss of the interval that ends there.
    """
    if mark.mid is None:
        assert mark.funding == 0, "funding is charged on a mid"
        return
    last = line.accounts[-1] if line.accounts else None
    anchor = mark.mid if last is None else last.mid
    moved = money(notional(mark.mid - anchor, mark.position, instrument.multiplier) * rate)
    slipped = line.cost - money(notional(anchor, line.traded, instrument.multiplier) * rate)
    line.accounts.append(
        Account(
            grid_time_ns=mark.grid_time_ns,
            position=mark.position,
            mid=mark.mid,
            pnl=(ZERO if last is None else last.pnl) + moved - mark.funding,
            fees=(ZERO if last is None else last.fees) + line.fees,
            slippage=(ZERO if last is None else last.slippage) + slipped,
        )
    )
    line.traded, line.cost, line.fees = 0, ZERO, ZERO
    del line.accounts[:-ACCOUNTS_MAX]


def close_decisions(
    line: Line, grids: dict[str, int], strategy: StrategyFeedback, instrument: InstrumentDefined, now_ns: int
) -> list[Event]:
    """Return an Experience for each decision whose successor's mark has come. ``grids``: tally id -> grid time."""
    events: list[Event] = []
    line.decisions = [item for item in line.decisions if _alive(item, grids, now_ns)]
    while len(line.decisions) > 1:
        decision, following = line.decisions[0], line.decisions[1]
        begin, end = _at(line, grids.get(decision.tally_id)), _at(line, grids.get(following.tally_id))
        if begin is None or end is None:
            break
        events.append(_experience(decision, following, begin, end, (strategy, instrument)))
        del line.decisions[0]
        del line.accounts[: line.accounts.index(end)]
    return events


def _alive(decision: OpenDecision, grids: dict[str, int], now_ns: int) -> bool:
    return decision.tally_id in grids or now_ns <= decision.available_at_ns + ORPHAN_NS


def _at(line: Line, grid_time_ns: int | None) -> Account | None:
    if grid_time_ns is None:
        return None
    return next((account for account in line.accounts if account.grid_time_ns >= grid_time_ns), None)


def _experience(
    decision: OpenDecision,
    following: OpenDecision,
    begin: Account,
    end: Account,
    owner: tuple[StrategyFeedback, InstrumentDefined],
) -> Experience:
    strategy, instrument = owner
    pnl, fees, slippage = end.pnl - begin.pnl, end.fees - begin.fees, end.slippage - begin.slippage
    held = notional(end.mid, end.position, instrument.multiplier) * strategy.rate(instrument.quote_currency)
    return Experience(
        key=strategy.account,
        event_time_ns=end.grid_time_ns,
        available_at_ns=max(end.grid_time_ns, following.available_at_ns),
        decision_id=decision.decision_id,
        next_decision_id=following.decision_id,
        account=strategy.account,
        strategy=strategy.name,
        instrument=instrument.key,
        policy=decision.policy,
        policy_stage=decision.policy_stage,
        observation=decision.observation,
        next_observation=following.observation,
        intended=decision.intended,
        effective=float(held / strategy.budget),
        pnl=pnl,
        fees=fees,
        slippage=slippage,
        reward=pnl - fees - slippage,
        horizon_ns=decision.horizon_ns,
    )
