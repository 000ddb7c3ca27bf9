-- The audit: one chain of rows a stream, each signed over itself and the row before with a key that the database never
-- sees; and the roles that workers and readers connect as, which cannot change it.

CREATE TABLE audit_rows (
    stream text NOT NULL,
    ordinal bigint NOT NULL,
    event_id event_ref NOT NULL,
    kind text NOT NULL,
    -- What happened, as the bytes that were signed.
    content bytea NOT NULL,
    created_at_ns bigint NOT NULL,
    created_at timestamptz GENERATED ALWAYS AS (ns_to_time(created_at_ns)) STORED,
    key_id text NOT NULL,
    previous bytea NOT NULL,
    mac bytea NOT NULL,
    PRIMARY KEY (stream, ordinal)
);
-- What comes again is found by it, and not chained twice.
CREATE UNIQUE INDEX audit_rows_event ON audit_rows (stream, event_id, kind);

-- The newest row of each stream, sealed. Its row's lock is what makes a stream have one writer at a time.
CREATE TABLE audit_heads (
    stream text PRIMARY KEY,
    ordinal bigint NOT NULL,
    mac bytea NOT NULL,
    key_id text NOT NULL,
    seal bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Only the owner, and only having said so for this session or transaction, may do maintenance; the chain tells of it.
CREATE FUNCTION in_audit_maintenance(relation oid) RETURNS boolean LANGUAGE sql STABLE
    RETURN coalesce(current_setting('tradermind.audit_maintenance', true), '') = 'on'
        AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE pg_class.oid = relation), 'USAGE');

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT in_audit_maintenance(TG_RELID) THEN
        RAISE EXCEPTION 'the audit is only ever added to' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit_rows_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();
CREATE TRIGGER audit_heads_are_kept BEFORE DELETE OR TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

CREATE FUNCTION refuse_lower_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.stream, NEW.ordinal) IS NOT DISTINCT FROM (OLD.stream, greatest(OLD.ordinal, NEW.ordinal))
            OR in_audit_maintenance(TG_RELID) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the head of an audit only rises' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_heads_rise BEFORE UPDATE ON audit_heads
    FOR EACH ROW EXECUTE FUNCTION refuse_lower_head();

-- Only a table's owner may add partitions to it; the workers are not the owner.
CREATE FUNCTION make_market_day(name text, from_ns bigint, to_ns bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF name !~ '^market_data_[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no day of market data', name;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF market_data FOR VALUES FROM (%s) TO (%s)', name, from_ns, to_ns);
END $$;
REVOKE ALL ON FUNCTION make_market_day FROM PUBLIC;

-- Roles belong to the server, not to this database: another database's migration may make them at the same time, and
-- where we may not make them, an administrator does, and then calls grant_roles().
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tradermind_app', 'tradermind_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE WARNING 'the role % could not be made; make it, then SELECT grant_roles()', name;
        END;
    END LOOP;
END $$;

-- What the two roles may do in this schema, whatever they could before. To be called again when tables were added.
CREATE FUNCTION grant_roles() RETURNS void LANGUAGE plpgsql AS $$
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
