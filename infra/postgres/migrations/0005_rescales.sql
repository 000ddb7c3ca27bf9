-- Rescales of the instrument-keyed topics: what is under way, so that it can be gone on with, and the audit of what was
-- done. A finished one is never changed.

CREATE TABLE topic_rescales (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partitions_before int NOT NULL CHECK (partitions_before > 0),
    partitions_after int NOT NULL CHECK (partitions_after > 0 AND partitions_after <> partitions_before),
    -- CLAIMED: from here on no worker may claim a shard. MOVED: the states lie where they shall. MADE: the topics are
    -- new. DONE: verified, and workers may start.
    step text NOT NULL CHECK (step IN ('CLAIMED', 'MOVED', 'MADE', 'DONE')),
    generation bigint NOT NULL DEFAULT 0,
    cluster_id text NOT NULL,
    -- Per stage: how many keys were moved, and a digest over all of them, the same before and after.
    stages jsonb NOT NULL DEFAULT '{}',
    author text NOT NULL CHECK (author <> ''),
    why text NOT NULL CHECK (why <> ''),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX topic_rescales_one_at_a_time ON topic_rescales ((true)) WHERE step <> 'DONE';

CREATE FUNCTION refuse_change_of_rescale() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.step <> 'DONE' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND OLD.step = 'CLAIMED' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'a rescale that was made is never changed';
END $$;
CREATE TRIGGER topic_rescales_are_kept BEFORE UPDATE OR DELETE ON topic_rescales
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_rescale();

-- Only a claim inserts a shard or raises its epoch; commits do not pass here.
CREATE FUNCTION refuse_claim_while_rescaling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tradermind.rescaling', true) IS DISTINCT FROM 'on'
            AND EXISTS (SELECT FROM topic_rescales WHERE step <> 'DONE') THEN
        RAISE EXCEPTION 'a rescale is under way: finish it with `tradermind topics rescale`';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER shard_is_not_rescaled BEFORE INSERT OR UPDATE OF epoch ON shard
    FOR EACH ROW EXECUTE FUNCTION refuse_claim_while_rescaling();

-- A topic that was made anew has its first offsets again: another record at the place of an old letter is no copy of it.
CREATE OR REPLACE VIEW dead_letter_states AS
    SELECT l.*, CASE newest.action
            WHEN 'REPLAY' THEN 'REPLAYING' WHEN 'REPLAYED' THEN 'REPLAYED' WHEN 'DISCARD' THEN 'DISCARDED'
            ELSE CASE l.reason WHEN 'TAKEN' THEN 'TAKEN' ELSE 'OPEN' END END AS status
    FROM dead_letters l LEFT JOIN LATERAL (
        SELECT a.action FROM dead_letter_actions a
        WHERE (a.dlq_topic, a.dlq_partition, a.dlq_offset) = (l.dlq_topic, l.dlq_partition, l.dlq_offset)
        ORDER BY a.ordinal DESC LIMIT 1) newest ON true
    WHERE NOT EXISTS (
        SELECT 1 FROM dead_letters o
        WHERE (o.topic, o."partition", o."offset", o.stage, o.reason, o.dlq_topic, o.dlq_partition)
                = (l.topic, l."partition", l."offset", l.stage, l.reason, l.dlq_topic, l.dlq_partition)
            AND (o.key, o.value) IS NOT DISTINCT FROM (l.key, l.value)
            AND o.dlq_offset < l.dlq_offset);
