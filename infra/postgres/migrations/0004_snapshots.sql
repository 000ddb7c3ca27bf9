-- A shard as it stood now and then, so that any stretch of a run can be recomputed without beginning where the run
-- began; and who made which stretch of it, since other code may say other things.

CREATE TABLE shard_snapshot (
    stage text NOT NULL,
    shard text NOT NULL,
    batch bigint NOT NULL,
    epoch bigint NOT NULL,
    generation bigint NOT NULL,
    code_version text NOT NULL,
    settings_hash text NOT NULL,
    -- The newest time, on the run's clock, that the shard had stepped.
    reached_ns bigint NOT NULL,
    progress bytea NOT NULL,
    state_keys text[] NOT NULL,
    state_values bytea[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stage, shard, batch)
);
CREATE INDEX shard_snapshot_reached ON shard_snapshot (stage, shard, reached_ns);

-- From the batch after "after_batch" on, and until the next row, the shard was held by this code and these settings.
CREATE TABLE shard_version (
    stage text NOT NULL,
    shard text NOT NULL,
    after_batch bigint NOT NULL,
    reached_ns bigint NOT NULL,
    code_version text NOT NULL,
    settings_hash text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stage, shard, after_batch)
);
