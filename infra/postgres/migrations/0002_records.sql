-- The record of everything that happened, one table per kind of event, written by the sinks.
--
-- Every row comes from one event and carries its event_id, so writing an event again changes nothing. Prices and
-- quantities are NUMERIC in the units people use, money is NUMERIC(38,18), times are nanoseconds since the Unix
-- epoch; "time" is the same moment, rounded to microseconds, for whoever queries by timestamptz. Depth levels are
-- arrays of integers in units of 1e-8.

CREATE DOMAIN event_ref AS text COLLATE "C";
CREATE DOMAIN price_value AS numeric(28, 8);
CREATE DOMAIN money_value AS numeric(38, 18);

CREATE FUNCTION ns_to_time(ns bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN to_timestamp((ns / 1000)::double precision / 1e6);

CREATE TABLE instruments (
    instrument text PRIMARY KEY,
    event_id event_ref NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    venue text NOT NULL,
    symbol text NOT NULL,
    tick_size price_value NOT NULL,
    lot_size price_value NOT NULL,
    quantity_min price_value NOT NULL,
    quantity_max price_value NOT NULL,
    notional_min numeric NOT NULL,
    multiplier numeric NOT NULL,
    inverse boolean NOT NULL,
    base_currency text NOT NULL,
    quote_currency text NOT NULL,
    maker_fee_rate numeric NOT NULL,
    taker_fee_rate numeric NOT NULL,
    funding_rate numeric NOT NULL,
    funding_interval_ns bigint NOT NULL,
    shortable boolean NOT NULL,
    session text NOT NULL,
    grid_ns bigint NOT NULL,
    horizons_ns bigint[] NOT NULL,
    inferred boolean NOT NULL
);

-- Partitioned by day of available_at_ns; the sink makes each day before its first row, the default catches a row
-- that no day was made for. Dropping a day is its retention.
CREATE TABLE market_data (
    event_id event_ref NOT NULL,
    kind text NOT NULL,
    instrument text NOT NULL,
    event_time_ns bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    source text NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    price price_value,
    quantity price_value,
    aggressor text,
    trade_id text,
    bid_price price_value,
    bid_quantity price_value,
    ask_price price_value,
    ask_quantity price_value,
    first_update_id bigint,
    last_update_id bigint,
    previous_update_id bigint,
    bid_prices bigint[],
    bid_quantities bigint[],
    ask_prices bigint[],
    ask_quantities bigint[],
    interval_ns bigint,
    open_price price_value,
    high_price price_value,
    low_price price_value,
    close_price price_value,
    volume price_value,
    PRIMARY KEY (event_id, available_at_ns)
) PARTITION BY RANGE (available_at_ns);
CREATE TABLE market_data_default PARTITION OF market_data DEFAULT;
CREATE INDEX market_data_available_at ON market_data USING brin (available_at_ns);
CREATE INDEX market_data_instrument ON market_data (instrument, available_at_ns);

CREATE TABLE quality_events (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    event_time_ns bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    kind text NOT NULL,
    detail text NOT NULL,
    count bigint NOT NULL
);
CREATE INDEX quality_events_time ON quality_events (time);

CREATE TABLE bars (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(open_time_ns)) STORED,
    interval_ns bigint NOT NULL,
    open_time_ns bigint NOT NULL,
    open_price price_value NOT NULL,
    high_price price_value NOT NULL,
    low_price price_value NOT NULL,
    close_price price_value NOT NULL,
    volume price_value,
    trades bigint NOT NULL,
    complete boolean NOT NULL,
    imputed boolean NOT NULL
);
CREATE INDEX bars_instrument ON bars (instrument, interval_ns, open_time_ns);

CREATE TABLE market_marks (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    mid price_value,
    bid_price price_value,
    ask_price price_value,
    bid_quantity price_value,
    ask_quantity price_value,
    volume price_value,
    newest_time_ns bigint NOT NULL,
    quality text NOT NULL,
    on_grid boolean NOT NULL,
    grid_time_ns bigint NOT NULL
);
CREATE INDEX market_marks_instrument ON market_marks (instrument, available_at_ns);

CREATE TABLE feature_snapshots (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(grid_time_ns)) STORED,
    grid_time_ns bigint NOT NULL,
    deadline_ns bigint NOT NULL,
    mid price_value,
    synchronised boolean NOT NULL,
    features jsonb NOT NULL,
    questions jsonb NOT NULL
);
CREATE INDEX feature_snapshots_instrument ON feature_snapshots (instrument, grid_time_ns);

