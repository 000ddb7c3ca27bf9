"""Board 3: who votes, how good each is, and what the committee makes of it."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Lines, Panel, Stat, Table
from infra.dashboards.promql import rate
from infra.dashboards.queries import Influx, Prom, Sql
from infra.dashboards.units import Column, Unit, at

_OF = 'expert=~"$expert", instrument=~"$instrument"'
_IS_CHOSEN = "instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"
_SYMBOL = '"symbol" =~ /^$symbol$/ AND $timeFilter'

_VOTES = Row(
    "Votes",
    (
        Panel(
            "Votes by outcome",
            "Votes that the committee took: those with a direction, and abstentions by their reason.",
            Unit.PER_SECOND,
            (rate("tradermind_votes_total", "outcome", 'expert=~"$expert"', "{{outcome}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Votes by expert",
            "Votes with a direction, by expert. One that falls silent is out of the committee after 20 ballots.",
            Unit.PER_SECOND,
            (rate("tradermind_votes_total", "expert", 'expert=~"$expert", outcome=~"down|flat|up"', "{{expert}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Ballots by outcome",
            "Ballots closed: with a direction, without one, or void because of a gap in the data.",
            Unit.PER_SECOND,
            (rate("tradermind_ballots_total", "outcome", legend="{{outcome}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Ballots closed by the deadline",
            "Share of the ballots that did not wait for every live expert: somebody was late.",
            Unit.SHARE,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(time, $__interval), instrument AS metric,
                        avg((closed_by <> 'ALL')::int) AS share
                    FROM tallies WHERE {_IS_CHOSEN} GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(),
            least=0,
            most=1,
        ),
        Panel(
            "Disagreement",
            "How far the votes of the newest tally are apart: 0 is one opinion.",
            Unit.SHARE,
            (
                Prom(
                    'max by (instrument, horizon) (tradermind_tally_disagreement{instrument=~"$instrument"})',
                    "{{instrument}} {{horizon}}",
                ),
            ),
            Lines(),
        ),
        Panel(
            "What the committee thinks",
            "The pooled probability of up less that of down, on the average, from InfluxDB: above 0 it leans to up.",
            Unit.SHARE,
            (
                Influx(
                    'SELECT mean("p_up") - mean("p_down") FROM "tally"'
                    f' WHERE {_SYMBOL} GROUP BY time($__interval), "symbol", "horizon_s" fill(none)',
                    "$tag_symbol $tag_horizon_s s",
                ),
            ),
            Lines(fill=0),
        ),
    ),
)
_WORTH = Row(
    "What each is worth",
    (
        Panel(
            "Weight",
            "The weight of each expert in the newest tally: what Hedge has learnt from its scores.",
            Unit.SHARE,
            (Prom(f"avg by (expert) (tradermind_expert_weight{{{_OF}}})", "{{expert}}"),),
            Lines(stacked=True, fill=40),
            least=0,
        ),
        Panel(
            "Skill",
            "Skill over the running base rate, on the average: above 0 it knows more than how often prices move.",
            Unit.SHARE,
            (Prom(f"avg by (expert) (tradermind_expert_skill{{{_OF}}})", "{{expert}}"),),
            Lines(fill=0),
            least=-1,
            decimals=3,
        ),
        Panel(
            "Calibration error",
            "The expected calibration error of each expert's last votes: 0 says that it means what it says.",
            Unit.SHARE,
            (Prom(f"avg by (expert) (tradermind_expert_calibration_error{{{_OF}}})", "{{expert}}"),),
            Lines(fill=0),
            limits=at(0.25, "ExpertMiscalibrated"),
            decimals=3,
        ),
        Panel(
            "Regret against each expert",
            "The committee's loss so far less that of each expert on the same ballots, since the begin of these hours:"
            " what"
            " would have been gained by following that one alone. Hedge bounds the highest of them.",
            Unit.COUNT,
            (
                Sql(
                    f"""SELECT time, metric, sum(step) OVER (PARTITION BY metric ORDER BY time) AS regret FROM (
                        SELECT $__timeGroup(time, $__interval) AS time, expert AS metric, sum(pool_loss - loss) AS step
                        FROM scores WHERE {_IS_CHOSEN} AND expert IN ($expert) AND NOT abstained GROUP BY 1, 2) s
                    ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(fill=0),
            width=12,
            decimals=3,
        ),
        Panel(
            "Loss over the base rate",
            "Mean clipped log-loss of each expert less that of the running base rate, by horizon: below 0 it helps.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT expert, horizon_ns / 1e9 AS horizon, count(*) AS ballots,
                        avg(abstained::int) AS abstained, avg(loss) AS loss, avg(loss - base_loss) AS over_base
                    FROM scores WHERE {_IS_CHOSEN} AND expert IN ($expert) GROUP BY 1, 2 ORDER BY 6"""
                ),
            ),
            Table(),
            width=12,
            columns=(
                Column("horizon", Unit.SECONDS),
                Column("ballots", Unit.COUNT),
                Column("abstained", Unit.SHARE, 1),
                Column("loss", Unit.PLAIN, 4),
                Column("over_base", Unit.PLAIN, 4),
            ),
        ),
    ),
)
_DETAIL = Row(
    "In detail",
    (
        Panel(
            "Said and done",
            "Calibration: of all votes that gave up a probability in a tenth, the share of ballots that went up. The"
            " two"
            " columns should agree.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT floor(v.p_up * 10) / 10 AS from_p_up, count(*) AS votes, avg(v.p_up) AS said,
                        avg((s.outcome = 1)::int) AS done
                    FROM scores s JOIN votes v ON v.ballot_id = s.ballot_id AND v.expert = s.expert
                    WHERE s.instrument IN ($instrument) AND s.expert IN ($expert) AND v.p_up IS NOT NULL
                        AND $__unixEpochNanoFilter(s.available_at_ns) GROUP BY 1 ORDER BY 1"""
                ),
            ),
            Table(),
            columns=(
                Column("from_p_up", Unit.SHARE, 0),
                Column("votes", Unit.COUNT),
                Column("said", Unit.SHARE, 1),
                Column("done", Unit.SHARE, 1),
            ),
        ),
        Panel(
            "Weights now",
            "Weight and skill by expert, instrument and horizon, as the newest tally had them.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT expert, instrument, horizon_ns / 1e9 AS horizon, weight, skill FROM weights
                    WHERE instrument IN ($instrument) AND expert IN ($expert) ORDER BY 1, 2, 3"""
                ),
            ),
            Table(sort="weight"),
            columns=(
                Column("horizon", Unit.SECONDS),
                Column("weight", Unit.SHARE, 1),
                Column("skill", Unit.SHARE, 2),
            ),
        ),
        Panel(
            "Why they abstained",
            "Abstentions of each expert by their reason.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT expert, abstained AS reason, count(*) AS votes FROM votes
                    WHERE {_IS_CHOSEN} AND expert IN ($expert) AND abstained IS NOT NULL
                    GROUP BY 1, 2 ORDER BY 3 DESC"""
                ),
            ),
            Table(sort="votes"),
            columns=(Column("votes", Unit.COUNT),),
        ),
        Panel(
            "Ballots without a score",
            "Ballots that could not be scored, by reason: a gap inside the horizon, no mark, no mid.",
            Unit.COUNT,
            (
                Sql(
                    f"""SELECT reasons.reason, count(b.reason) AS ballots
                    FROM (VALUES ('GAP'), ('NO_MARK'), ('NO_MID')) AS reasons(reason)
                    LEFT JOIN (SELECT reason FROM ballots_voided WHERE {_IS_CHOSEN}) b ON b.reason = reasons.reason
                    GROUP BY 1 ORDER BY 1"""
                ),
            ),
            Stat(per_row=True, spark=False),
            width=12,
            height=6,
        ),
        Panel(
            "Experts heard",
            "How many experts the newest tallies have weighed, of those chosen.",
            Unit.PLAIN,
            (Prom(f"count(count by (expert) (tradermind_expert_weight{{{_OF}}}))", "experts"),),
            Stat(),
            width=12,
            height=6,
        ),
    ),
)

BOARD = Board(
    "experts",
    "3 Experts and votes",
    "Who votes, what each vote turned out to be worth, and how the committee weighs and pools them.",
    "Trading",
    (_VOTES, _WORTH, _DETAIL),
)
