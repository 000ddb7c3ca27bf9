"""Every projection: the one place that says what of an event is kept where."""

from typing import Final

from infra.postgres.projection_table import Projection, by_record
from schemas.changes import ControlOutcome
from schemas.control import ControlCommand
from schemas.decisions import Decision, OrderApproved, OrderDenied
from schemas.event import Event, Heartbeat
from schemas.feedback import BallotVoided, Experience, ExpertScore, ModelRelease, OutcomeReported, TradeFeedback
from schemas.market import BookSnapshot, DepthUpdate, InstrumentDefined, Quality, Quote, Trade, VenueBar
from schemas.opinions import AnomalyAlert, BallotRequest, Bar, FeatureSnapshot, MarketMark, Vote, VoteTally
from schemas.orders import AccountMark, Fill, OrderEvent, Position

_KEYED: Final = {"instrument": "r.key"}
_MARKET: Final = "event_id kind instrument event_time_ns available_at_ns source generation seq "
_LEVELS: Final = " bid_prices bid_quantities ask_prices ask_quantities"
_SLOT: Final = "account strategy instrument "
_ORDER: Final = (
    "order_id event_id generation seq available_at_ns venue_order_id decision_id account strategy instrument side"
    " order_type time_in_force limit_price quantity filled_quantity leaves_quantity average_price status final reason"
    " deny_reasons decided_at_ns stop_price parent_order_id leg"
)
_POSTINGS: Final = (
    "CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(r.postings) AS (ledger_account text, asset text,"
    " amount numeric)) WITH ORDINALITY AS p(ledger_account, asset, amount, line)"
)
_ENTRIES: Final = (
    "CROSS JOIN LATERAL jsonb_to_recordset(r.entries) AS e(expert text, weight double precision,"
    " skill double precision)"
)


def _market(record: type[Event], kind: str, columns: str, **expressions: str) -> Projection:
    named = {"kind": f"'{kind}'", **_KEYED, **expressions}
    return Projection(record, "market_data", _MARKET + columns, named, conflict="event_id, available_at_ns")


def _ledger(record: type[Event], kind: str) -> Projection:
    lines = {name: f"p.{name}" for name in ("ledger_account", "asset", "amount", "line")}
    columns = f"event_id line available_at_ns {_SLOT}kind ledger_account asset amount"
    return Projection(
        record, "ledger", columns, {**lines, "kind": f"'{kind}'"}, lateral=_POSTINGS, conflict="event_id, line"
    )


