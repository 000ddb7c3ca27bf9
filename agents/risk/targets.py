"""From a decision to the order that brings its line to the target, sized by what it holds and what works there."""

from collections.abc import Sequence

from agents.limits.checks import failed
from agents.limits.exposure import ExposureLine
from agents.risk.amends import change_resting, wanted_of
from agents.risk.config import RiskConfig, StrategyRisk
from agents.risk.orders import Intention, cancel_only, judge, to_cancel
from agents.risk.sizing import order_quantity
from agents.risk.standing import book_in
from agents.risk.state import LEVELS_KEY, AccountRisk, account_key, line_key
from agents.stage import NO_EVENTS, ShardState
from schemas.decisions import CheckResult, Decision, DenyReason, OrderDenied
from schemas.event import Event, derive_id
from schemas.feedback import ReleaseStage


def answer(state: ShardState, config: RiskConfig, decision: Decision, strategy: StrategyRisk) -> Sequence[Event]:
    """Return the verdict on the order that a decision comes to, or the change or cancels that are all of it."""
    changed = change_resting(state, config, decision, strategy)
    if changed is not None:
        return changed
    account: AccountRisk = state[account_key(strategy.account)]
    cancels = to_cancel(account.exposure.working, decision.strategy, decision.instrument)
    sized = sized_by(state, config, decision)
    intention = Intention(
        decision_id=decision.decision_id,
        strategy=strategy,
        instrument=decision.instrument,
        quantity=sized or 0,
        target=decision.target,
        cancels=cancels,
        decided_at_ns=decision.available_at_ns,
        expires_at_ns=decision.expires_at_ns,
    )
    if sized == 0:
        account.unchanged += 1
        state[account_key(strategy.account)] = account
        return cancel_only(state, config, intention) if cancels else NO_EVENTS
    # What a retired model has left is closed, whatever its decision says.
    retired = decision.policy_stage == ReleaseStage.RETIRED
    reducing = retired or line_key(decision.strategy, decision.instrument) in account.flattening
    return judge(state, config, intention, reducing)


def sized_by(state: ShardState, config: RiskConfig, decision: Decision, line: ExposureLine | None = None) -> int | None:
    """Return the signed quantity to order, or None when it cannot be told: the limits then say what is missing.

    With a ``line`` it is sized as if that were the decision's.
    """
    wanted = wanted_of(state, config, decision, config.strategies[decision.strategy])
    if wanted is None:
        return None
    lot_size = config.instruments[decision.instrument].lot_size
    return order_quantity(wanted.position, wanted.line if line is None else line, lot_size)


def unpermitted(state: ShardState, config: RiskConfig, decision: Decision) -> OrderDenied:
    """Return the denial of a decision of a strategy that is none of ours, or of another account."""
    now_ns: int = state[LEVELS_KEY].now_ns
    check = CheckResult(
        reason=DenyReason.NOT_PERMITTED,
        passed=False,
        observed=f"{decision.strategy} on {decision.account}",
        limit="configured strategies",
    )
    return OrderDenied(
        key=decision.account,
        event_time_ns=now_ns,
        available_at_ns=now_ns,
        order_id=derive_id(decision.decision_id, "order", 0),
        decision_id=decision.decision_id,
        account=decision.account,
        strategy=decision.strategy,
        instrument=decision.instrument,
        side=None,
        quantity=0,
        target=decision.target,
        reasons=failed((check,)),
        limits_version=book_in(state, config).version,
        checks=(check,),
    )
