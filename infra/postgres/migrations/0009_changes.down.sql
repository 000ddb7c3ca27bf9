-- Takes away what 0009_changes.sql made, and what was proposed, approved and decided with it.
DROP TABLE change_proposals, change_approvals, control_outcomes;
DROP TRIGGER commands_are_numbered ON commands;
DROP FUNCTION number_command;
ALTER TABLE commands DROP CONSTRAINT commands_known, DROP COLUMN change, DROP COLUMN approvals;
ALTER TABLE command_events DROP COLUMN change, DROP COLUMN approvals, DROP COLUMN refusal;

-- What the two roles may do in this schema, whatever they could before. To be called again when tables were added.
CREATE OR REPLACE FUNCTION grant_roles() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tradermind_app;
        REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM tradermind_app;
        REVOKE UPDATE, DELETE ON audit_rows, commands, command_events, dead_letter_actions, decisions, order_verdicts,
            order_events, fills, ledger, account_marks, trade_feedback, model_releases FROM tradermind_app;
        REVOKE DELETE ON audit_heads, topic_rescales, restores FROM tradermind_app;
        GRANT EXECUTE ON FUNCTION make_market_day TO tradermind_app;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tradermind_app;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_reader') THEN
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO tradermind_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO tradermind_reader;
    END IF;
END $$;
SELECT grant_roles();
