-- Takes away what 0005_rescales.sql made, and the audit with it.
DROP TRIGGER shard_is_not_rescaled ON shard;
DROP FUNCTION refuse_claim_while_rescaling;
DROP TABLE topic_rescales;
DROP FUNCTION refuse_change_of_rescale;
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
            AND o.dlq_offset < l.dlq_offset);
