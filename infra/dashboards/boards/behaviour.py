"""Board 12: how each strategy behaves, as one would look at a trader: by the record in Postgres alone."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Lines, Panel, Stat, Table
from infra.dashboards.queries import Sql
from infra.dashboards.units import Column, Unit

_IS_CHOSEN = "strategy IN ($strategy) AND instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"
_TRIPS = f"""WITH trips AS (
    SELECT strategy, instrument, exit_time_ns, exit_time_ns - entry_time_ns AS held_ns, net_pnl,
        quantity * entry_price AS value,
        lag(net_pnl) OVER w AS before_pnl, lag(quantity * entry_price) OVER w AS before_value,
        lag(exit_time_ns) OVER w AS before_exit_ns, entry_time_ns
    FROM (SELECT strategy, instrument, exit_decision_id, max(exit_time_ns) AS exit_time_ns,
            min(entry_time_ns) AS entry_time_ns, sum(net_pnl) AS net_pnl, sum(quantity) AS quantity,
            sum(quantity * entry_price) / sum(quantity) AS entry_price
        FROM trade_feedback WHERE {_IS_CHOSEN} GROUP BY 1, 2, 3) t
    WINDOW w AS (PARTITION BY strategy, instrument ORDER BY exit_time_ns))"""

_ACTIVITY = Row(
    "Activity",
    (
        Panel(
            "Orders an hour",
            "How many orders each strategy sent, reckoned from each minute to an hour. A sudden rise: it repeats.",
            Unit.PER_HOUR,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, '1m'), strategy AS metric,
                        count(*) * 60 AS orders
                    FROM orders WHERE {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(bars=True),
            width=12,
        ),
        Panel(
            "Cancelled orders",
            "Share of the finished orders that were cancelled without a fill. Much of it looks like layering to a"
            " venue.",
            Unit.SHARE,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), strategy AS metric,
                        avg((status = 'CANCELED' AND filled_quantity = 0)::int) AS share
                    FROM orders WHERE final AND {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(),
            width=12,
            least=0,
            most=1,
        ),
        Panel(
            "Orders by strategy",
            "Orders, how they ended, how many buys, and the median time between two orders on one instrument.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT strategy, count(*) AS orders, avg((side = 'BUY')::int) AS buys,
                        avg((filled_quantity > 0)::int) AS filled, avg((status = 'CANCELED')::int) AS cancelled,
                        avg((status IN ('REJECTED', 'DENIED'))::int) AS refused,
                        percentile_cont(0.5) WITHIN GROUP (ORDER BY apart_ns) / 1e9 AS apart
                    FROM (SELECT *, available_at_ns - lag(available_at_ns) OVER (
                            PARTITION BY strategy, instrument ORDER BY available_at_ns) AS apart_ns
                        FROM orders WHERE {_IS_CHOSEN}) o GROUP BY 1 ORDER BY 2 DESC"""
                ),
            ),
            Table(sort="orders"),
            width=24,
            height=7,
            columns=(
                Column("orders", Unit.COUNT),
                *(Column(name, Unit.SHARE, 1) for name in ("buys", "filled", "cancelled", "refused")),
                Column("apart", Unit.SECONDS, 1),
            ),
        ),
    ),
)
_LOSSES = Row(
    "After a loss",
    (
        Panel(
            "Time to the next entry",
            "Median time from closing a round trip to the entry of the next on the same instrument, after a loss and"
            " after a"
            " gain. Much shorter after losses: it chases them.",
            Unit.TEXT,
            (
                Sql(
                    f"""{_TRIPS} SELECT strategy,
                        CASE WHEN before_pnl < 0 THEN 'after a loss' ELSE 'after a gain' END AS "when",
                        count(*) AS trips,
                        percentile_cont(0.5) WITHIN GROUP (ORDER BY greatest(entry_time_ns - before_exit_ns, 0)) / 1e9
                            AS pause
                    FROM trips WHERE before_pnl IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("trips", Unit.COUNT), Column("pause", Unit.SECONDS, 1)),
        ),
        Panel(
            "Size of the next trip",
            "Value of a round trip over that of the one before it, after a loss and after a gain. Above 1 after"
            " losses: it"
            " doubles down.",
            Unit.TEXT,
            (
                Sql(
                    f"""{_TRIPS} SELECT strategy,
                        CASE WHEN before_pnl < 0 THEN 'after a loss' ELSE 'after a gain' END AS "when",
                        count(*) AS trips,
                        percentile_cont(0.5) WITHIN GROUP (ORDER BY (value / nullif(before_value, 0))::float8) AS ratio
                    FROM trips WHERE before_pnl IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("trips", Unit.COUNT), Column("ratio", Unit.PLAIN, 2)),
        ),
        Panel(
            "Losses in a row",
            "The longest series of lost round trips of each strategy on one instrument in these hours.",
            Unit.COUNT,
            (
                Sql(
                    f"""{_TRIPS} SELECT strategy, max(losses) AS losses FROM (
                        SELECT strategy, instrument, block, count(*) FILTER (WHERE net_pnl < 0) AS losses FROM (
                            SELECT strategy, instrument, net_pnl, count(*) FILTER (WHERE net_pnl >= 0) OVER (
                                PARTITION BY strategy, instrument ORDER BY exit_time_ns) AS block
                            FROM trips) b GROUP BY 1, 2, 3) l
                    GROUP BY 1 ORDER BY 1"""
                ),
            ),
            Stat(per_row=True, spark=False),
            width=24,
            height=5,
        ),
    ),
)
_HOLDING = Row(
    "Holding",
    (
        Panel(
            "Holding times",
            "How long round trips were held: quarter, half, nine tenths of them, won and lost apart. Losers held much"
            " longer"
            " than winners: it does not cut its losses.",
            Unit.TEXT,
            (
                Sql(
                    f"""{_TRIPS} SELECT strategy, CASE WHEN net_pnl < 0 THEN 'lost' ELSE 'won' END AS trips,
                        count(*) AS "count", percentile_cont(0.25) WITHIN GROUP (ORDER BY held_ns) / 1e9 AS quarter,
                        percentile_cont(0.5) WITHIN GROUP (ORDER BY held_ns) / 1e9 AS half,
                        percentile_cont(0.9) WITHIN GROUP (ORDER BY held_ns) / 1e9 AS "nine tenths"
                    FROM trips GROUP BY 1, 2 ORDER BY 1, 2"""
                ),
            ),
            Table(),
            width=12,
            columns=(
                Column("count", Unit.COUNT),
                *(Column(name, Unit.SECONDS, 1) for name in ("quarter", "half", "nine tenths")),
            ),
        ),
        Panel(
            "Holding time over time",
            "The mean time for which the round trips were held that ended in each interval.",
            Unit.SECONDS,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), strategy AS metric,
                        (avg(exit_time_ns - entry_time_ns) / 1e9)::float8 AS held
                    FROM trade_feedback WHERE {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(),
            width=12,
        ),
        Panel(
            "Size of orders",
            "The mean value of what was filled in each interval, by strategy.",
            Unit.QUOTE,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), strategy AS metric,
                        avg(price * quantity)::float8 AS value
                    FROM fills WHERE {_IS_CHOSEN} AND reverses IS NULL GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(fill=0),
            width=12,
            decimals=0,
        ),
        Panel(
            "Turns of direction",
            "How often each strategy went from long to short or back at once, and how often it began and ended flat.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT strategy, instrument, count(*) AS decisions,
                        sum((sign(target) * sign(previous_target) < 0)::int) AS turned,
                        sum((target <> 0 AND previous_target = 0)::int) AS entered,
                        sum((target = 0 AND previous_target <> 0)::int) AS left_flat
                    FROM decisions WHERE outcome = 'TARGET' AND {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1, 2"""
                ),
            ),
            Table(),
            width=12,
            columns=tuple(Column(name, Unit.COUNT) for name in ("decisions", "turned", "entered", "left_flat")),
        ),
    ),
)

BOARD = Board(
    "behaviour",
    "12 Trader behaviour",
    "How each strategy behaves, as one would look at a trader: how often it trades, what it does after a loss, how"
    " long it"
    " holds. From the record in Postgres alone.",
    "Trading",
    (_ACTIVITY, _LOSSES, _HOLDING),
)
