-- What became of what a quarantine held and of what sinks were told to pass over; and how far a shard's past was pruned.

-- Two more rows of the audit, which the platform itself writes after an order was carried out. RELEASED: of the
-- quarantine "detail.since", the first "detail.stepped" held records were stepped, and "detail.ended" says whether it is
-- over. PASSED: the sinks passed over a record.
ALTER TABLE dead_letter_actions DROP CONSTRAINT dead_letter_actions_action_check;
ALTER TABLE dead_letter_actions ADD CONSTRAINT dead_letter_actions_action_check CHECK (action IN (
    'REPLAY', 'REPLAYED', 'DISCARD', 'TAKE', 'RELEASE', 'STEP_HELD', 'RELEASED', 'PASSED'));
CREATE INDEX dead_letter_actions_released ON dead_letter_actions (stage, (detail ->> 'since'))
    WHERE action = 'RELEASED';

-- What was held is RELEASED once its stage has stepped it; what a person left behind is TAKEN, like what a person took.
-- Something that did not come by Kafka has no place of its own: the same bytes are the same thing. What a sink could not
-- read is the stage's letter, where the stage could not read it either.
CREATE OR REPLACE VIEW dead_letter_states AS
    SELECT l.*, CASE
            WHEN newest.action = 'REPLAY' THEN 'REPLAYING'
            WHEN newest.action = 'REPLAYED' THEN 'REPLAYED'
            WHEN newest.action = 'DISCARD' THEN 'DISCARDED'
            WHEN l.reason = 'TAKEN' THEN 'TAKEN'
            WHEN l.held_number <= quarantine.stepped THEN 'RELEASED'
            WHEN quarantine.ended THEN 'TAKEN'
            ELSE 'OPEN' END AS status
    FROM dead_letters l
    LEFT JOIN LATERAL (
        SELECT a.action FROM dead_letter_actions a
        WHERE (a.dlq_topic, a.dlq_partition, a.dlq_offset) = (l.dlq_topic, l.dlq_partition, l.dlq_offset)
        ORDER BY a.ordinal DESC LIMIT 1) newest ON true
    LEFT JOIN LATERAL (
        SELECT max((a.detail ->> 'stepped')::bigint) AS stepped, bool_or((a.detail ->> 'ended')::boolean) AS ended
        FROM dead_letter_actions a
        WHERE a.action = 'RELEASED' AND a.stage = l.stage AND a.detail ->> 'since' = l.held_since) quarantine
        ON l.held_since IS NOT NULL
    WHERE NOT EXISTS (
        SELECT 1 FROM dead_letters o
        WHERE (o.topic, o."partition", o."offset", o.stage, o.reason, o.dlq_topic, o.dlq_partition)
                = (l.topic, l."partition", l."offset", l.stage, l.reason, l.dlq_topic, l.dlq_partition)
            AND (o.key, o.value) IS NOT DISTINCT FROM (l.key, l.value)
            AND o.dlq_offset < l.dlq_offset)
        AND NOT (l."offset" IS NULL AND EXISTS (
            SELECT 1 FROM dead_letters o
            WHERE (o.stage, o.reason, o.dlq_topic, o.dlq_partition, o.key, o.value)
                    = (l.stage, l.reason, l.dlq_topic, l.dlq_partition, l.key, l.value)
                AND o."offset" IS NULL AND o.dlq_offset < l.dlq_offset))
        AND NOT (l.stage = 'sinks' AND EXISTS (
            SELECT 1 FROM dead_letters o
            WHERE (o.topic, o."partition", o."offset", o.reason, o.dlq_topic)
                    = (l.topic, l."partition", l."offset", l.reason, l.dlq_topic)
                AND o.stage <> 'sinks' AND (o.key, o.value) IS NOT DISTINCT FROM (l.key, l.value)));

-- Through which batch a shard's journal was pruned, and its snapshots with it: nothing before is recomputed any more.
CREATE TABLE shard_pruned (
    stage text NOT NULL,
    shard text NOT NULL,
    through_batch bigint NOT NULL,
    pruned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stage, shard)
);
