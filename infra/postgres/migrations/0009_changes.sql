-- Changes that more than one person must want: what was proposed, who signed it, and what execution made of it.

-- A change that is to be. "content" is its canonical text: approvals sign exactly this, and "change_id" is its digest.
CREATE TABLE change_proposals (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change_id text NOT NULL UNIQUE,
    author text NOT NULL CHECK (author <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    content text NOT NULL CHECK (length(content) <= 65536),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every attempt to approve one, the refused ones with why. Who reads it believes no row: the signature says it.
CREATE TABLE change_approvals (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    change_id text NOT NULL,
    author text NOT NULL CHECK (author <> ''),
    signature text NOT NULL,
    refusal text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX change_approvals_change ON change_approvals (change_id);

-- The command that carries a change carries the signatures, too.
ALTER TABLE commands ADD COLUMN change text NOT NULL DEFAULT '';
ALTER TABLE commands ADD COLUMN approvals jsonb NOT NULL DEFAULT '[]';
ALTER TABLE commands ADD CONSTRAINT commands_known CHECK (
    action IN ('SET_LEVEL', 'FLATTEN', 'CANCEL', 'SET_LIMITS')
    AND scope IN ('GLOBAL', 'ACCOUNT', 'STRATEGY', 'INSTRUMENT')
    AND (level IS NULL OR level IN ('ACTIVE', 'REDUCING', 'HALTED'))) NOT VALID;
-- Readers remember the newest number. Whoever could choose one might leave no smaller one for a kill.
CREATE FUNCTION number_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ordinal := coalesce((SELECT max(ordinal) FROM commands), 0) + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER commands_are_numbered BEFORE INSERT ON commands FOR EACH ROW EXECUTE FUNCTION number_command();
ALTER TABLE command_events ADD COLUMN change text NOT NULL DEFAULT '';
ALTER TABLE command_events ADD COLUMN approvals jsonb NOT NULL DEFAULT '[]';
ALTER TABLE command_events ADD COLUMN refusal text;

-- What execution, which decides, says of changes and of the limits in force.
CREATE TABLE control_outcomes (
    event_id event_ref PRIMARY KEY,
    available_at_ns bigint NOT NULL,
    time timestamptz GENERATED ALWAYS AS (ns_to_time(available_at_ns)) STORED,
    generation int NOT NULL,
    seq bigint NOT NULL,
    outcome text NOT NULL,
    command_id text NOT NULL,
    change_id text NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    approved_by text[] NOT NULL,
    action text NOT NULL,
    scope text NOT NULL,
    target text NOT NULL,
    level text,
    "values" jsonb NOT NULL,
    loosens text[] NOT NULL,
    base text NOT NULL,
    version text NOT NULL,
    proposed_at_ns bigint NOT NULL,
    seen_through bigint NOT NULL,
    until_ns bigint,
    refusal text,
    detail text NOT NULL,
    sets jsonb NOT NULL,
    overrides jsonb NOT NULL
);
CREATE INDEX control_outcomes_command ON control_outcomes (command_id);
CREATE INDEX control_outcomes_time ON control_outcomes (available_at_ns);

CREATE TRIGGER change_proposals_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON change_proposals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();
CREATE TRIGGER change_approvals_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON change_approvals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

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
