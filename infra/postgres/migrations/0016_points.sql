-- Every point of InfluxDB can be made again from the record: `tradermind rebuild influx`.

-- The digits of a point's time below a microsecond are those of its event's seq. Rows from before have none, and count
-- as 0.
ALTER TABLE quality_events ADD COLUMN seq bigint;
ALTER TABLE market_marks ADD COLUMN seq bigint;
ALTER TABLE bars ADD COLUMN seq bigint;
ALTER TABLE feature_snapshots ADD COLUMN seq bigint;
ALTER TABLE votes ADD COLUMN seq bigint;
ALTER TABLE alerts ADD COLUMN seq bigint;
ALTER TABLE ballot_requests ADD COLUMN seq bigint;
ALTER TABLE tallies ADD COLUMN seq bigint;
ALTER TABLE decisions ADD COLUMN seq bigint;
ALTER TABLE order_verdicts ADD COLUMN seq bigint;
ALTER TABLE trade_feedback ADD COLUMN seq bigint;
ALTER TABLE ballots_voided ADD COLUMN seq bigint;
ALTER TABLE outcomes ADD COLUMN seq bigint;
ALTER TABLE experience ADD COLUMN seq bigint;
ALTER TABLE model_releases ADD COLUMN seq bigint;
ALTER TABLE command_events ADD COLUMN seq bigint;
ALTER TABLE scores ADD COLUMN seq bigint, ADD COLUMN p_down double precision, ADD COLUMN p_flat double precision,
    ADD COLUMN p_up double precision, ADD COLUMN calibrated_loss double precision;
ALTER TABLE order_events ADD COLUMN client_order_id text;
ALTER TABLE account_marks ADD COLUMN strategy_day_pnl money_value;

-- Every position that there was; "positions" holds the newest of each.
CREATE TABLE position_events (
    event_id event_ref PRIMARY KEY,
    generation bigint NOT NULL,
    seq bigint NOT NULL,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    account text NOT NULL,
    strategy text NOT NULL,
    instrument text NOT NULL,
    quantity price_value NOT NULL,
    average_price price_value,
    realised_pnl money_value NOT NULL,
    fees money_value NOT NULL,
    currency text NOT NULL
);
CREATE INDEX position_events_stretch ON position_events USING brin (available_at_ns) WITH (autosummarize = on);

-- A rebuild asks for a day after the other; 0014_dashboards.sql has the same for the other tables.
CREATE INDEX bars_stretch ON bars USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX feature_snapshots_stretch ON feature_snapshots USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX quality_events_stretch ON quality_events USING brin (available_at_ns) WITH (autosummarize = on);
