"""Events from features to the tally: what the experts saw, what each said, and the pooled answer."""

import enum

import msgspec

from schemas.event import Event


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One ballot that a snapshot opens. ``flat_band`` is the |change of mid| up to which the answer is *flat*."""

    ballot_id: str
    horizon_ns: int
    flat_band: int


class FeatureSnapshot(Event, frozen=True, kw_only=True, gc=False):
    """The features of one instrument at a grid time (``available_at_ns``); a missing input is null.

    ``mid`` is null when there is no two-sided uncrossed market. ``synchronised`` says whether the book could be
    trusted; ``deadline_ns`` is when the ballots close at the latest.
    """

    grid_time_ns: int
    deadline_ns: int
    mid: int | None
    synchronised: bool
    features: dict[str, float | None]
    questions: tuple[Question, ...]


class Bar(Event, frozen=True, kw_only=True, gc=False):
    """Open, high, low, close and volume of one interval. ``imputed`` bars repeat the last close, volume null."""

    interval_ns: int
    open_time_ns: int
    open_price: int
    high_price: int
    low_price: int
    close_price: int
    volume: int | None
    trades: int
    complete: bool
    imputed: bool


class AbstainReason(enum.StrEnum):
    """Why an expert gives no direction."""

    WARMING_UP = "WARMING_UP"
    MISSING_INPUT = "MISSING_INPUT"
    UNSYNCHRONISED = "UNSYNCHRONISED"
    CONTEXT_ONLY = "CONTEXT_ONLY"
    NO_EDGE = "NO_EDGE"
    UNSUPPORTED_HORIZON = "UNSUPPORTED_HORIZON"


class Vote(Event, frozen=True, kw_only=True, gc=False):
    """One expert's answer to one ballot: probabilities that sum to 1, or an abstention with its reason.

    ``expires_at_ns`` is until when the vote may answer a request. ``evidence`` is what the expert looked at;
    ``context`` is what it publishes beside the direction (regime posterior, alert level).
    """

    ballot_id: str
    expert: str
    horizon_ns: int
    expires_at_ns: int
    p_down: float | None = None
    p_flat: float | None = None
    p_up: float | None = None
    abstained: AbstainReason | None = None
    text_fed: bool = False
    evidence: dict[str, float | None] = {}
    context: dict[str, float] = {}


class AlertLevel(enum.StrEnum):
    """How far an instrument's market is from normal."""

    NORMAL = "NORMAL"
    ELEVATED = "ELEVATED"
    HIGH = "HIGH"


class AnomalyAlert(Event, frozen=True, kw_only=True, gc=False):
    """A change of the alert level of one instrument; HIGH puts it in REDUCING."""

    level: AlertLevel
    kind: str
    score: float
    detail: str = ""


class MarkQuality(enum.StrEnum):
    """Whether a mark may be traded on."""

    GOOD = "GOOD"
    STALE = "STALE"
    GAP = "GAP"
    CROSSED = "CROSSED"
    ONE_SIDED = "ONE_SIDED"
    TOP_ONLY = "TOP_ONLY"


class MarketMark(Event, frozen=True, kw_only=True, gc=False):
    """Where an instrument stands, on the grid (``on_grid``) and at each Heartbeat.

    ``newest_time_ns`` is the ``available_at_ns`` of the newest market record behind it; ``available_at_ns`` is
    *now* on the run's clock. ``volume`` is what traded since the last grid mark, null without sizes.
    """

    mid: int | None
    bid_price: int | None
    ask_price: int | None
    bid_quantity: int | None
    ask_quantity: int | None
    volume: int | None
    newest_time_ns: int
    quality: MarkQuality
    on_grid: bool
    grid_time_ns: int


class BallotRequest(Event, frozen=True, kw_only=True, gc=False):
    """Any strategy's question out of turn; answered from each live expert's newest unexpired vote, as advice."""

    request_id: str
    strategy: str
    horizon_ns: int


class TallyEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one expert said on a ballot, what it weighed, and its skill so far (loss saved over the base rate).

    ``p_*`` is what it said, ``calibrated_*`` what that was found to mean, which is what was pooled. Weight and skill
    are those of the calibrated vote, as is ``calibration_error``: the expected calibration error of its last votes.
    """

    expert: str
    weight: float
    skill: float | None
    p_down: float | None
    p_flat: float | None
    p_up: float | None
    abstained: AbstainReason | None
    evidence: dict[str, float | None]
    calibrated_down: float | None = None
    calibrated_flat: float | None = None
    calibrated_up: float | None = None
    calibration_error: float | None = None


class VoteTally(Event, frozen=True, kw_only=True, gc=False):
    """The pooled answer to one ballot. Probabilities are null when nobody gave a direction.

    ``disagreement`` is the Jensen-Shannon divergence of the votes in nats; ``closed_by`` says whether every live
    expert had answered (``ALL``) or the deadline came first. ``volatility`` is the realised volatility per square
    root of a second as a fraction of the mid; ``spread`` is ask less bid in units of 1e-8.
    """

    ballot_id: str
    snapshot_id: str
    horizon_ns: int
    flat_band: int
    grid_time_ns: int
    mid: int | None
    p_down: float | None
    p_flat: float | None
    p_up: float | None
    disagreement: float | None
    volatility: float | None
    spread: int | None
    closed_by: str
    late: tuple[str, ...]
    entries: tuple[TallyEntry, ...]
    context: dict[str, float]
    advice_for: str | None = None
    request_id: str | None = None