CREATE TABLE votes (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    ballot_id event_ref NOT NULL,
    expert text NOT NULL,
    horizon_ns bigint NOT NULL,
    expires_at_ns bigint NOT NULL,
    p_down double precision,
    p_flat double precision,
    p_up double precision,
    abstained text,
    text_fed boolean NOT NULL,
    evidence jsonb NOT NULL,
    context jsonb NOT NULL
);
CREATE INDEX votes_ballot ON votes (ballot_id);

CREATE TABLE alerts (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    level text NOT NULL,
    kind text NOT NULL,
    score double precision NOT NULL,
    detail text NOT NULL
);

CREATE TABLE ballot_requests (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    request_id text NOT NULL,
    strategy text NOT NULL,
    horizon_ns bigint NOT NULL
);

CREATE TABLE tallies (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    ballot_id event_ref NOT NULL,
    snapshot_id event_ref NOT NULL,
    horizon_ns bigint NOT NULL,
    flat_band price_value NOT NULL,
    grid_time_ns bigint NOT NULL,
    mid price_value,
    p_down double precision,
    p_flat double precision,
    p_up double precision,
    disagreement double precision,
    volatility double precision,
    spread price_value,
    closed_by text NOT NULL,
    late text[] NOT NULL,
    entries jsonb NOT NULL,
    context jsonb NOT NULL,
    advice_for text,
    request_id text
);
CREATE INDEX tallies_ballot ON tallies (ballot_id);
CREATE INDEX tallies_instrument ON tallies (instrument, grid_time_ns);

-- What each expert weighs now, per instrument and horizon: the newest tally's word.
CREATE TABLE weights (
    instrument text NOT NULL,
    horizon_ns bigint NOT NULL,
    expert text NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    grid_time_ns bigint NOT NULL,
    weight double precision NOT NULL,
    skill double precision,
    PRIMARY KEY (instrument, horizon_ns, expert)
);

CREATE TABLE decisions (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    decision_id event_ref NOT NULL UNIQUE,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    ballot_id event_ref NOT NULL,
    tally_id event_ref NOT NULL,
    outcome text NOT NULL,
    reason text,
    target double precision NOT NULL,
    previous_target double precision NOT NULL,
    mid price_value,
    horizon_ns bigint NOT NULL,
    policy text NOT NULL,
    policy_stage text NOT NULL,
    edge double precision,
    cost double precision,
    observation jsonb NOT NULL,
    expires_at_ns bigint NOT NULL,
    request_id text
);
CREATE INDEX decisions_time ON decisions (available_at_ns);
CREATE INDEX decisions_instrument ON decisions (instrument, available_at_ns);
CREATE INDEX decisions_tally ON decisions (tally_id);

CREATE TABLE order_verdicts (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    verdict text NOT NULL CHECK (verdict IN ('APPROVED', 'DENIED')),
    order_id event_ref NOT NULL,
    decision_id event_ref NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    side text,
    quantity price_value NOT NULL,
    target double precision,
    order_type text,
    limit_price price_value,
    time_in_force text,
    reduce_only boolean,
    cancels text[],
    decision_mid price_value,
    reasons text[] NOT NULL,
    limits_version text NOT NULL,
    checks jsonb NOT NULL,
    expires_at_ns bigint,
    decided_at_ns bigint
);
CREATE INDEX order_verdicts_decision ON order_verdicts (decision_id);
CREATE INDEX order_verdicts_time ON order_verdicts (available_at_ns);

CREATE TABLE order_events (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    source text NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    event_time_ns bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    order_id event_ref NOT NULL,
    venue_order_id text,
    decision_id event_ref NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    order_type text NOT NULL,
    time_in_force text NOT NULL,
    limit_price price_value,
    quantity price_value NOT NULL,
    filled_quantity price_value NOT NULL,
    leaves_quantity price_value NOT NULL,
    average_price price_value,
    status text NOT NULL,
    exec_type text NOT NULL,
    final boolean NOT NULL,
    reason text,
    deny_reasons text[] NOT NULL,
    position_after price_value NOT NULL,
    working_after price_value NOT NULL,
    decided_at_ns bigint NOT NULL
);
CREATE INDEX order_events_order ON order_events (order_id, generation, seq);
CREATE INDEX order_events_decision ON order_events (decision_id);

