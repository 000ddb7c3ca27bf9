"""The metrics of what the stages do: market, votes, decisions, risk, orders, accounts, learning and records."""

from typing import Final

from infra.metrics.metric import AGE_S, MODEL_S, counter, gauge, histogram

_INGESTION = ("ingestion",)
_EXPERTS = ("experts",)
_VOTING = ("voting",)
_DECIDER = ("decider",)
_RISK = ("risk",)
_EXECUTION = ("execution",)
_FEEDBACK = ("feedback",)
_SINKS = ("sinks",)

MARKET_DATA_AGE: Final = gauge(
    "tradermind_market_data_age_seconds",
    "instrument",
    "Now, on the run's clock, minus when the newest market record behind the instrument's mark was available.",
    _RISK,
)
QUALITY_EVENTS: Final = counter(
    "tradermind_quality_events_total", "instrument kind", "What was said of the quality of the data.", _INGESTION
)
VOTES: Final = counter(
    "tradermind_votes_total",
    "expert outcome",
    "Votes on ballots; outcome is down, flat or up, the reason of an abstention, or late where none came in time.",
    _VOTING,
)
EXPERT_WEIGHT: Final = gauge(
    "tradermind_expert_weight", "expert instrument horizon", "Weight in the newest tally, 0 to 1.", _VOTING
)
EXPERT_SKILL: Final = gauge(
    "tradermind_expert_skill",
    "expert instrument horizon",
    "Skill over the running base rate: 1 is perfect, 0 no better than it.",
    _VOTING,
)
EXPERT_CALIBRATION: Final = gauge(
    "tradermind_expert_calibration_error",
    "expert instrument horizon",
    "Expected calibration error of the expert's probabilities, 0 to 1.",
    _VOTING,
)
BALLOTS: Final = counter(
    "tradermind_ballots_total",
    "outcome",
    "Ballots; outcome is tallied, no_direction, advice (a request), or later voided, which feedback tells.",
    (*_VOTING, *_FEEDBACK),
)
TALLY_DISAGREEMENT: Final = gauge(
    "tradermind_tally_disagreement", "instrument horizon", "Disagreement of the newest tally, 0 to 1.", _VOTING
)
DECISIONS: Final = counter(
    "tradermind_decisions_total",
    "strategy outcome reason",
    "Decisions; reason is that of doing nothing, else none.",
    _DECIDER,
)
POLICY_IN_FORCE: Final = gauge(
    "tradermind_policy_in_force",
    "strategy policy stage",
    "1 for each policy that decides, and at which stage.",
    _DECIDER,
)
MODEL_INFERENCE: Final = histogram(
    "tradermind_model_inference_seconds",
    "policy",
    "How long a policy took for one answer.",
    (*_DECIDER, "model-serve"),
    MODEL_S,
)
MODEL_INVALID: Final = counter(
    "tradermind_model_invalid_total", "policy", "Answers of a policy that were no valid target.", _DECIDER
)
MODEL_RELEASES: Final = counter(
    "tradermind_model_releases_total", "stage", "Changes of a model's stage that came into force.", _DECIDER
)
RISK_DECISIONS: Final = counter(
    "tradermind_risk_decisions_total",
    "outcome reason",
    "Orders judged; outcome is approved, cancel (only that) or denied, reason the first of a denial, else none.",
    _RISK,
)
RISK_CHECK: Final = histogram(
    "tradermind_risk_check_seconds",
    "",
    "How long risk took for one decision, from the decision to the verdict.",
    _RISK,
    MODEL_S,
)
KILL_SWITCH: Final = gauge(
    "tradermind_kill_switch_active",
    "scope",
    "Whether anything of the scope (GLOBAL, ACCOUNT, STRATEGY, INSTRUMENT) is HALTED: 1 or 0.",
    _RISK,
)
TRADING_LEVEL: Final = gauge(
    "tradermind_trading_level", "scope", "The strictest level of the scope: 0 ACTIVE, 1 REDUCING, 2 HALTED.", _RISK
)
LIMIT_USED: Final = gauge(
    "tradermind_limit_used_ratio", "limit", "How much of the limit the fullest of its scopes uses; 1 is all.", _RISK
)
ORDERS: Final = counter(
    "tradermind_orders_total", "venue side state", "Orders that came to a state, as execution told it.", _EXECUTION
)
ORDERS_OPEN: Final = gauge("tradermind_orders_open", "venue", "Orders that are not final.", _EXECUTION)
ORDERS_UNKNOWN: Final = gauge(
    "tradermind_orders_unknown", "venue", "Orders of which nobody knows what the venue made.", _EXECUTION
)
ORDER_SUBMIT: Final = histogram(
    "tradermind_order_submit_seconds",
    "venue",
    "From the request to the venue until its answer about the order.",
    _EXECUTION,
)
TICK_TO_ORDER: Final = histogram(
    "tradermind_tick_to_order_seconds",
    "",
    "From when what set an order off reached us (market data, or the time that closed a ballot) until it was sent.",
    _EXECUTION,
    AGE_S,
)
FILLS: Final = counter("tradermind_fills_total", "venue side", "Fills booked.", _EXECUTION)
RECONCILE_DIFFERENCES: Final = gauge(
    "tradermind_reconcile_differences",
    "venue",
    "Differences between our books and the venue's at the newest reconciliation.",
    _EXECUTION,
)
RECONCILED: Final = gauge(
    "tradermind_reconciled", "venue", "Whether our books have been found equal to the venue's: 1 or 0.", _EXECUTION
)
POSITION_NOTIONAL: Final = gauge(
    "tradermind_position_notional",
    "strategy instrument",
    "Signed value of the position at its newest mark, in the instrument's quote currency.",
    _EXECUTION,
)
NET_PNL: Final = gauge(
    "tradermind_net_pnl",
    "strategy currency",
    "Realised and unrealised gain after fees and funding, since the books began, in the account's currency.",
    _EXECUTION,
)
FEES: Final = gauge(
    "tradermind_fees_total",
    "strategy currency",
    "Fees paid since the books began, in the account's currency; a rebate lowers it, so it is told as a gauge.",
    _EXECUTION,
)
EQUITY: Final = gauge("tradermind_equity", "currency", "Value of the accounts of that currency.", _EXECUTION)
DRAWDOWN: Final = gauge(
    "tradermind_drawdown_ratio",
    "strategy",
    "How far the account that the strategy trades is below its highest equity, of that; the limit is drawdown_max.",
    _EXECUTION,
)
REWARDS: Final = counter(
    "tradermind_rewards_total", "strategy sign", "Rewards closed; sign is positive, zero or negative.", _FEEDBACK
)
EXPERIENCES: Final = counter("tradermind_experiences_total", "strategy", "Transitions told to the trainer.", _FEEDBACK)
INFLUX_WRITTEN: Final = counter("tradermind_influx_points_written_total", "", "Points that InfluxDB has taken.", _SINKS)
INFLUX_DROPPED: Final = counter(
    "tradermind_influx_events_dropped_total", "reason", "Events whose points were given up.", _SINKS
)
INFLUX_QUEUE: Final = gauge("tradermind_influx_queue_events", "", "Events that wait to be written.", _SINKS)
AUDIT_ROWS: Final = counter("tradermind_audit_rows_total", "", "Rows added to the chain of the audit.", _SINKS)
AUDIT_BROKEN: Final = gauge(
    "tradermind_audit_broken",
    "",
    "Whether the chain of the audit was found broken when last looked at: 1 or 0.",
    _SINKS,
)
