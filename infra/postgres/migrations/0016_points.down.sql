-- Takes away what 0016_points.sql made.
DROP INDEX bars_stretch, feature_snapshots_stretch, quality_events_stretch;
DROP TABLE position_events;
ALTER TABLE quality_events DROP COLUMN seq;
ALTER TABLE market_marks DROP COLUMN seq;
ALTER TABLE bars DROP COLUMN seq;
ALTER TABLE feature_snapshots DROP COLUMN seq;
ALTER TABLE votes DROP COLUMN seq;
ALTER TABLE alerts DROP COLUMN seq;
ALTER TABLE ballot_requests DROP COLUMN seq;
ALTER TABLE tallies DROP COLUMN seq;
ALTER TABLE decisions DROP COLUMN seq;
ALTER TABLE order_verdicts DROP COLUMN seq;
ALTER TABLE trade_feedback DROP COLUMN seq;
ALTER TABLE ballots_voided DROP COLUMN seq;
ALTER TABLE outcomes DROP COLUMN seq;
ALTER TABLE experience DROP COLUMN seq;
ALTER TABLE model_releases DROP COLUMN seq;
ALTER TABLE command_events DROP COLUMN seq;
ALTER TABLE scores DROP COLUMN seq, DROP COLUMN p_down, DROP COLUMN p_flat, DROP COLUMN p_up,
    DROP COLUMN calibrated_loss;
ALTER TABLE order_events DROP COLUMN client_order_id;
ALTER TABLE account_marks DROP COLUMN strategy_day_pnl;
