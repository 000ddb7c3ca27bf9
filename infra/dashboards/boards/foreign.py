"""Board 10: experts that are not ours: foreign processes whose votes came by ingress, and experts that read texts."""

from typing import Final

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Bars, Lines, Panel, Stat, Table
from infra.dashboards.promql import rate
from infra.dashboards.queries import Prom, Sql
from infra.dashboards.units import Column, Unit, at

NATIVE_EXPERTS: Final = (
    *("anomaly", "mean_reversion", "momentum"),
    *("order_flow", "quant", "volatility_regime"),
)
"""Experts that vote from within our own worker. tests/infra/dashboards holds it to the registry of the experts."""
_NATIVE = "|".join(NATIVE_EXPERTS)
_NOT_OURS = f'expert!~"{_NATIVE}"'
_SQL_NOT_OURS = "expert NOT IN (" + ", ".join(f"'{name}'" for name in NATIVE_EXPERTS) + ")"
_VOTE_TOPIC = "tradermind.ingest.vote.v1"
_IS_CHOSEN = "instrument IN ($instrument) AND $__unixEpochNanoFilter(available_at_ns)"

_COMING_IN = Row(
    "What comes in",
    (
        Panel(
            "Votes offered",
            "Records on the public topic of votes in a second, by what became of them.",
            Unit.PER_SECOND,
            (rate("tradermind_events_consumed_total", "outcome", f'topic="{_VOTE_TOPIC}"', "{{outcome}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Votes taken",
            "Votes of foreign experts that the committee took, by expert.",
            Unit.PER_SECOND,
            (rate("tradermind_votes_total", "expert", _NOT_OURS, "{{expert}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "All that others send",
            "Records on every public topic in a second: trades, quotes, depth, votes, requests, outcomes.",
            Unit.PER_SECOND,
            (rate("tradermind_events_consumed_total", "topic", 'topic=~"tradermind[.]ingest[.].*"', "{{topic}}"),),
            Lines(stacked=True),
        ),
        Panel(
            "Refused",
            "Records of the public topics that became dead letters since the workers began, by topic and reason.",
            Unit.COUNT,
            (
                Prom(
                    'sum by (topic, reason) (tradermind_dlq_records_total{topic=~"tradermind[.]ingest[.].*"})',
                    "{{topic}} {{reason}}",
                    instant=True,
                ),
            ),
            Bars(),
            width=12,
            least=0,
            limits=at(1, "DLQNotEmpty"),
        ),
        Panel(
            "How many are there",
            "Foreign experts that the committee has heard of since voting began, and of these the ones fed by texts.",
            Unit.PLAIN,
            (
                Prom(f"count(count by (expert) (tradermind_votes_total{{{_NOT_OURS}}}))", "foreign experts"),
                Sql(
                    f"""SELECT count(DISTINCT expert) FILTER (WHERE text_fed) AS "fed by texts" FROM votes
                    WHERE {_SQL_NOT_OURS} AND {_IS_CHOSEN}"""
                ),
            ),
            Stat(),
            width=12,
        ),
    ),
)
_WORTH = Row(
    "What they are worth",
    (
        Panel(
            "Weight",
            "The weight of each foreign expert in the newest tally. Those fed by texts have together 10 % at most.",
            Unit.SHARE,
            (
                Prom(
                    f'avg by (expert) (tradermind_expert_weight{{{_NOT_OURS}, instrument=~"$instrument"}})',
                    "{{expert}}",
                ),
            ),
            Lines(stacked=True),
            least=0,
        ),
        Panel(
            "Skill",
            "Skill over the running base rate of each foreign expert.",
            Unit.SHARE,
            (
                Prom(
                    f'avg by (expert) (tradermind_expert_skill{{{_NOT_OURS}, instrument=~"$instrument"}})',
                    "{{expert}}",
                ),
            ),
            Lines(fill=0),
            least=-1,
            decimals=3,
        ),
        Panel(
            "Weight of what is fed by texts",
            "The summed weight of experts that are fed by texts, in each tally. The committee caps it at 10 %.",
            Unit.SHARE,
            (
                Sql(
                    f"""SELECT $__timeGroupAlias(t.time, $__interval), t.instrument AS metric,
                        max(t.fed) AS weight FROM (
                            SELECT y.time, y.instrument, sum(e.weight) AS fed FROM tallies y
                            CROSS JOIN LATERAL jsonb_to_recordset(y.entries) AS e(expert text, weight float8)
                            WHERE {_IS_CHOSEN} AND e.expert IN (SELECT expert FROM votes
                                WHERE text_fed AND $__unixEpochNanoFilter(available_at_ns))
                            GROUP BY y.event_id, y.time, y.instrument) t
                    GROUP BY 1, 2 ORDER BY 1""",
                    series=True,
                ),
            ),
            Lines(fill=0),
            limits=at(0.1),
            least=0,
        ),
        Panel(
            "Each of them",
            "Votes, abstentions, how sure it was on the average, and how long before the ballot's end its votes came.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT expert, bool_or(text_fed) AS text_fed, count(*) AS votes,
                        avg((abstained IS NOT NULL)::int) AS abstained, avg(greatest(p_down, p_flat, p_up)) AS sure,
                        max(time) AS newest
                    FROM votes WHERE {_SQL_NOT_OURS} AND {_IS_CHOSEN} GROUP BY 1 ORDER BY 3 DESC"""
                ),
            ),
            Table(sort="votes"),
            width=12,
            columns=(
                Column("votes", Unit.COUNT),
                Column("abstained", Unit.SHARE, 1),
                Column("sure", Unit.SHARE, 1),
                Column("newest", Unit.DATE),
            ),
        ),
        Panel(
            "Came too late",
            "How often each foreign expert was too late for a ballot that was closed without it.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT expert, count(*) AS ballots, sum(late) AS late FROM (
                        SELECT v.expert, (v.expert = ANY (t.late))::int AS late FROM tallies t
                        JOIN votes v ON v.ballot_id = t.ballot_id
                        WHERE t.instrument IN ($instrument) AND $__unixEpochNanoFilter(t.available_at_ns)) x
                    WHERE {_SQL_NOT_OURS} GROUP BY 1 ORDER BY 3 DESC"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("ballots", Unit.COUNT), Column("late", Unit.COUNT)),
        ),
        Panel(
            "Newest votes",
            "The newest votes of foreign experts with their evidence.",
            Unit.TEXT,
            (
                Sql(
                    f"""SELECT time, expert, instrument, horizon_ns / 1e9 AS horizon, p_down, p_flat, p_up, abstained,
                        text_fed, evidence::text AS evidence
                    FROM votes WHERE {_SQL_NOT_OURS} AND {_IS_CHOSEN} ORDER BY available_at_ns DESC LIMIT 30"""
                ),
            ),
            Table(),
            width=24,
            columns=(
                Column("time", Unit.DATE),
                Column("horizon", Unit.SECONDS),
                *(Column(name, Unit.SHARE, 1) for name in ("p_down", "p_flat", "p_up")),
            ),
        ),
    ),
)

BOARD = Board(
    "foreign",
    "10 Text-fed and foreign experts",
    "Experts that are not ours: their votes come by the public topics and weigh what they turn out to be worth. There"
    " is no"
    " analyst by language model yet; as one will vote like these, fed by texts, this board is where it will be seen.",
    "Trading",
    (_COMING_IN, _WORTH),
)
