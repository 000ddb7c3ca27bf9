"""A decision as an event: what was wanted and why, with all that was seen."""

from typing import NamedTuple

from agents.decider.asking import Asked
from agents.decider.config import DeciderConfig, StrategyConfig
from agents.decider.policy_source import ModelName
from schemas.decisions import Decision, DecisionOutcome, NoTradeReason, WithheldReason
from schemas.event import derive_id
from schemas.opinions import VoteTally

STAGE = "decider"


class Told(NamedTuple):
    """What a decision tells: what came of asking, the target before it, and whether another is wanted.

    ``withheld`` is the model in force that was not asked.
    """

    asked: Asked
    previous: float
    outcome: DecisionOutcome
    reason: NoTradeReason | None
    withheld: ModelName | None = None


def decision_id_of(tally: VoteTally, ordinal: int) -> str:
    """Return the id of the decision that is the ``ordinal``-th output of a tally: its event id, too."""
    return derive_id(tally.event_id, STAGE, ordinal)


def decision_of(
    config: DeciderConfig,
    tally: VoteTally,
    strategy: StrategyConfig,
    actor: tuple[str, str],
    numbered: tuple[int, Told],
) -> Decision:
    """Return the decision of an actor (name and stage), with its ordinal among the tally's outputs."""
    ordinal, told = numbered
    answer = told.asked.answer
    return Decision(
        key=strategy.account,
        event_time_ns=tally.event_time_ns,
        available_at_ns=tally.available_at_ns,
        decision_id=decision_id_of(tally, ordinal),
        account=strategy.account,
        strategy=strategy.name,
        instrument=tally.key,
        ballot_id=tally.ballot_id,
        tally_id=tally.event_id,
        outcome=told.outcome,
        reason=told.reason,
        target=answer.target,
        previous_target=told.previous,
        mid=tally.mid,
        horizon_ns=tally.horizon_ns,
        policy=actor[0],
        policy_stage=actor[1],
        edge=answer.edge,
        cost=answer.cost,
        observation=told.asked.seen,
        expires_at_ns=tally.available_at_ns + config.decision_life_ns,
        request_id=tally.request_id,
        withheld=None if told.withheld is None else told.withheld.model,
        withheld_for=None if told.withheld is None else WithheldReason.OUTSIDE_TRAINING,
    )
