"""Who acts in a strategy at a tally, and what it answers: a released model as long as it is fit, else the way back.

A model that is found unfit is out of force before its answer could become a decision, and whoever acts after it is
asked about the same tally: no order is ever a bad model's. A model in force is not asked at all about an instrument
that it was not trained on: what it would do there is chance (``releases.is_withheld``).
"""

from typing import Final, NamedTuple

from agents.decider.asking import Asked, Placed, ask, is_valid
from agents.decider.config import DeciderConfig, Follows, StrategyConfig
from agents.decider.flat import FlatPolicy
from agents.decider.policy import Policy
from agents.decider.policy_source import LoadedPolicy, ModelName
from agents.decider.releases import is_withheld, model_in, retire
from agents.decider.state import LineState
from agents.decider.watch import drifted
from agents.stage import ShardState
from schemas.decisions import NoTradeReason
from schemas.feedback import ModelRelease, ReleaseStage, RetirementReason
from schemas.opinions import VoteTally

_FLAT: Final = FlatPolicy()


class Actor(NamedTuple):
    """Whose decision it is: the policy's name and stage as decisions cite them."""

    name: str
    stage: str


class Answered(NamedTuple):
    """A tally's answer for one line, whose it is, and the models that were found unfit on the way to it.

    ``withheld`` is the model in force where it is not asked about this instrument.
    """

    asked: Asked
    actor: Actor
    retired: list[ModelRelease]
    withheld: ModelName | None = None


def answer(
    state: ShardState, config: DeciderConfig, tally: VoteTally, strategy: StrategyConfig, line: LineState
) -> Answered:
    """Ask whoever acts in the strategy. Each model that is unfit is retired, so that this comes to an end."""
    retired: list[ModelRelease] = []
    while (model := model_in(state, config, strategy)) is not None:
        if is_withheld(config, model, tally.key):
            break
        found = ask_model(state, config, tally, (strategy, line), model)
        if isinstance(found, Asked):
            return Answered(found, Actor(model.model, _stage_of(strategy)), retired)
        retired.append(retire(state, config, model, found, tally))
    policy, stage = _without_model(strategy)
    asked = ask(state, config, tally, (strategy, line), policy)
    assert asked.said is None or is_valid(asked.said), f"{policy.name} wants {asked.said}"
    return Answered(asked, Actor(policy.name, stage), retired, model)


def ask_model(
    state: ShardState, config: DeciderConfig, tally: VoteTally, placed: Placed, model: ModelName
) -> Asked | RetirementReason:
    """Return what a released model wants on a line, or why it must not be listened to any more."""
    loaded = config.source.policy(model.sha256)
    if not isinstance(loaded, LoadedPolicy):
        return RetirementReason.ARTEFACT_REFUSED
    asked = ask(state, config, tally, placed, loaded.policy)
    if asked.said is None:
        return asked
    if not is_valid(asked.said) or asked.said.reason is NoTradeReason.POLICY_INVALID:
        return RetirementReason.INVALID_OUTPUT
    if tally.advice_for is None and drifted(state, config, model, loaded, asked.seen) is not None:
        return RetirementReason.INPUT_DRIFT
    return asked


def _stage_of(strategy: StrategyConfig) -> str:
    return (ReleaseStage.CANARY if strategy.follows is Follows.CANARY else ReleaseStage.CHAMPION).value


def _without_model(strategy: StrategyConfig) -> tuple[Policy, str]:
    """Return what acts while no model does. Where a canary would, what it left is closed and nothing is opened."""
    if strategy.follows is Follows.CANARY:
        return _FLAT, ReleaseStage.RETIRED.value
    return strategy.policy, strategy.policy_stage
