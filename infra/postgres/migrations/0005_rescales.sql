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
