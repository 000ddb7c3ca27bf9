-- Takes away what 0004_snapshots.sql made.
DROP TABLE shard_version;
DROP TABLE shard_snapshot;
