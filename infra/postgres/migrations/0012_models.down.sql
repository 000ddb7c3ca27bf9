-- Takes away what 0012_models.sql made, and which artefacts were refused. A release of a model is no command before it.
DROP TABLE model_refusals;
ALTER TABLE model_releases DROP COLUMN ordinal;
ALTER TABLE commands DROP CONSTRAINT commands_known;
ALTER TABLE commands DROP COLUMN model, DROP COLUMN release_stage;
ALTER TABLE commands ADD CONSTRAINT commands_known CHECK (
    action IN ('SET_LEVEL', 'FLATTEN', 'CANCEL', 'SET_LIMITS')
    AND scope IN ('GLOBAL', 'ACCOUNT', 'STRATEGY', 'INSTRUMENT')
    AND (level IS NULL OR level IN ('ACTIVE', 'REDUCING', 'HALTED'))) NOT VALID;
ALTER TABLE command_events DROP COLUMN model, DROP COLUMN release_stage;

-- What the two roles may do in this schema, whatever they could before. To be called again when tables were added.
CREATE OR REPLACE FUNCTION grant_roles() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tradermind_app;
        REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM tradermind_app;
        REVOKE UPDATE, DELETE ON audit_rows, commands, command_events, dead_letter_actions, decisions, order_verdicts,
            order_events, fills, ledger, account_marks, trade_feedback, model_releases, change_proposals, change_approvals,
            control_outcomes FROM tradermind_app;
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