-- Each order as its newest event left it.
CREATE TABLE orders (
    order_id event_ref PRIMARY KEY,
    event_id event_ref NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    venue_order_id text,
    decision_id event_ref NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    order_type text NOT NULL,
    time_in_force text NOT NULL,
    limit_price price_value,
    quantity price_value NOT NULL,
    filled_quantity price_value NOT NULL,
    leaves_quantity price_value NOT NULL,
    average_price price_value,
    status text NOT NULL,
    final boolean NOT NULL,
    reason text,
    deny_reasons text[] NOT NULL,
    decided_at_ns bigint NOT NULL
);
CREATE INDEX orders_decision ON orders (decision_id);
CREATE INDEX orders_time ON orders (available_at_ns);
CREATE INDEX orders_open ON orders (account) WHERE NOT final;

CREATE TABLE fills (
    event_id event_ref PRIMARY KEY,
    cause_id event_ref NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    event_time_ns bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    fill_id text NOT NULL,
    order_id event_ref NOT NULL,
    venue_order_id text NOT NULL,
    decision_id event_ref NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    price price_value NOT NULL,
    quantity price_value NOT NULL,
    fee money_value NOT NULL,
    fee_currency text NOT NULL,
    liquidity text NOT NULL,
    slippage money_value NOT NULL,
    realised_pnl money_value NOT NULL,
    position_after price_value NOT NULL
);
CREATE INDEX fills_order ON fills (order_id);
CREATE INDEX fills_decision ON fills (decision_id);
CREATE INDEX fills_venue_id ON fills (fill_id);

CREATE TABLE ledger (
    event_id event_ref NOT NULL,
    line int NOT NULL,
    available_at_ns bigint NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('FILL', 'FUNDING')),
    ledger_account text NOT NULL,
    asset text NOT NULL,
    amount money_value NOT NULL,
    PRIMARY KEY (event_id, line)
);
CREATE INDEX ledger_account ON ledger (account, ledger_account, asset);

-- Entries whose amounts do not sum to exactly 0 per asset. It must be empty at all times.
CREATE VIEW ledger_imbalance AS
    SELECT event_id, asset, sum(amount) AS amount FROM ledger GROUP BY event_id, asset HAVING sum(amount) <> 0;

CREATE TABLE positions (
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    event_id event_ref NOT NULL,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    quantity price_value NOT NULL,
    average_price price_value,
    realised_pnl money_value NOT NULL,
    fees money_value NOT NULL,
    currency text NOT NULL,
    PRIMARY KEY (account, strategy, instrument)
);

CREATE TABLE account_marks (
    event_id event_ref PRIMARY KEY,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    mark_id event_ref NOT NULL,
    grid_time_ns bigint NOT NULL,
    mid price_value,
    position price_value NOT NULL,
    working price_value NOT NULL,
    unrealised_pnl money_value NOT NULL,
    realised_pnl money_value NOT NULL,
    fees money_value NOT NULL,
    funding money_value NOT NULL,
    equity money_value NOT NULL,
    equity_peak money_value NOT NULL,
    day_pnl money_value NOT NULL,
    currency text NOT NULL
);
CREATE INDEX account_marks_slot ON account_marks (account, strategy, instrument, generation, seq);
CREATE INDEX account_marks_account ON account_marks (account, generation, seq);

-- Each (account, strategy, instrument) as it was valued last.
CREATE VIEW newest_account_marks AS
    SELECT DISTINCT ON (account, strategy, instrument) * FROM account_marks
    ORDER BY account, strategy, instrument, generation DESC, seq DESC;

CREATE TABLE trade_feedback (
    event_id event_ref PRIMARY KEY,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    side text NOT NULL,
    quantity price_value NOT NULL,
    entry_price price_value NOT NULL,
    exit_price price_value NOT NULL,
    entry_time_ns bigint NOT NULL,
    exit_time_ns bigint NOT NULL,
    entry_decision_id event_ref NOT NULL,
    exit_decision_id event_ref NOT NULL,
    entry_fill_id text NOT NULL,
    exit_fill_id text NOT NULL,
    gross_pnl money_value NOT NULL,
    fees money_value NOT NULL,
    slippage money_value NOT NULL,
    net_pnl money_value NOT NULL,
    currency text NOT NULL
);
CREATE INDEX trade_feedback_entry ON trade_feedback (entry_decision_id);
CREATE INDEX trade_feedback_exit ON trade_feedback (exit_decision_id);

