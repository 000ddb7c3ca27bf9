"""Events of the feedback plane: what came of votes, decisions and trades."""

import enum
from decimal import Decimal

from schemas.event import Event
from schemas.values import Side


class ExpertScore(Event, frozen=True, kw_only=True, gc=False):
    """The score of one expert on one ballot at its horizon. ``key`` is the instrument.

    ``loss`` is the clipped log-loss scaled to [0, 1]; ``base_loss`` that of the running base rate; an abstainer
    takes ``pool_loss``. ``outcome`` is -1, 0 or +1: down, flat, up. ``p_*`` is what the expert said and ``loss`` its
    loss; ``calibrated_loss`` is that of the vote that was pooled. They are null when it abstained.
    """

    ballot_id: str
    expert: str
    horizon_ns: int
    outcome: int
    move: int
    loss: float
    base_loss: float
    pool_loss: float
    abstained: bool
    p_down: float | None = None
    p_flat: float | None = None
    p_up: float | None = None
    calibrated_loss: float | None = None


class VoidReason(enum.StrEnum):
    """Why a ballot was never scored."""

    GAP = "GAP"
    NO_MARK = "NO_MARK"
    NO_MID = "NO_MID"


class BallotVoided(Event, frozen=True, kw_only=True, gc=False):
    """A ballot that cannot be scored: a gap inside its horizon, or no mark at its end. ``key`` is the instrument."""

    ballot_id: str
    horizon_ns: int
    reason: VoidReason


class TradeFeedback(Event, frozen=True, kw_only=True, gc=False):
    """One closed slice of a position, matched first in, first out. ``key`` is the account."""

    account: str
    strategy: str
    instrument: str
    side: Side
    quantity: int
    entry_price: int
    exit_price: int
    entry_time_ns: int
    exit_time_ns: int
    entry_decision_id: str
    exit_decision_id: str
    entry_fill_id: str
    exit_fill_id: str
    gross_pnl: Decimal
    fees: Decimal
    slippage: Decimal
    net_pnl: Decimal
    currency: str


class Experience(Event, frozen=True, kw_only=True, gc=False):
    """One transition of the decider for the trainer. ``key`` is the account.

    Reward components are money: ``pnl`` is the quantity held x change of mid from this decision to the next,
    ``fees`` and ``slippage`` those of the fills in between. ``intended`` is the policy's target and ``effective``
    the exposure that was really held.
    """

    decision_id: str
    next_decision_id: str
    account: str
    strategy: str
    instrument: str
    policy: str
    policy_stage: str
    observation: dict[str, float | None]
    next_observation: dict[str, float | None]
    intended: float
    effective: float
    pnl: Decimal
    fees: Decimal
    slippage: Decimal
    reward: Decimal
    horizon_ns: int


class OutcomeReported(Event, frozen=True, kw_only=True, gc=False):
    """What another system knows about the outcome of a decision of ours. ``key`` is the instrument."""

    decision_id: str
    kind: str
    value: float
    note: str = ""


class ReleaseStage(enum.StrEnum):
    """Where a model stands on its way into force."""

    CANDIDATE = "CANDIDATE"
    SHADOW = "SHADOW"
    CANARY = "CANARY"
    CHAMPION = "CHAMPION"
    RETIRED = "RETIRED"


class RetirementReason(enum.StrEnum):
    """Why the decider took a model out of force by itself. The list is closed."""

    INVALID_OUTPUT = "INVALID_OUTPUT"
    INPUT_DRIFT = "INPUT_DRIFT"
    LOSS = "LOSS"
    ARTEFACT_REFUSED = "ARTEFACT_REFUSED"
    SUPERSEDED = "SUPERSEDED"


class ModelRelease(Event, frozen=True, kw_only=True, gc=False):
    """A model's stage changed. ``key`` is the model; the artefact is found by its digest.

    The decider's own, by which it retires a model, have a RetirementReason as their reason.
    """

    model: str
    sha256: str
    release_stage: ReleaseStage
    reason: str
    author: str
