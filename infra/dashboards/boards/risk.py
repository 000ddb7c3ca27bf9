"""Board 5: the hard limits: how near, what they denied, and who changed them."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, States, Table
from infra.dashboards.promql import quantile, rate
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import LEVELS, NEAR_A_LIMIT, YES_IS_BAD, Column, Unit, at

_IS_CHOSEN = "strategy IN ($strategy) AND instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"

_LEVELS_ROW = Row(
    "Levels",
    (
        Panel(
            "Trading level",
            "The strictest level of each scope: ACTIVE trades, REDUCING only closes positions, HALTED sends nothing"
            " new.",
            Unit.PLAIN,
            (Prom("max by (scope) (tradermind_trading_level)", "{{scope}}"),),
            States(),
            width=12,
            height=7,
            names=LEVELS,
        ),
        Panel(
            "Kill switch",
            "Whether anything of a scope is halted. Two people lift it: `tradermind risk ACTIVE`.",
            Unit.PLAIN,
            (Prom("max by (scope) (tradermind_kill_switch_active)", "{{scope}}"),),
            Stat(),
            width=6,
            height=7,
            limits=at(1, "KillSwitchActive"),
            names=YES_IS_BAD,
        ),
        Panel(
            "Drawdown",
            "How far each strategy is below its highest value, of its capital. The account is halted at its limit.",
            Unit.SHARE,
            (Prom('max by (strategy) (tradermind_drawdown_ratio{strategy=~"$strategy"})', "{{strategy}}"),),
            Bars(),
            width=6,
            height=7,
            least=0,
            limits=at(0.05, "DrawdownHigh"),
            decimals=3,
        ),
    ),
)
_LIMITS = Row(
    "Limits",
    (
        Panel(
            "Limits in use",
            "How much of each limit the fullest of its scopes uses now. At 1 the next order that adds is denied.",
            Unit.SHARE,
            (Prom("max by (limit) (tradermind_limit_used_ratio)", "{{limit}}", instant=True),),
            Bars(),
            width=12,
            height=9,
            least=0,
            most=1,
            limits=NEAR_A_LIMIT,
        ),
        Panel(
            "Limits in use over time",
            "The same over time. What comes near its limit again and again is set too low, or traded too hard.",
            Unit.SHARE,
            (Prom("max by (limit) (tradermind_limit_used_ratio)", "{{limit}}"),),
            Lines(fill=0),
            width=12,
            height=9,
            least=0,
            limits=NEAR_A_LIMIT,
        ),
        Panel(
            "Orders judged",
            "Orders that risk approved and denied, in a second.",
            Unit.PER_SECOND,
            (rate("tradermind_risk_decisions_total", "outcome", legend="{{outcome}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Why orders were denied",
            "How often each check said no, in risk and once more before the venue.",
            Unit.COUNT,
            (
                Sql(
                    """SELECT $__timeGroupAlias(v.time, $__interval), r.reason AS metric, count(*) AS denials
                    FROM order_verdicts v CROSS JOIN LATERAL unnest(v.reasons) AS r(reason)
                    WHERE v.verdict = 'DENIED' AND v.strategy IN ($strategy) AND v.instrument IN ($instrument)
                        AND $__unixEpochNanoFilter(v.available_at_ns) GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(bars=True, stacked=True),
        ),
        Panel(
            "Time of the checks",
            "How long risk took for one decision, all checks: median and 99th percentile.",
            Unit.SECONDS,
            (quantile(0.5, "tradermind_risk_check_seconds"), quantile(0.99, "tradermind_risk_check_seconds")),
            Lines(),
        ),
    ),
)
_EXPOSURE = Row(
    "Exposure",
    (
        Panel(
            "Gross exposure",
            "The value of all positions, long and short counted alike, by strategy, at the newest marks.",
            Unit.QUOTE,
            (
                Prom(
                    "sum by (strategy) (abs(tradermind_position_notional"
                    '{strategy=~"$strategy", instrument=~"$instrument"}))',
                    "{{strategy}}",
                ),
            ),
            Lines(stacked=True),
            decimals=2,
        ),
        Panel(
            "Net exposure",
            "The value of all positions, short ones negative, by instrument.",
            Unit.QUOTE,
            (
                Prom(
                    "sum by (instrument) (tradermind_position_notional"
                    '{strategy=~"$strategy", instrument=~"$instrument"})',
                    "{{instrument}}",
                ),
            ),
            Lines(fill=0),
            decimals=2,
        ),
        Panel(
            "Result of the day",
            "Profit and loss since midnight UTC by account, from InfluxDB: what the daily loss limit is held against.",
            Unit.MONEY,
            (
                Influx(
                    'SELECT last("day_pnl") FROM "account" WHERE $timeFilter GROUP BY time($__interval), "account"'
                    " fill(none)",
                    "$tag_account",
                ),
            ),
            Lines(fill=0),
            decimals=2,
        ),
    ),
)
_RECORD = Row(
    "The record",
    (
        Panel(
            "Newest denials",
            "Orders that were denied, with every reason. `tradermind why-not` shows all checks of one.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT time, strategy, instrument, side, quantity, array_to_string(reasons, ', ') AS reasons,
                        limits_version FROM order_verdicts
                    WHERE verdict = 'DENIED' AND {_IS_CHOSEN} ORDER BY available_at_ns DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("time", Unit.DATE),),
        ),
        Panel(
            "Changes of limits and levels",
            "What became of every change: applied, refused and why, lapsed; who asked and who signed.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT time, outcome, action, scope, target, level, "values"::text AS "values", author,
                        array_to_string(approved_by, ', ') AS signed_by, refusal, reason
                    FROM control_outcomes WHERE outcome <> 'IN_FORCE' AND $__timeFilter(time)
                    ORDER BY available_at_ns DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("time", Unit.DATE),),
        ),
    ),
)

BOARD = Board(
    "risk",
    "5 Risk and limits",
    "How near the hard limits are, what they denied, what is halted, and who changed what.",
    "Trading",
    (_LEVELS_ROW, _LIMITS, _EXPOSURE, _RECORD),
)
