-- Releases of models as commands, and artefacts that were refused.
ALTER TABLE commands ADD COLUMN model text NOT NULL DEFAULT '', ADD COLUMN release_stage text;
ALTER TABLE command_events ADD COLUMN model text NOT NULL DEFAULT '', ADD COLUMN release_stage text;
ALTER TABLE commands DROP CONSTRAINT commands_known;
ALTER TABLE commands ADD CONSTRAINT commands_known CHECK (
    action IN ('SET_LEVEL', 'FLATTEN', 'CANCEL', 'SET_LIMITS', 'RELEASE_MODEL')
    AND scope IN ('GLOBAL', 'ACCOUNT', 'STRATEGY', 'INSTRUMENT')
    AND (level IS NULL OR level IN ('ACTIVE', 'REDUCING', 'HALTED'))
    AND (release_stage IS NULL OR release_stage IN ('SHADOW', 'CANARY', 'CHAMPION', 'RETIRED'))) NOT VALID;
-- The order in which sinks read them off the one partition: times are of two clocks, that of people and that of a capture.
ALTER TABLE model_releases ADD COLUMN ordinal bigint GENERATED ALWAYS AS IDENTITY UNIQUE;

-- Every artefact of a model that somebody asked for and was refused, with why and by whom: a fault or an attack.
CREATE TABLE model_refusals (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 text NOT NULL,
    reason text NOT NULL CHECK (reason <> ''),
    sentence text NOT NULL CHECK (length(sentence) <= 1000),
    author text NOT NULL CHECK (author <> ''),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER model_refusals_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON model_refusals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

-- What the two roles may do in this schema, whatever they could before. To be called again when tables were added.
CREATE OR REPLACE FUNCTION grant_roles() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tradermind_app;
        REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM tradermind_app;
        REVOKE UPDATE, DELETE ON audit_rows, commands, command_events, dead_letter_actions, decisions, order_verdicts,
            order_events, fills, ledger, account_marks, trade_feedback, model_releases, change_proposals, change_approvals,
            control_outcomes, model_refusals FROM tradermind_app;
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
