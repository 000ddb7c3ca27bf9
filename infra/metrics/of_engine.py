"""The metrics that every worker tells of itself, whatever its stages do."""

from typing import Final

from infra.metrics.metric import AGE_S, counter, gauge, histogram

BUILD_INFO: Final = gauge(
    "tradermind_build_info", "worker version code_version settings_hash", "Always 1; its labels say what runs."
)
READY: Final = gauge("tradermind_ready", "worker", "Whether /readyz says yes: 1 or 0.")
EVENTS_CONSUMED: Final = counter(
    "tradermind_events_consumed_total",
    "worker topic outcome",
    "Records taken from a topic; outcome is handled, duplicate, dead_letter or skipped.",
)
EVENTS_PRODUCED: Final = counter("tradermind_events_produced_total", "worker topic", "Records sent to a topic.")
BATCH_HANDLING: Final = histogram(
    "tradermind_batch_handling_seconds",
    "worker stage",
    "How long a batch took to be stepped, committed and handed over, without the time for which it lay open.",
)
EVENT_AGE: Final = histogram(
    "tradermind_event_age_seconds",
    "worker stage",
    "How old a batch's newest event was when the batch was done: now minus its event time.",
    bounds=AGE_S,
)
FRESHNESS: Final = gauge(
    "tradermind_freshness_seconds",
    "worker stage",
    "Now minus the event time of the newest event that the stage has handled; it grows while nothing comes.",
)
CONSUMER_LAG: Final = gauge(
    "tradermind_consumer_lag_records", "worker topic partition", "Records in the log that are not stepped yet."
)
PARTITION_STILL: Final = gauge(
    "tradermind_partition_still_seconds",
    "worker topic partition",
    "How long a partition has been behind its log without moving, the outages of broker and database left out.",
)
CHECKPOINT_AGE: Final = gauge(
    "tradermind_checkpoint_age_seconds",
    "worker stage",
    "For how long something handled has not been in the checkpoint of the stage's slowest shard; 0 when all is.",
)
OUTBOX_PENDING: Final = gauge(
    "tradermind_outbox_pending_records", "worker stage", "Records committed to the outbox and not acknowledged yet."
)
SHARDS_HELD: Final = gauge("tradermind_shards_held", "worker stage", "Shards of the stage that this worker holds.")
DLQ_RECORDS: Final = counter(
    "tradermind_dlq_records_total", "worker topic reason", "Records of a topic that became dead letters."
)
QUARANTINED_KEYS: Final = gauge(
    "tradermind_quarantined_keys", "worker stage", "Keys whose records are held back until a person decides."
)
DATABASE_UP: Final = gauge("tradermind_database_up", "worker", "Whether Postgres answered when last asked: 1 or 0.")
BROKER_UP: Final = gauge("tradermind_broker_up", "worker", "Whether Kafka answered when last asked: 1 or 0.")
EVENT_LOOP_LAG: Final = gauge(
    "tradermind_event_loop_lag_seconds", "worker", "How late the event loop's last timer was; it grows while it hangs."
)
METRICS_ERRORS: Final = counter(
    "tradermind_metrics_errors_total", "worker", "Times that the metrics could not be told, for an error of ours."
)
CLOCK_OFFSET: Final = gauge(
    "tradermind_clock_offset_seconds",
    "worker source",
    "Another clock minus the worker's; source is database, or a venue as its feed's time stamps tell.",
)
OFFSET_GAP: Final = counter(
    "tradermind_offset_gap_total",
    "worker topic",
    "Gaps between the offsets of a public topic: aborted transactions, or records gone before they were read.",
)
BREAKER_STATE: Final = gauge(
    "tradermind_breaker_state",
    "worker dependency",
    "Breaker to a dependency (postgres, kafka, influx, registry): 0 closed, 1 half open, 2 open.",
)
MODELS_REFUSED: Final = counter(
    "tradermind_models_refused_total",
    "reason",
    "Artefacts of models that were refused before they were loaded.",
    ("decider", "trainer", "control", "experts", "model-serve"),
)
