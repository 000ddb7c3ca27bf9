-- Takes away what 0006_letters_and_pruning.sql made. The rows of the audit that it allowed stay, and are not checked.
DROP TABLE shard_pruned;
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
DROP INDEX dead_letter_actions_released;
ALTER TABLE dead_letter_actions DROP CONSTRAINT dead_letter_actions_action_check;
ALTER TABLE dead_letter_actions ADD CONSTRAINT dead_letter_actions_action_check CHECK (action IN (
    'REPLAY', 'REPLAYED', 'DISCARD', 'TAKE', 'RELEASE', 'STEP_HELD')) NOT VALID;
