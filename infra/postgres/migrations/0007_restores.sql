-- Restores: what was done after a database was set back to a backup, or lost. A finished one is never changed.

CREATE TABLE restores (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- CLAIMED: from here on no worker may claim a shard. WRITTEN: every shard stands at the end of its logs. DONE: the
    -- sinks do, too, and workers may start.
    step text NOT NULL CHECK (step IN ('CLAIMED', 'WRITTEN', 'DONE')),
    -- The generation of every shard from here on, and its epoch: above whatever was given out after the backup.
    era bigint NOT NULL CHECK (era > 0),
    cluster_id text NOT NULL,
    -- Per stage/shard: inputs passed over, by lane [from, to]; orders to be asked about; levels that were set.
    report jsonb NOT NULL DEFAULT '{}',
    author text NOT NULL CHECK (author <> ''),
    why text NOT NULL CHECK (why <> ''),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX restores_one_at_a_time ON restores ((true)) WHERE step <> 'DONE';

CREATE FUNCTION refuse_change_of_restore() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.step <> 'DONE' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND OLD.step = 'CLAIMED' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'a restore that was made is never changed';
END $$;
CREATE TRIGGER restores_are_kept BEFORE UPDATE OR DELETE ON restores
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_restore();

CREATE OR REPLACE FUNCTION refuse_claim_while_rescaling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tradermind.rescaling', true) IS DISTINCT FROM 'on' THEN
        IF EXISTS (SELECT FROM topic_rescales WHERE step <> 'DONE') THEN
            RAISE EXCEPTION 'a rescale is under way: finish it with `tradermind topics rescale`';
        END IF;
        IF EXISTS (SELECT FROM restores WHERE step <> 'DONE') THEN
            RAISE EXCEPTION 'a restore is under way: finish it with `tradermind restore`';
        END IF;
    END IF;
    RETURN NEW;
END $$;
