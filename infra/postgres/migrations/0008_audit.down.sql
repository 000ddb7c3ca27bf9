-- Takes away what 0008_audit.sql made, the audit with it. The roles stay: another database of the server may use them.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT rolname FROM pg_roles WHERE rolname IN ('tradermind_app', 'tradermind_reader') LOOP
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %I', name);
        EXECUTE format('REVOKE ALL ON FUNCTION make_market_day FROM %I', name);
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM %I', name);
    END LOOP;
END $$;
DROP FUNCTION grant_roles, make_market_day;
DROP TABLE audit_rows, audit_heads;
DROP FUNCTION refuse_change_of_audit, refuse_lower_head, in_audit_maintenance;
