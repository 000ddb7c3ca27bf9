-- Takes away what 0005_rescales.sql made, and the audit with it.
DROP TRIGGER shard_is_not_rescaled ON shard;
DROP FUNCTION refuse_claim_while_rescaling;
DROP TABLE topic_rescales;
DROP FUNCTION refuse_change_of_rescale;
