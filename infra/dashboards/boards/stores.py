"""Board 9: Postgres, which holds the truth, and InfluxDB, which holds what graphs are drawn of."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, States, Table
from infra.dashboards.promql import rate
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import BREAKERS, YES_IS_GOOD, Column, Unit, at

_POSTGRES = Row(
    "Postgres",
    (
        Panel(
            "Does Postgres answer",
            "Whether it answered each worker when last asked. Without it stages stop, and nothing is lost.",
            Unit.PLAIN,
            (Prom("min by (worker) (tradermind_database_up)", "{{worker}}"),),
            States(),
            names=YES_IS_GOOD,
        ),
        Panel(
            "Breakers",
            "Whether workers have given up asking a dependency for a while.",
            Unit.PLAIN,
            (Prom("max by (dependency) (tradermind_breaker_state)", "{{dependency}}"),),
            States(),
            names=BREAKERS,
        ),
        Panel(
            "Size of the database",
            "How much room all tables and indexes take.",
            Unit.BYTES,
            (Sql("SELECT pg_database_size(current_database()) AS size"),),
            Stat(spark=False),
            width=4,
        ),
        Panel(
            "Sessions",
            "Sessions that are open in this database. Each worker holds one for a shard.",
            Unit.COUNT,
            (Sql("SELECT numbackends AS sessions FROM pg_stat_database WHERE datname = current_database()"),),
            Stat(spark=False),
            width=4,
        ),
        Panel(
            "Rows written",
            "Rows that came into the record in each interval, by what they tell of.",
            Unit.COUNT,
            (
                Sql(
                    """SELECT time, metric, sum(rows)::bigint AS rows FROM (
                        SELECT $__timeGroup(time, $__interval) AS time, 'decisions' AS metric, count(*) AS rows
                            FROM decisions WHERE $__unixEpochNanoFilter(available_at_ns) GROUP BY 1
                        UNION ALL SELECT $__timeGroup(time, $__interval), 'order events', count(*)
                            FROM order_events WHERE $__unixEpochNanoFilter(available_at_ns) GROUP BY 1
                        UNION ALL SELECT $__timeGroup(time, $__interval), 'account marks', count(*)
                            FROM account_marks WHERE $__unixEpochNanoFilter(available_at_ns) GROUP BY 1
                        UNION ALL SELECT $__timeGroup(time, $__interval), 'tallies', count(*)
                            FROM tallies WHERE $__unixEpochNanoFilter(available_at_ns) GROUP BY 1) r
                    GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(bars=True, stacked=True),
            width=12,
        ),
        Panel(
            "Largest tables",
            "Tables with the most bytes, their rows as the statistics have them, and what waits for vacuum.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT relname AS table, pg_total_relation_size(relid) AS size, n_live_tup AS rows,
                        n_dead_tup AS dead, n_tup_ins AS inserted, last_autovacuum
                    FROM pg_stat_user_tables ORDER BY 2 DESC LIMIT 15"""
                ),
            ),
            Table(sort="size"),
            width=12,
            columns=(
                Column("size", Unit.BYTES),
                *(Column(name, Unit.COUNT) for name in ("rows", "dead", "inserted")),
                Column("last_autovacuum", Unit.DATE),
            ),
        ),
        Panel(
            "Found in memory",
            "Share of the blocks that were found in Postgres' own memory, since it began.",
            Unit.SHARE,
            (
                Sql(
                    """SELECT (blks_hit::float8 / nullif(blks_hit + blks_read, 0)) AS share FROM pg_stat_database
                    WHERE datname = current_database()"""
                ),
            ),
            Stat(spark=False),
            width=6,
            height=5,
            decimals=3,
        ),
        Panel(
            "Transactions",
            "Transactions committed and rolled back since the statistics began, and deadlocks.",
            Unit.COUNT,
            (
                Sql(
                    """SELECT xact_commit AS committed, xact_rollback AS "rolled back", deadlocks FROM pg_stat_database
                    WHERE datname = current_database()"""
                ),
            ),
            Stat(spark=False),
            width=10,
            height=5,
        ),
        Panel(
            "Outbox rows that wait",
            "Batches whose records Kafka has not acknowledged yet, as they lie in Postgres.",
            Unit.COUNT,
            (Sql("SELECT count(*) AS batches FROM shard_outbox"),),
            Stat(spark=False),
            width=8,
            height=5,
        ),
    ),
)
_INFLUX = Row(
    "InfluxDB",
    (
        Panel(
            "Points written",
            "Points that InfluxDB took in a second.",
            Unit.PER_SECOND,
            (rate("tradermind_influx_points_written_total", legend="points"),),
            Lines(),
        ),
        Panel(
            "Queue",
            "Events that wait to be written. It is bounded (`influx.queue_events`): beyond it the oldest are dropped.",
            Unit.COUNT,
            (Prom("sum(tradermind_influx_queue_events)", "events"),),
            Lines(),
        ),
        Panel(
            "Events dropped",
            "Events whose points were given up over these hours. Trading is not touched; `tradermind rebuild influx`"
            " refills.",
            Unit.COUNT,
            (Prom("sum(increase(tradermind_influx_events_dropped_total[$__range])) or vector(0)", "events"),),
            Stat(),
            limits=at(1, "InfluxDropping"),
        ),
        Panel(
            "Points by measurement",
            "How many valued account marks, tallies and votes InfluxDB holds of each interval.",
            Unit.COUNT,
            (
                Influx(
                    'SELECT count("equity") FROM "account" WHERE $timeFilter GROUP BY time($__interval) fill(0)',
                    "account",
                ),
                Influx(
                    'SELECT count("mid") FROM "tally" WHERE $timeFilter GROUP BY time($__interval) fill(0)', "tally"
                ),
                Influx(
                    'SELECT count("weight") FROM "expert_weight" WHERE $timeFilter GROUP BY time($__interval) fill(0)',
                    "expert_weight",
                ),
            ),
            Lines(bars=True, stacked=True),
            width=12,
        ),
        Panel(
            "Measurements",
            "What there is in InfluxDB: one measurement for each type of event.",
            Unit.TEXT,
            (Influx("SHOW MEASUREMENTS", "", table=True),),
            Table(),
            width=12,
        ),
        Panel(
            "Open breakers",
            "How many workers see each dependency with an open breaker.",
            Unit.COUNT,
            (Prom("sum by (dependency) (tradermind_breaker_state > bool 1)", "{{dependency}}", instant=True),),
            Bars(),
            width=24,
            height=5,
            least=0,
        ),
    ),
)

BOARD = Board(
    "stores",
    "9 Postgres and InfluxDB",
    "Whether the two databases keep up. Postgres holds the truth; InfluxDB can be lost and refilled from it.",
    "Platform",
    (_POSTGRES, _INFLUX),
)
