"""Board 7: what was earned and lost, and what is held."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, Table
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import Column, Unit, at

_OF = 'strategy=~"$strategy"'
_IS_CHOSEN = "strategy IN ($strategy) AND instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"
_TAGS = '"strategy" =~ /^$strategy$/ AND "symbol" =~ /^$symbol$/ AND $timeFilter'

_NOW = Row(
    "Now",
    (
        Panel(
            "Equity",
            "The value of all accounts at the newest marks, by currency.",
            Unit.MONEY,
            (Prom("sum by (currency) (tradermind_equity)", "{{currency}}"),),
            Stat(),
            width=6,
            height=5,
            decimals=2,
        ),
        Panel(
            "Net profit and loss",
            "Realised and unrealised gain after fees and funding of the chosen strategies, since their books began.",
            Unit.MONEY,
            (Prom(f"sum by (currency) (tradermind_net_pnl{{{_OF}}})", "{{currency}}"),),
            Stat(),
            width=6,
            height=5,
            decimals=2,
        ),
        Panel(
            "Fees",
            "Fees paid by the chosen strategies since their books began; rebates lower it.",
            Unit.MONEY,
            (Prom(f"sum by (currency) (tradermind_fees_total{{{_OF}}})", "{{currency}}"),),
            Stat(),
            width=6,
            height=5,
            decimals=2,
        ),
        Panel(
            "Entries that do not balance",
            "Entries of the ledger whose amounts do not sum to 0 in every asset. There must never be one.",
            Unit.COUNT,
            (Sql("SELECT count(*) AS entries FROM ledger_imbalance"),),
            Stat(spark=False),
            width=6,
            height=5,
            limits=at(1),
        ),
    ),
)
_RESULT = Row(
    "Result",
    (
        Panel(
            "Net profit and loss by strategy",
            "Realised and unrealised gain after fees and funding, since each strategy's books began.",
            Unit.MONEY,
            (Prom(f"sum by (strategy, currency) (tradermind_net_pnl{{{_OF}}})", "{{strategy}} {{currency}}"),),
            Lines(fill=0),
            width=12,
            decimals=2,
        ),
        Panel(
            "Equity over time",
            "The value of each account at its marks, and the highest that it has had, from InfluxDB.",
            Unit.MONEY,
            (
                Influx(
                    'SELECT last("equity") FROM "account" WHERE $timeFilter GROUP BY time($__interval), "account"'
                    " fill(none)",
                    "$tag_account",
                ),
                Influx(
                    'SELECT max("equity_peak") FROM "account" WHERE $timeFilter GROUP BY time($__interval), "account"'
                    " fill(none)",
                    "$tag_account, highest",
                ),
            ),
            Lines(fill=0),
            width=12,
            decimals=2,
        ),
        Panel(
            "Drawdown",
            "How far each strategy is below its highest value, of its capital.",
            Unit.SHARE,
            (Prom(f"max by (strategy) (tradermind_drawdown_ratio{{{_OF}}})", "{{strategy}}"),),
            Lines(),
            limits=at(0.05, "DrawdownHigh"),
            decimals=3,
        ),
        Panel(
            "Realised on round trips",
            "Gain of closed round trips after fees and slippage, summed up since the begin of these hours, by"
            " strategy.",
            Unit.MONEY,
            (
                Sql(
                    f"""SELECT time, metric, sum(step) OVER (PARTITION BY metric ORDER BY time) AS gain FROM (
                        SELECT $__timeGroup(time, $__interval) AS time, strategy AS metric, sum(net_pnl)::float8 AS step
                        FROM trade_feedback WHERE {_IS_CHOSEN} GROUP BY 1, 2) s ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(fill=0),
            decimals=2,
        ),
        Panel(
            "Round trips",
            "Closed round trips of each strategy: how many won, what the average one won and lost, and what it cost.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT strategy, instrument, count(*) AS trips, avg((net_pnl > 0)::int) AS won,
                        sum(net_pnl)::float8 AS net, (avg(net_pnl) FILTER (WHERE net_pnl > 0))::float8 AS mean_win,
                        (avg(net_pnl) FILTER (WHERE net_pnl <= 0))::float8 AS mean_loss, sum(fees)::float8 AS fees
                    FROM trade_feedback WHERE {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 5 DESC"""
                ),
            ),
            Table(sort="net"),
            columns=(
                Column("trips", Unit.COUNT),
                Column("won", Unit.SHARE, 1),
                *(Column(name, Unit.MONEY, 2) for name in ("net", "mean_win", "mean_loss", "fees")),
            ),
        ),
    ),
)
_HELD = Row(
    "Positions",
    (
        Panel(
            "Positions",
            "What is held now, at which average price, and what it has realised so far.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT p.account, p.strategy, p.instrument, p.quantity, p.average_price, m.mid,
                        m.unrealised_pnl::float8 AS unrealised, p.realised_pnl::float8 AS realised,
                        p.fees::float8 AS fees, p.currency
                    FROM positions p LEFT JOIN newest_account_marks m USING (account, strategy, instrument)
                    WHERE p.strategy IN ($strategy) AND p.instrument IN ($instrument) ORDER BY 1, 2, 3"""
                ),
            ),
            Table(),
            width=24,
            columns=tuple(Column(name, Unit.MONEY, 2) for name in ("unrealised", "realised", "fees")),
        ),
        Panel(
            "Value of positions",
            "The signed value of each position at its newest mark.",
            Unit.QUOTE,
            (
                Prom(
                    f'sum by (strategy, instrument) (tradermind_position_notional{{{_OF}, instrument=~"$instrument"}})',
                    "{{strategy}} {{instrument}}",
                ),
            ),
            Lines(fill=0, steps=True),
            decimals=2,
        ),
        Panel(
            "Quantity held",
            "The signed quantity held, by strategy and symbol, from InfluxDB.",
            Unit.COUNT,
            (
                Influx(
                    f'SELECT last("position") FROM "account" WHERE {_TAGS}'
                    ' GROUP BY time($__interval), "strategy", "symbol" fill(none)',
                    "$tag_strategy $tag_symbol",
                ),
            ),
            Lines(fill=0, steps=True),
        ),
        Panel(
            "Unrealised",
            "What the open positions would win or lose at the mid, by strategy and symbol, from InfluxDB.",
            Unit.MONEY,
            (
                Influx(
                    f'SELECT last("unrealised_pnl") FROM "account" WHERE {_TAGS}'
                    ' GROUP BY time($__interval), "strategy", "symbol" fill(none)',
                    "$tag_strategy $tag_symbol",
                ),
            ),
            Lines(fill=0),
            decimals=2,
        ),
        Panel(
            "Share of the gross exposure",
            "How the value of all positions is spread over the instruments.",
            Unit.SHARE,
            (
                Prom(
                    f'sum by (instrument) (abs(tradermind_position_notional{{{_OF}, instrument=~"$instrument"}}))'
                    f" / scalar(clamp_min(sum(abs(tradermind_position_notional{{{_OF}"
                    ', instrument=~"$instrument"})), 1e-9))',
                    "{{instrument}}",
                    instant=True,
                ),
            ),
            Bars(),
            width=24,
            height=5,
            least=0,
            most=1,
        ),
    ),
)

BOARD = Board(
    "pnl",
    "7 Profit, loss and positions",
    "What was earned and lost, by strategy and round trip, and what is held. The books are the ledger's, in Postgres.",
    "Trading",
    (_NOW, _RESULT, _HELD),
)
