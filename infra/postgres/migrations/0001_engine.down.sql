-- Takes away what 0001_engine.sql made: all progress of all workers.
DROP TABLE shard, shard_state, shard_journal, shard_outbox, worker_status, order_latencies;
