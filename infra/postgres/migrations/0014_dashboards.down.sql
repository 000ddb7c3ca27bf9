-- Takes away what 0014_dashboards.sql made. The role stays: another database of the server may use it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_grafana') THEN
        REVOKE ALL ON ALL TABLES IN SCHEMA public FROM tradermind_grafana;
    END IF;
END $$;
DROP FUNCTION grant_grafana;
DROP INDEX fills_stretch, order_events_stretch, account_marks_stretch, market_marks_stretch, tallies_stretch,
    votes_stretch, scores_stretch, experience_stretch, trade_feedback_stretch, audit_rows_stretch;
