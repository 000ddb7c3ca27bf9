"""Board 1: is the platform well, and does it keep what it promises."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, States, Table
from infra.dashboards.promql import quantile, rate, share_within
from infra.dashboards.queries import Prom
from infra.dashboards.units import LEVEL_LIMITS, LEVELS, NEAR_A_LIMIT, YES_IS_BAD, YES_IS_GOOD, Unit, at, below

_NOW = Row(
    "Now",
    (
        Panel(
            "Workers that tell of themselves",
            "How many worker processes Prometheus hears from. Fewer than were started: one is down or cannot be"
            " reached.",
            Unit.PLAIN,
            (Prom("count(count by (worker) (tradermind_build_info))", "workers"),),
            Stat(),
            width=4,
            height=5,
        ),
        Panel(
            "Ready",
            "The least ready of all workers, by /readyz: with its database, its broker and its shards.",
            Unit.PLAIN,
            (Prom("min(tradermind_ready)", "ready"),),
            Stat(),
            width=4,
            height=5,
            names=YES_IS_GOOD,
        ),
        Panel(
            "Trading level",
            "The strictest level anywhere: ACTIVE trades, REDUCING only closes positions, HALTED sends nothing new.",
            Unit.PLAIN,
            (Prom("max(tradermind_trading_level)", "level"),),
            Stat(),
            width=4,
            height=5,
            limits=LEVEL_LIMITS,
            names=LEVELS,
        ),
        Panel(
            "Kill switch",
            "Whether anything at all is halted by a person, or by a limit that latched.",
            Unit.PLAIN,
            (Prom("max(tradermind_kill_switch_active)", "kill switch"),),
            Stat(),
            width=4,
            height=5,
            limits=at(1, "KillSwitchActive"),
            names=YES_IS_BAD,
        ),
        Panel(
            "Equity",
            "The value of all accounts at the newest marks, by currency.",
            Unit.MONEY,
            (Prom("sum by (currency) (tradermind_equity)", "{{currency}}"),),
            Stat(),
            width=4,
            height=5,
            decimals=2,
        ),
        Panel(
            "Alerts that fire",
            "How many alerts of the rules fire now. 0 also when Prometheus has no rules: see its page of rules.",
            Unit.PLAIN,
            (Prom('count(ALERTS{alertstate="firing"}) or vector(0)', "alerts"),),
            Stat(),
            width=4,
            height=5,
            limits=at(1),
        ),
    ),
)
_PROMISES = Row(
    "What is promised",
    (
        Panel(
            "Events handled within a second",
            "Of each worker's batches the share whose newest event was at most a second old when it was done.",
            Unit.SHARE,
            (share_within("1.0", "tradermind_event_age_seconds", "worker", legend="{{worker}}"),),
            Lines(),
            least=0,
            most=1,
            limits=below(0.99),
        ),
        Panel(
            "Age of events when they are done",
            "The 99th percentile over each stage's batches: from the event's time until its effects are committed and"
            " sent.",
            Unit.SECONDS,
            (quantile(0.99, "tradermind_event_age_seconds", "stage", legend="{{stage}}"),),
            Lines(),
        ),
        Panel(
            "From market data to the order",
            "From when the newest market data of an order's decision was there until the order's bytes left for the"
            " venue.",
            Unit.SECONDS,
            (quantile(0.5, "tradermind_tick_to_order_seconds"), quantile(0.99, "tradermind_tick_to_order_seconds")),
            Lines(),
            limits=at(1, "TickToOrderSlow"),
        ),
        Panel(
            "Age of market data",
            "How old the newest record of each instrument is, as risk sees it. Beyond the limit nothing is traded on"
            " it.",
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
            "Backlog",
            "Records in the log that no worker has stepped yet: the worst partition of the ten topics with most."
            " It should come back to nearly 0 after each rise.",
            Unit.RECORDS,
            (Prom("topk(10, max by (topic) (tradermind_consumer_lag_records))", "{{topic}}"),),
            Lines(),
            limits=at(10_000, "ConsumerLagHigh"),
        ),
        Panel(
            "Dead letters",
            "Records that could not be read or stepped since the workers began, by topic and reason. Each waits for a"
            " person: `tradermind dlq ls`.",
            Unit.COUNT,
            (Prom("sum by (topic, reason) (tradermind_dlq_records_total)", "{{topic}} {{reason}}"),),
            Lines(stacked=True, steps=True),
            limits=at(1, "DLQNotEmpty"),
        ),
    ),
)
_WORK = Row(
    "Work",
    (
        Panel(
            "Events handled",
            "Records stepped in a second, by worker.",
            Unit.EVENTS_PER_SECOND,
            (rate("tradermind_events_consumed_total", "worker", 'outcome="handled"', "{{worker}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Net profit and loss",
            "Realised and unrealised gain after fees and funding, by strategy, since its books began.",
            Unit.MONEY,
            (
                Prom(
                    'sum by (strategy, currency) (tradermind_net_pnl{strategy=~"$strategy"})',
                    "{{strategy}} {{currency}}",
                ),
            ),
            Lines(),
            decimals=2,
        ),
        Panel(
            "Limits in use",
            "How much of each hard limit the fullest of its scopes uses. At 1 the next order that adds is denied.",
            Unit.SHARE,
            (Prom("max by (limit) (tradermind_limit_used_ratio)", "{{limit}}", instant=True),),
            Bars(),
            least=0,
            most=1,
            limits=NEAR_A_LIMIT,
        ),
        Panel(
            "Servers",
            "Whether Postgres and Kafka answer, as the worker that is worst off sees it.",
            Unit.PLAIN,
            (Prom("min(tradermind_database_up)", "Postgres"), Prom("min(tradermind_broker_up)", "Kafka")),
            States(),
            width=12,
            names=YES_IS_GOOD,
        ),
        Panel(
            "What runs",
            "Version of the code and of the settings of every worker. Two of a kind: an upgrade is under way.",
            Unit.TEXT,
            (Prom("max by (worker, version, code_version, settings_hash) (tradermind_build_info)", table=True),),
            Table(),
            width=12,
        ),
    ),
)

BOARD = Board(
    "overview",
    "1 Platform overview",
    "Whether the platform is well and keeps its promises: begin here, and follow the menu for what is wrong.",
    "Platform",
    (_NOW, _PROMISES, _WORK),
)