_OF_THE_MARKET: Final = (
    Projection(
        InstrumentDefined,
        "instruments",
        "instrument event_id generation seq available_at_ns venue symbol tick_size lot_size quantity_min quantity_max"
        " notional_min multiplier inverse base_currency quote_currency maker_fee_rate taker_fee_rate funding_rate"
        " funding_interval_ns shortable session grid_ns horizons_ns inferred",
        _KEYED,
        newest_of="instrument",
    ),
    _market(BookSnapshot, "BOOK", "last_update_id" + _LEVELS, last_update_id="r.update_id"),
    _market(DepthUpdate, "DEPTH", "first_update_id last_update_id previous_update_id" + _LEVELS),
    _market(
        Quote,
        "QUOTE",
        "bid_price bid_quantity ask_price ask_quantity last_update_id",
        last_update_id="r.update_id",
    ),
    _market(Trade, "TRADE", "trade_id price quantity aggressor"),
    _market(VenueBar, "VENUE_BAR", "interval_ns open_price high_price low_price close_price volume"),
    Projection(
        Quality, "quality_events", "event_id instrument event_time_ns available_at_ns kind detail count seq", _KEYED
    ),
    Projection(
        MarketMark,
        "market_marks",
        "event_id instrument available_at_ns mid bid_price ask_price bid_quantity ask_quantity volume newest_time_ns"
        " quality on_grid grid_time_ns seq",
        _KEYED,
    ),
)
_OF_OPINION: Final = (
    Projection(
        Bar,
        "bars",
        "event_id instrument available_at_ns interval_ns open_time_ns open_price high_price low_price close_price"
        " volume trades complete imputed seq",
        _KEYED,
    ),
    Projection(
        FeatureSnapshot,
        "feature_snapshots",
        "event_id cause_id instrument available_at_ns grid_time_ns deadline_ns mid synchronised features questions seq",
        _KEYED,
    ),
    Projection(
        Vote,
        "votes",
        "event_id cause_id instrument available_at_ns ballot_id expert horizon_ns expires_at_ns p_down p_flat p_up"
        " abstained text_fed evidence context seq",
        _KEYED,
    ),
    Projection(AnomalyAlert, "alerts", "event_id instrument available_at_ns level kind score detail seq", _KEYED),
    Projection(
        BallotRequest,
        "ballot_requests",
        "event_id instrument available_at_ns request_id strategy horizon_ns seq",
        _KEYED,
    ),
    Projection(
        VoteTally,
        "tallies",
        "event_id cause_id instrument available_at_ns ballot_id snapshot_id horizon_ns flat_band grid_time_ns mid"
        " p_down p_flat p_up disagreement volatility spread closed_by late entries context advice_for request_id seq",
        _KEYED,
    ),
    Projection(
        VoteTally,
        "weights",
        "instrument horizon_ns expert generation seq grid_time_ns weight skill",
        {**_KEYED, "expert": "e.expert", "weight": "e.weight", "skill": "e.skill"},
        newest_of="instrument horizon_ns expert",
        lateral=_ENTRIES,
    ),
)
_OF_MONEY: Final = (
    Projection(
        Decision,
        "decisions",
        "event_id cause_id available_at_ns decision_id account strategy instrument ballot_id tally_id outcome reason"
        " target previous_target mid horizon_ns policy policy_stage edge cost observation expires_at_ns request_id"
        " withheld withheld_for seq",
    ),
    Projection(
        OrderApproved,
        "order_verdicts",
        "event_id cause_id available_at_ns verdict order_id decision_id account strategy instrument side quantity"
        " order_type limit_price time_in_force reduce_only cancels decision_mid reasons limits_version checks"
        " expires_at_ns decided_at_ns stop_price parent_order_id leg amends seq",
        {"verdict": "'APPROVED'", "reasons": "'{}'::text[]"},
    ),
    Projection(
        OrderDenied,
        "order_verdicts",
        "event_id cause_id available_at_ns verdict order_id decision_id account strategy instrument side quantity"
        " target reasons limits_version checks stop_price parent_order_id leg seq",
        {"verdict": "'DENIED'"},
    ),
    Projection(
        OrderEvent,
        "order_events",
        "event_id cause_id source generation seq event_time_ns available_at_ns order_id venue_order_id decision_id"
        " account strategy instrument side order_type time_in_force limit_price quantity filled_quantity"
        " leaves_quantity average_price status exec_type final reason deny_reasons position_after working_after"
        " decided_at_ns stop_price parent_order_id leg amend_id pending_quantity pending_price client_order_id",
    ),
    Projection(OrderEvent, "orders", _ORDER, newest_of="order_id"),
    Projection(
        Fill,
        "fills",
        "event_id cause_id generation seq event_time_ns available_at_ns fill_id order_id venue_order_id decision_id"
        " account strategy instrument side price quantity fee fee_currency liquidity slippage realised_pnl"
        " position_after leg reverses",
    ),
    _ledger(Fill, "FILL"),
    Projection(
        Position,
        "position_events",
        f"event_id generation seq available_at_ns {_SLOT}quantity average_price realised_pnl fees currency",
    ),
    Projection(
        Position,
        "positions",
        _SLOT + "event_id generation seq available_at_ns quantity average_price realised_pnl fees currency",
        newest_of=_SLOT,
    ),
    Projection(
        AccountMark,
        "account_marks",
        f"event_id generation seq available_at_ns {_SLOT}mark_id grid_time_ns mid position working unrealised_pnl"
        " realised_pnl fees funding equity equity_peak day_pnl currency strategy_day_pnl",
    ),
    _ledger(AccountMark, "FUNDING"),
)
_OF_FEEDBACK: Final = (
    Projection(
        TradeFeedback,
        "trade_feedback",
        f"event_id available_at_ns {_SLOT}side quantity entry_price exit_price entry_time_ns exit_time_ns"
        " entry_decision_id exit_decision_id entry_fill_id exit_fill_id gross_pnl fees slippage net_pnl currency seq",
    ),
    Projection(
        ExpertScore,
        "scores",
        "event_id instrument available_at_ns ballot_id expert horizon_ns outcome move loss base_loss pool_loss"
        " abstained p_down p_flat p_up calibrated_loss seq",
        _KEYED,
    ),
    Projection(
        BallotVoided, "ballots_voided", "event_id instrument available_at_ns ballot_id horizon_ns reason seq", _KEYED
    ),
    Projection(
        OutcomeReported, "outcomes", "event_id instrument available_at_ns decision_id kind value note seq", _KEYED
    ),
    Projection(
        Experience,
        "experience",
        f"event_id available_at_ns decision_id next_decision_id {_SLOT}policy policy_stage observation"
        " next_observation intended effective pnl fees slippage reward horizon_ns seq",
    ),
    Projection(ModelRelease, "model_releases", "event_id available_at_ns model sha256 release_stage reason author seq"),
    Projection(
        ControlCommand,
        "command_events",
        "event_id available_at_ns command_id author reason action scope target level change approvals refusal model"
        " release_stage seq",
    ),
    Projection(
        ControlOutcome,
        "control_outcomes",
        "event_id available_at_ns generation seq outcome command_id change_id author reason approved_by action scope"
        " target level values loosens base version proposed_at_ns seen_through until_ns refusal detail sets overrides",
    ),
)

PROJECTIONS: Final = by_record((*_OF_THE_MARKET, *_OF_OPINION, *_OF_MONEY, *_OF_FEEDBACK))
NOT_KEPT: Final[tuple[type[Event], ...]] = (Heartbeat,)
"""Events without a row: a Heartbeat is only the time, which every other event carries."""
