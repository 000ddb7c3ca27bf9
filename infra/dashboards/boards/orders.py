"""Board 6: what became of orders, how fast, and what trading cost."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Heat, Lines, Panel, Stat, Table
from infra.dashboards.promql import heat, quantile, rate
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import YES_IS_GOOD, Column, Unit, at

_IS_CHOSEN = "strategy IN ($strategy) AND instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"

_NOW = Row(
    "Now",
    (
        Panel(
            "Open orders",
            "Orders that are not final, by venue.",
            Unit.COUNT,
            (Prom("sum by (venue) (tradermind_orders_open)", "{{venue}}"),),
            Stat(),
            width=6,
            height=5,
        ),
        Panel(
            "Orders nobody knows of",
            "Orders of which nobody knows what the venue made. They are asked about; meanwhile nothing is added beside"
            " them.",
            Unit.COUNT,
            (Prom("sum by (venue) (tradermind_orders_unknown)", "{{venue}}"),),
            Stat(),
            width=6,
            height=5,
            limits=at(1, "OrderUnknownStuck"),
        ),
        Panel(
            "Books equal the venue's",
            "Whether our books were found equal to the venue's. Until then nothing that adds risk leaves.",
            Unit.PLAIN,
            (Prom("min by (venue) (tradermind_reconciled)", "{{venue}}"),),
            Stat(),
            width=6,
            height=5,
            names=YES_IS_GOOD,
        ),
        Panel(
            "Differences to the venue's books",
            "What differed at the newest reconciliation: `tradermind reconcile` names each.",
            Unit.COUNT,
            (Prom("sum by (venue) (tradermind_reconcile_differences)", "{{venue}}"),),
            Stat(),
            width=6,
            height=5,
            limits=at(1, "ReconcileMismatch"),
        ),
    ),
)
_FLOW = Row(
    "Orders",
    (
        Panel(
            "Orders by state",
            "Orders that came to a state, in a second, by venue.",
            Unit.PER_SECOND,
            (rate("tradermind_orders_total", "venue, state", legend="{{venue}} {{state}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Fills",
            "Fills booked in a second, by venue and side.",
            Unit.PER_SECOND,
            (rate("tradermind_fills_total", "venue, side", legend="{{venue}} {{side}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Time to the venue's answer",
            "From the request until the venue answered about the order: median and 99th percentile.",
            Unit.SECONDS,
            (
                quantile(0.5, "tradermind_order_submit_seconds", "venue", legend="{{venue}} p50"),
                quantile(0.99, "tradermind_order_submit_seconds", "venue", legend="{{venue}} p99"),
            ),
            Lines(),
            limits=at(1, "OrderSubmitSlow"),
        ),
        Panel(
            "From market data to the order",
            "How orders spread over the time from the newest market data of their decision until they left.",
            Unit.SECONDS,
            (heat("tradermind_tick_to_order_seconds"),),
            Heat(),
            width=12,
        ),
        Panel(
            "Slowest orders",
            "From the record: the orders that took longest from market data to the venue.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT l.written_at AS time, o.strategy, o.instrument, o.status, l.tick_to_order_ns
                    FROM order_latencies l JOIN orders o ON o.order_id = l.order_id
                    WHERE o.strategy IN ($strategy) AND o.instrument IN ($instrument) AND $__timeFilter(l.written_at)
                    ORDER BY l.tick_to_order_ns DESC LIMIT 20"""
                ),
            ),
            Table(sort="tick_to_order_ns"),
            width=12,
            columns=(Column("time", Unit.DATE), Column("tick_to_order_ns", Unit.NANOSECONDS)),
        ),
    ),
)
_COST = Row(
    "What trading cost",
    (
        Panel(
            "Slippage",
            "Money lost against the mid of the decision over what was traded, in hundredths of a percent, by"
            " instrument.",
            Unit.BASIS_POINTS,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), instrument AS metric,
                        (sum(slippage) / nullif(sum(price * quantity), 0) * 10000)::float8 AS slippage
                    FROM fills WHERE {_IS_CHOSEN} AND reverses IS NULL GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(fill=0),
            width=12,
            decimals=2,
        ),
        Panel(
            "Slippage in money",
            "Money lost against the mid of the decision in each interval, by strategy, from InfluxDB.",
            Unit.MONEY,
            (
                Influx(
                    'SELECT sum("slippage") FROM "fill" WHERE "strategy" =~ /^$strategy$/ AND "symbol" =~ /^$symbol$/'
                    ' AND $timeFilter GROUP BY time($__interval), "strategy" fill(0)',
                    "$tag_strategy",
                ),
            ),
            Lines(bars=True, stacked=True),
            width=12,
            decimals=2,
        ),
        Panel(
            "Costs by strategy and instrument",
            "What trading cost: fees and slippage over what was traded, and the share of it that was made, not taken."
            " `tradermind tca` breaks it down further.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT strategy, instrument, count(*) AS fills, sum(price * quantity)::float8 AS traded,
                        sum(fee)::float8 AS fees, sum(slippage)::float8 AS slippage,
                        ((sum(fee) + sum(slippage)) / nullif(sum(price * quantity), 0) * 10000)::float8 AS cost,
                        (coalesce(sum(price * quantity) FILTER (WHERE liquidity = 'MAKER'), 0)
                            / sum(price * quantity))::float8 AS made
                    FROM fills WHERE {_IS_CHOSEN} AND reverses IS NULL GROUP BY 1, 2 ORDER BY 4 DESC"""
                ),
            ),
            Table(sort="traded"),
            width=12,
            columns=(
                Column("fills", Unit.COUNT),
                Column("traded", Unit.QUOTE, 0),
                Column("fees", Unit.QUOTE, 2),
                Column("slippage", Unit.QUOTE, 2),
                Column("cost", Unit.BASIS_POINTS, 2),
                Column("made", Unit.SHARE, 1),
            ),
        ),
        Panel(
            "How much of orders was filled",
            "Of the quantity of finished orders the share that was filled, by strategy and how the order ended.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT strategy, status, coalesce(reason, '') AS reason, count(*) AS orders,
                        (sum(filled_quantity) / nullif(sum(quantity), 0))::float8 AS filled
                    FROM orders WHERE final AND {_IS_CHOSEN} GROUP BY 1, 2, 3 ORDER BY 4 DESC"""
                ),
            ),
            Table(sort="orders"),
            width=12,
            columns=(Column("orders", Unit.COUNT), Column("filled", Unit.SHARE, 1)),
        ),
        Panel(
            "Newest orders",
            "The newest orders and how each stands. `tradermind why ORDER` tells the whole story of one.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT time, left(order_id, 12) AS order_id, strategy, instrument, side, order_type, quantity,
                        filled_quantity, average_price, status, reason
                    FROM orders WHERE {_IS_CHOSEN} ORDER BY available_at_ns DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=24,
            columns=(Column("time", Unit.DATE),),
        ),
    ),
)

BOARD = Board(
    "orders",
    "6 Orders and execution",
    "What became of orders, how long they took, and what trading cost against the mid of the decision.",
    "Trading",
    (_NOW, _FLOW, _COST),
)
