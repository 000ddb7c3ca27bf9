"""Board 4: what was decided, by whom, and the way of a model into force and out of it."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, Table
from infra.dashboards.promql import quantile, rate
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import Column, Unit, at

_OF = 'strategy=~"$strategy"'
_IS_CHOSEN = "strategy IN ($strategy) AND $__unixEpochNanoFilter(available_at_ns)"
_STRATEGY = '"strategy" =~ /^$strategy$/ AND "symbol" =~ /^$symbol$/ AND $timeFilter'

_DECISIONS = Row(
    "Decisions",
    (
        Panel(
            "Decisions by outcome",
            "Targets that changed, and decisions to do nothing, in a second.",
            Unit.PER_SECOND,
            (rate("tradermind_decisions_total", "outcome", _OF, "{{outcome}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Why nothing was done",
            "Decisions without a trade, by reason: the edge is below the cost, the market is not there, a level"
            " forbids.",
            Unit.PER_SECOND,
            (rate("tradermind_decisions_total", "reason", f'{_OF}, outcome="NO_TRADE"', "{{reason}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Target",
            "Target exposure, -1 to 1 of the instrument's risk budget, by strategy, from InfluxDB.",
            Unit.SHARE,
            (
                Influx(
                    f'SELECT last("target") FROM "decision" WHERE {_STRATEGY}'
                    ' GROUP BY time($__interval), "strategy", "symbol" fill(previous)',
                    "$tag_strategy $tag_symbol",
                ),
            ),
            Lines(steps=True, fill=0),
            least=-1,
            most=1,
        ),
        Panel(
            "Cost of a round trip",
            "What the decider expected to pay for going in and out, spread, fees and slippage, by symbol.",
            Unit.BASIS_POINTS,
            (
                Influx(
                    f'SELECT mean("cost") * 10000 FROM "decision" WHERE {_STRATEGY}'
                    ' GROUP BY time($__interval), "symbol" fill(none)',
                    "$tag_symbol",
                ),
            ),
            Lines(fill=0),
            decimals=2,
        ),
        Panel(
            "Rewards by sign",
            "Rewards of decisions as feedback closed them: quantity held times move, less fees and slippage.",
            Unit.PER_SECOND,
            (rate("tradermind_rewards_total", "sign", _OF, "{{sign}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Reward so far",
            "The sum of all rewards since the begin of these hours, by strategy and policy.",
            Unit.MONEY,
            (
                Sql(
                    f"""SELECT time, metric, sum(step) OVER (PARTITION BY metric ORDER BY time) AS reward FROM (
                        SELECT $__timeGroup(time, $__interval) AS time, strategy || ' ' || policy AS metric,
                            sum(reward)::float8 AS step
                        FROM experience WHERE {_IS_CHOSEN} GROUP BY 1, 2) s ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(fill=0),
            decimals=2,
        ),
    ),
)
_MODELS = Row(
    "Models",
    (
        Panel(
            "In force",
            "Which policy decides for which strategy, and at which stage of the release train.",
            Unit.TEXT,
            (Prom(f"max by (strategy, policy, stage) (tradermind_policy_in_force{{{_OF}}}) == 1", table=True),),
            Table(),
            width=12,
        ),
        Panel(
            "Releases",
            "Every release of a model: to which stage, why, and by whom; the newest first.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT time, model, left(sha256, 12) AS sha256, release_stage, reason, author FROM model_releases
                    WHERE $__timeFilter(time) ORDER BY ordinal DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("time", Unit.DATE),),
        ),
        Panel(
            "Changes of stage",
            "Changes of a model's stage that came into force since the decider began, by the new stage.",
            Unit.COUNT,
            (Prom("sum by (stage) (tradermind_model_releases_total)", "{{stage}}", instant=True),),
            Bars(),
            width=6,
        ),
        Panel(
            "Answers that were no target",
            "Answers of a policy that were no number, or outside -1 to 1. One is enough to take a model out of force.",
            Unit.COUNT,
            (Prom("sum(increase(tradermind_model_invalid_total[$__range])) or vector(0)", "answers"),),
            Stat(),
            width=6,
            limits=at(1, "ModelInvalid"),
        ),
        Panel(
            "Time of an answer",
            "How long a policy took for one answer, by policy: median and 99th percentile.",
            Unit.SECONDS,
            (
                quantile(0.5, "tradermind_model_inference_seconds", "policy", legend="{{policy}} p50"),
                quantile(0.99, "tradermind_model_inference_seconds", "policy", legend="{{policy}} p99"),
            ),
            Lines(),
            width=12,
        ),
        Panel(
            "By policy",
            "Of each policy: decisions whose reward is known, the sum and mean of it, and how often it held what it"
            " wanted.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT strategy, policy, policy_stage, count(*) AS decisions, sum(reward)::float8 AS reward,
                        avg(reward)::float8 AS mean_reward, avg(abs(effective)) AS held,
                        avg((abs(effective - intended) < 0.05)::int) AS as_intended
                    FROM experience WHERE {_IS_CHOSEN} GROUP BY 1, 2, 3 ORDER BY 5 DESC"""
                ),
            ),
            Table(),
            width=12,
            columns=(
                Column("decisions", Unit.COUNT),
                Column("reward", Unit.MONEY, 2),
                Column("mean_reward", Unit.MONEY, 4),
                Column("held", Unit.SHARE, 1),
                Column("as_intended", Unit.SHARE, 1),
            ),
        ),
        Panel(
            "Artefacts refused",
            "Models that somebody asked for and were not loaded: why, by whom. A fault or an attack.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT created_at AS time, reason, sentence, author, left(sha256, 12) AS sha256
                    FROM model_refusals
                    WHERE $__timeFilter(created_at) ORDER BY ordinal DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("time", Unit.DATE),),
        ),
        Panel(
            "Transitions for the trainer",
            "Decisions with their outcomes, as the trainer gets them, in a second.",
            Unit.PER_SECOND,
            (rate("tradermind_experiences_total", "strategy", _OF, "{{strategy}}"),),
            Lines(),
            width=24,
            height=6,
        ),
    ),
)

BOARD = Board(
    "decider",
    "4 Decider and models",
    "What was decided and what came of it; which model is in force, how it got there, and what was refused.",
    "Trading",
    (_DECISIONS, _MODELS),
)
