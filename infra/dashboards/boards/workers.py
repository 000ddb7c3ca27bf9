"""Board 8: the workers and what moves between them."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, States, Table
from infra.dashboards.promql import quantile, rate
from infra.dashboards.queries import Prom, Sql
from infra.dashboards.units import YES_IS_GOOD, Column, Unit, at

_OF = 'worker=~"$worker"'

_FLOW = Row(
    "Flow",
    (
        Panel(
            "Taken by topic",
            "Records taken from each topic in a second.",
            Unit.EVENTS_PER_SECOND,
            (rate("tradermind_events_consumed_total", "topic", _OF, "{{topic}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "What became of them",
            "Records taken, by outcome: handled, duplicates that were dropped, dead letters, skipped.",
            Unit.EVENTS_PER_SECOND,
            (rate("tradermind_events_consumed_total", "outcome", _OF, "{{outcome}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Sent by topic",
            "Records sent to each topic in a second.",
            Unit.EVENTS_PER_SECOND,
            (rate("tradermind_events_produced_total", "topic", _OF, "{{topic}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Backlog by topic",
            "Records in the log that are not stepped yet: the worst partition of the ten backlogs that are longest.",
            Unit.RECORDS,
            (
                Prom(
                    f"topk(10, max by (worker, topic) (tradermind_consumer_lag_records{{{_OF}}}))",
                    "{{worker}} {{topic}}",
                ),
            ),
            Lines(),
            limits=at(10_000, "ConsumerLagHigh"),
        ),
        Panel(
            "Partitions that stand still",
            "How long the worst partition of each topic has been behind without moving. Its worker ends and is"
            " restarted at"
            " `kafka.stuck_after_s`.",
            Unit.SECONDS,
            (Prom(f"max by (topic) (tradermind_partition_still_seconds{{{_OF}}})", "{{topic}}"),),
            Lines(),
            limits=at(60, "PartitionStuck"),
        ),
        Panel(
            "What should not be",
            "Records that were asked for and were no more in the log, dead letters, metrics that were not told.",
            Unit.COUNT,
            (
                Prom("sum(tradermind_offset_gap_total) or vector(0)", "gone from the log"),
                Prom("sum(tradermind_dlq_records_total) or vector(0)", "dead letters"),
                Prom("sum(tradermind_metrics_errors_total) or vector(0)", "metrics not told"),
            ),
            Stat(),
            limits=at(1, "OffsetGap"),
        ),
    ),
)
_TIME = Row(
    "Time",
    (
        Panel(
            "Time of a batch",
            "How long a batch took from its offer until it was sent: the 99th percentile, by stage.",
            Unit.SECONDS,
            (quantile(0.99, "tradermind_batch_handling_seconds", "stage", _OF, "{{stage}}"),),
            Lines(),
        ),
        Panel(
            "Age of events when they are done",
            "The 99th percentile over each stage's batches.",
            Unit.SECONDS,
            (quantile(0.99, "tradermind_event_age_seconds", "stage", _OF, "{{stage}}"),),
            Lines(),
        ),
        Panel(
            "Freshness",
            "Now minus the time of the newest event that each stage has handled; it grows while nothing comes.",
            Unit.SECONDS,
            (Prom(f"max by (stage) (tradermind_freshness_seconds{{{_OF}}})", "{{stage}}"),),
            Lines(),
        ),
        Panel(
            "Age of checkpoints",
            "How long ago the oldest shard of each stage wrote its checkpoint, while it has anything to write.",
            Unit.SECONDS,
            (Prom(f"max by (stage) (tradermind_checkpoint_age_seconds{{{_OF}}})", "{{stage}}"),),
            Lines(),
            limits=at(30, "CheckpointOld"),
        ),
        Panel(
            "Outbox",
            "Records committed and not acknowledged by Kafka yet.",
            Unit.RECORDS,
            (Prom(f"max by (stage) (tradermind_outbox_pending_records{{{_OF}}})", "{{stage}}"),),
            Lines(),
        ),
        Panel(
            "Event loops",
            "How late the last timer of each worker's event loop was. A worker that hangs shows here first.",
            Unit.SECONDS,
            (Prom(f"max by (worker) (tradermind_event_loop_lag_seconds{{{_OF}}})", "{{worker}}"),),
            Lines(),
            limits=at(2, "EventLoopBlocked"),
        ),
    ),
)
_WORKERS = Row(
    "Workers",
    (
        Panel(
            "Ready",
            "What /readyz of each worker says.",
            Unit.PLAIN,
            (Prom(f"min by (worker) (tradermind_ready{{{_OF}}})", "{{worker}}"),),
            States(),
            width=12,
            names=YES_IS_GOOD,
        ),
        Panel(
            "Shards held",
            "How many shards of each stage its workers hold together.",
            Unit.COUNT,
            (Prom(f"sum by (stage) (tradermind_shards_held{{{_OF}}})", "{{stage}}", instant=True),),
            Bars(),
            width=12,
            least=0,
        ),
        Panel(
            "Memory",
            "Resident memory of each worker.",
            Unit.BYTES,
            (Prom(f"max by (worker) (process_resident_memory_bytes{{{_OF}}})", "{{worker}}"),),
            Lines(),
            width=12,
        ),
        Panel(
            "Processor time",
            "How many cores each worker uses.",
            Unit.PLAIN,
            (rate("process_cpu_seconds_total", "worker", _OF, "{{worker}}"),),
            Lines(),
            width=12,
            decimals=2,
        ),
        Panel(
            "Shards",
            "Who holds which shard, since which epoch, and the batch that it has reached. An epoch that rises often:"
            " workers"
            " take it from each other.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT stage, shard, holder, epoch, generation, batch, updated_at AS written, code_version,
                        settings_hash FROM shard ORDER BY 1, 2"""
                ),
            ),
            Table(),
            width=24,
            height=9,
            columns=(Column("written", Unit.DATE),),
        ),
    ),
)

BOARD = Board(
    "workers",
    "8 Kafka and workers",
    "What moves through Kafka, how far behind each worker is, how long its work takes, and which shards it holds.",
    "Platform",
    (_FLOW, _TIME, _WORKERS),
)
