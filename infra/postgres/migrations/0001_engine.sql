-- The engine's own tables: who holds a shard, where it stands, what it has read in which order, what it still has
-- to send. One row of shard_state per key, so that a checkpoint writes only what a batch has touched.

CREATE TABLE shard (
    stage text NOT NULL,
    shard text NOT NULL,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    holder_pid integer NOT NULL,
    cluster_id text NOT NULL,
    generation bigint NOT NULL,
    code_version text NOT NULL,
    settings_hash text NOT NULL,
    batch bigint NOT NULL DEFAULT 0,
    reached_ns bigint NOT NULL DEFAULT 0,
    progress bytea NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, shard)
);

CREATE TABLE shard_state (
    stage text NOT NULL,
    shard text NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (stage, shard, key)
);

-- The input journal: one row a batch, its inputs in the order in which they were stepped.
CREATE TABLE shard_journal (
    stage text NOT NULL,
    shard text NOT NULL,
    batch bigint NOT NULL,
    inputs bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, shard, batch)
);

-- What a batch wants sent; the row goes when the broker has acknowledged all of it.
CREATE TABLE shard_outbox (
    stage text NOT NULL,
    shard text NOT NULL,
    batch bigint NOT NULL,
    messages bytea NOT NULL,
    PRIMARY KEY (stage, shard, batch)
);

CREATE TABLE worker_status (
    stage text NOT NULL,
    shard text NOT NULL,
    worker text NOT NULL,
    counters jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, shard)
);

-- From receipt of the market record that closed the grid step to the order's bytes leaving for the venue.
CREATE TABLE order_latencies (
    order_id text PRIMARY KEY,
    tick_to_order_ns bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
