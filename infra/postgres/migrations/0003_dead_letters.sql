-- What people do about dead letters, and what it takes to send one again exactly as it was.

ALTER TABLE dead_letters
    ADD COLUMN stage text NOT NULL DEFAULT '',
    -- MessagePack of [[name, bytes], ...]: the headers in their order and to the byte. Null in rows that are older.
    ADD COLUMN raw_headers bytea,
    ADD COLUMN held_since text,
    ADD COLUMN held_number bigint;
UPDATE dead_letters SET stage = coalesce(headers ->> '__tradermind.errors.stage', '');
CREATE INDEX dead_letters_place ON dead_letters (topic, "partition", "offset");
CREATE INDEX dead_letters_held ON dead_letters (stage, held_since, held_number) WHERE held_since IS NOT NULL;

-- The audit: one row for each thing that a person did, never changed. A worker reads its orders (TAKE, RELEASE,
-- STEP_HELD) in the order of "ordinal", which is the order of the commits.
CREATE TABLE dead_letter_actions (
    ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action text NOT NULL CHECK (action IN ('REPLAY', 'REPLAYED', 'DISCARD', 'TAKE', 'RELEASE', 'STEP_HELD')),
    author text NOT NULL CHECK (author <> ''),
    why text NOT NULL CHECK (why <> ''),
    stage text NOT NULL DEFAULT '',
    topic text NOT NULL DEFAULT '',
    "partition" int,
    first_offset bigint,
    last_offset bigint,
    key text NOT NULL DEFAULT '',
    dlq_topic text,
    dlq_partition int,
    dlq_offset bigint,
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dead_letter_actions_letter ON dead_letter_actions (dlq_topic, dlq_partition, dlq_offset, ordinal);
CREATE INDEX dead_letter_actions_orders ON dead_letter_actions (stage, ordinal)
    WHERE action IN ('TAKE', 'RELEASE', 'STEP_HELD');

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what people did about dead letters is never changed';
END $$;
CREATE TRIGGER dead_letter_actions_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_actions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Each letter as it stands: what was done last about it. One that a person took needs nothing more. A worker that
-- was killed writes a letter again when it comes up; of such copies the first is the letter.
CREATE VIEW dead_letter_states AS
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
            AND o.dlq_offset < l.dlq_offset);
