-- What the dashboards may read, and how they find a stretch of time without reading everything before it.

-- Boards ask for a stretch of time. Rows come in nearly the order of their times, so a BRIN of a few pages finds it, and
-- costs the sinks next to nothing.
CREATE INDEX fills_stretch ON fills USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX order_events_stretch ON order_events USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX account_marks_stretch ON account_marks USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX market_marks_stretch ON market_marks USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX tallies_stretch ON tallies USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX votes_stretch ON votes USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX scores_stretch ON scores USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX experience_stretch ON experience USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX trade_feedback_stretch ON trade_feedback USING brin (available_at_ns) WITH (autosummarize = on);
CREATE INDEX audit_rows_stretch ON audit_rows USING brin (created_at_ns) WITH (autosummarize = on);

-- A role that reads what the boards show and nothing else: no market data to the byte, no checkpoint, no payload of a
-- dead letter, no signature, no seal. Whoever may not make roles lets an administrator do it, and calls grant_grafana().
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_grafana') THEN
        CREATE ROLE tradermind_grafana NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE WARNING 'the role tradermind_grafana could not be made; make it, then SELECT grant_grafana()';
END $$;

CREATE FUNCTION grant_grafana() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tradermind_grafana') THEN
        RETURN;
    END IF;
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM tradermind_grafana;
    GRANT SELECT ON instruments, quality_events, market_marks, bars, votes, tallies, weights, scores,
        ballots_voided, decisions, order_verdicts, order_events, orders, fills, ledger_imbalance, positions,
        account_marks, newest_account_marks, trade_feedback, experience, model_releases, model_refusals,
        control_outcomes, order_latencies, shard_version TO tradermind_grafana;
    GRANT SELECT (stage, shard, epoch, holder, generation, code_version, settings_hash, batch, reached_ns, updated_at)
        ON shard TO tradermind_grafana;
    GRANT SELECT (stage, shard, batch) ON shard_outbox TO tradermind_grafana;
    GRANT SELECT (ordinal, command_id, author, reason, action, scope, target, level, created_at, created_at_ns, model,
        release_stage) ON commands TO tradermind_grafana;
    GRANT SELECT (ordinal, change_id, author, reason, created_at) ON change_proposals TO tradermind_grafana;
    GRANT SELECT (ordinal, change_id, author, refusal, created_at) ON change_approvals TO tradermind_grafana;
    GRANT SELECT (stream, ordinal, kind, created_at_ns, created_at) ON audit_rows TO tradermind_grafana;
    GRANT SELECT (stream, ordinal, updated_at) ON audit_heads TO tradermind_grafana;
    GRANT SELECT (dlq_topic, dlq_partition, dlq_offset, topic, "partition", "offset", stage, reason, detail,
        recorded_at_ns, time) ON dead_letters TO tradermind_grafana;
    GRANT SELECT (dlq_topic, dlq_partition, dlq_offset, topic, "partition", "offset", stage, reason, detail,
        recorded_at_ns, time, status) ON dead_letter_states TO tradermind_grafana;
    GRANT SELECT (ordinal, action, author, why, stage, topic, "partition", first_offset, last_offset, created_at)
        ON dead_letter_actions TO tradermind_grafana;
END $$;
SELECT grant_grafana();
