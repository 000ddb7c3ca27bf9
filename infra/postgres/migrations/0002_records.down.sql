-- Takes away what 0002_records.sql made, and the record with it.
DROP VIEW agent_logs, ledger_imbalance, newest_account_marks;
DROP TABLE instruments, market_data, quality_events, bars, market_marks, feature_snapshots, votes, alerts,
    ballot_requests, tallies, weights, decisions, order_verdicts, order_events, orders, fills, ledger, positions,
    account_marks, trade_feedback, scores, ballots_voided, outcomes, experience, model_releases, commands,
    command_events, dead_letters;
DROP FUNCTION ns_to_time;
DROP DOMAIN event_ref, price_value, money_value;