CREATE TABLE scores (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    ballot_id event_ref NOT NULL,
    expert text NOT NULL,
    horizon_ns bigint NOT NULL,
    outcome bigint NOT NULL,
    move price_value NOT NULL,
    loss double precision NOT NULL,
    base_loss double precision NOT NULL,
    pool_loss double precision NOT NULL,
    abstained boolean NOT NULL
);
CREATE INDEX scores_ballot ON scores (ballot_id);
CREATE INDEX scores_expert ON scores (instrument, horizon_ns, expert);

CREATE TABLE ballots_voided (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    ballot_id event_ref NOT NULL,
    horizon_ns bigint NOT NULL,
    reason text NOT NULL
);
CREATE INDEX ballots_voided_ballot ON ballots_voided (ballot_id);

CREATE TABLE outcomes (
    event_id event_ref PRIMARY KEY,
    instrument text NOT NULL,
    available_at_ns bigint NOT NULL,
    decision_id text NOT NULL,
    kind text NOT NULL,
    value double precision NOT NULL,
    note text NOT NULL
);
CREATE INDEX outcomes_decision ON outcomes (decision_id);

CREATE TABLE experience (
    event_id event_ref PRIMARY KEY,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    decision_id event_ref NOT NULL,
    next_decision_id event_ref NOT NULL,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    policy text NOT NULL,
    policy_stage text NOT NULL,
    observation jsonb NOT NULL,
    next_observation jsonb NOT NULL,
    intended double precision NOT NULL,
    effective double precision NOT NULL,
    pnl money_value NOT NULL,
    fees money_value NOT NULL,
    slippage money_value NOT NULL,
    reward money_value NOT NULL,
    horizon_ns bigint NOT NULL
);
CREATE INDEX experience_decision ON experience (decision_id);

CREATE TABLE model_releases (
    event_id event_ref PRIMARY KEY,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    model text NOT NULL,
    sha256 text NOT NULL,
    release_stage text NOT NULL,
    reason text NOT NULL,
    author text NOT NULL
);

-- What people ordered. The control worker reads it in the order of "ordinal", which is the order of commits.
CREATE TABLE commands (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command_id text NOT NULL UNIQUE,
    author text NOT NULL CHECK (author <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    action text NOT NULL,
    scope text NOT NULL,
    target text NOT NULL,
    level text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at_ns bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000
);

-- The same commands as the platform heard them.
CREATE TABLE command_events (
    event_id event_ref PRIMARY KEY,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    command_id text NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    action text NOT NULL,
    scope text NOT NULL,
    target text NOT NULL,
    level text
);

CREATE TABLE dead_letters (
    dlq_topic text NOT NULL,
    dlq_partition int NOT NULL,
    dlq_offset bigint NOT NULL,
    topic text NOT NULL,
    "partition" int,
    "offset" bigint,
    reason text NOT NULL,
    detail text NOT NULL,
    recorded_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(recorded_at_ns)) STORED,
    headers jsonb NOT NULL,
    key bytea,
    value bytea,
    PRIMARY KEY (dlq_topic, dlq_partition, dlq_offset)
);
CREATE INDEX dead_letters_time ON dead_letters (recorded_at_ns);

-- What each expert and each policy saw and said, by decision.
CREATE VIEW agent_logs AS
    SELECT d.event_id AS decision_id, d.ballot_id, d.instrument, 'expert' AS role, e.expert AS name,
        e.evidence AS saw,
        jsonb_build_object('p_down', e.p_down, 'p_flat', e.p_flat, 'p_up', e.p_up, 'abstained', e.abstained,
            'weight', e.weight, 'skill', e.skill) AS said,
        t.available_at_ns, t.time
    FROM decisions d
    JOIN tallies t ON t.event_id = d.tally_id
    CROSS JOIN LATERAL jsonb_to_recordset(t.entries) AS e(expert text, weight double precision,
        skill double precision, p_down double precision, p_flat double precision, p_up double precision,
        abstained text, evidence jsonb)
    UNION ALL
    SELECT d.event_id, d.ballot_id, d.instrument, 'policy', d.policy, d.observation,
        jsonb_build_object('outcome', d.outcome, 'reason', d.reason, 'target', d.target,
            'previous_target', d.previous_target, 'edge', d.edge, 'cost', d.cost, 'stage', d.policy_stage),
        d.available_at_ns, d.time
    FROM decisions d;
