"""Board 2: what the platform knows of the market, and how far that can be trusted."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, States, Table
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import Colour, Column, Named, Unit, at

_IS_CHOSEN = "instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"
_SYMBOL = '"symbol" =~ /^$symbol$/ AND $timeFilter'

_TRUST = Row(
    "Can it be trusted",
    (
        Panel(
            "Age of market data",
            "Now minus when the newest record of each instrument was there. Beyond the limit decisions are DATA_STALE.",
            Unit.SECONDS,
            (
                Prom(
                    'max by (instrument) (tradermind_market_data_age_seconds{instrument=~"$instrument"})',
                    "{{instrument}}",
                ),
            ),
            Lines(),
            limits=at(5, "StaleMarketData"),
        ),
        Panel(
            "What was wrong with the data",
            "Quality events of ingestion in each interval, by kind: gaps, refusals, resyncs, clocks that run away.",
            Unit.COUNT,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), kind AS metric, sum(count)::bigint AS events
                    FROM quality_events WHERE {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(bars=True, stacked=True),
        ),
        Panel(
            "Marks by quality",
            "How many marks of each instrument had which quality. Only GOOD and TOP_ONLY ones are priced on.",
            Unit.COUNT,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), quality AS metric, count(*) AS marks
                    FROM market_marks WHERE {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(bars=True, stacked=True),
        ),
        Panel(
            "Quality events so far",
            "Quality events since ingestion began, by kind. Each resync is a gap that was closed.",
            Unit.COUNT,
            (
                Prom(
                    'sum by (kind) (tradermind_quality_events_total{instrument=~"$instrument"})',
                    "{{kind}}",
                    instant=True,
                ),
            ),
            Bars(),
            width=6,
            least=0,
        ),
        Panel(
            "Keys in quarantine",
            "Keys whose records are held back until a person decides (`tradermind dlq`).",
            Unit.COUNT,
            (Prom("sum(tradermind_quarantined_keys)", "keys"),),
            Stat(),
            width=5,
            limits=at(1, "KeysQuarantined"),
        ),
        Panel(
            "Clocks apart",
            "How far a worker's clock is from the database's. Ages and deadlines are wrong by as much.",
            Unit.SECONDS,
            (Prom("max by (worker) (abs(tradermind_clock_offset_seconds))", "{{worker}}"),),
            Lines(),
            width=6,
            limits=at(0.5, "ClockDrift"),
        ),
        Panel(
            "Newest quality events",
            "What was said of the data last, with its detail.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT time, instrument, kind, detail, count FROM quality_events
                    WHERE {_IS_CHOSEN} ORDER BY time DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=7,
            columns=(Column("time", Unit.DATE), Column("count", Unit.COUNT)),
        ),
    ),
)
_MARKET = Row(
    "The market",
    (
        Panel(
            "Mid",
            "The middle between best bid and best ask, from InfluxDB. Each instrument has its own scale: choose one.",
            Unit.QUOTE,
            (
                Influx(
                    f'SELECT last("mid") FROM "market_mark" WHERE {_SYMBOL} GROUP BY time($__interval), "symbol"'
                    f" fill(none)",
                    "$tag_symbol",
                ),
            ),
            Lines(fill=0),
            width=12,
        ),
        Panel(
            "Spread",
            "Best ask less best bid over the mid, in hundredths of a percent, on the average.",
            Unit.BASIS_POINTS,
            (
                Influx(
                    'SELECT (mean("ask_price") - mean("bid_price")) / mean("mid") * 10000 FROM "market_mark"'
                    f' WHERE {_SYMBOL} GROUP BY time($__interval), "symbol" fill(none)',
                    "$tag_symbol",
                ),
            ),
            Lines(),
            width=12,
            decimals=2,
        ),
        Panel(
            "Trades",
            "Trades of the venue in each interval, from InfluxDB.",
            Unit.COUNT,
            (
                Influx(
                    f'SELECT count("price") FROM "trade" WHERE {_SYMBOL} GROUP BY time($__interval), "symbol" fill(0)',
                    "$tag_symbol",
                ),
            ),
            Lines(bars=True, stacked=True),
        ),
        Panel(
            "Volume traded",
            "Quantity traded between marks, in the instrument's own unit.",
            Unit.COUNT,
            (
                Influx(
                    f'SELECT sum("volume") FROM "market_mark" WHERE {_SYMBOL} GROUP BY time($__interval), "symbol"'
                    f" fill(0)",
                    "$tag_symbol",
                ),
            ),
            Lines(bars=True),
        ),
        Panel(
            "Volatility",
            "Realised volatility per square root of a second as the committee sees it, in hundredths of a percent.",
            Unit.BASIS_POINTS,
            (
                Influx(
                    f'SELECT mean("volatility") * 10000 FROM "tally" WHERE {_SYMBOL}'
                    ' GROUP BY time($__interval), "symbol" fill(none)',
                    "$tag_symbol",
                ),
            ),
            Lines(),
            decimals=3,
        ),
        Panel(
            "Best bid and ask",
            "The newest mark of each instrument: what risk prices an order by.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT DISTINCT ON (instrument) instrument, time, mid, bid_price, ask_price, bid_quantity,
                        ask_quantity, quality, (available_at_ns - newest_time_ns) / 1e9 AS age
                    FROM market_marks WHERE {_IS_CHOSEN} ORDER BY instrument, available_at_ns DESC"""
                ),
            ),
            Table(),
            width=16,
            columns=(Column("time", Unit.DATE), Column("age", Unit.SECONDS, 2)),
        ),
        Panel(
            "Bars that are whole",
            "Whether each bar of the chosen instruments is made of all there was: one over a resync is incomplete.",
            Unit.PLAIN,
            (
                Sql(
                    """SELECT time, instrument AS metric, min(complete::int) AS complete FROM bars
                    WHERE instrument IN ($instrument) AND $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            States(),
            names=(Named("0", "incomplete", Colour.WARN), Named("1", "complete", Colour.GOOD)),
        ),
    ),
)

BOARD = Board(
    "market",
    "2 Market data quality",
    "What the platform knows of the market, how old it is, and what was wrong with it.",
    "Market",
    (_TRUST, _MARKET),
)
