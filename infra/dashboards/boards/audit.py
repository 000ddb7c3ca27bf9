"""Board 11: who did what, what was refused, and whether the record of it is whole."""

from infra.dashboards.board import Board, Row
from infra.dashboards.panels import Lines, Panel, Stat, Table
from infra.dashboards.promql import rate
from infra.dashboards.queries import Prom, Sql
from infra.dashboards.units import YES_IS_BAD, Column, Unit, at

_TIME = Column("time", Unit.DATE)

_CHAIN = Row(
    "The audit",
    (
        Panel(
            "Is the chain broken",
            "Whether the sinks found the audit's chain broken when they last looked. `tradermind audit verify` says"
            " where.",
            Unit.PLAIN,
            (Prom("max(tradermind_audit_broken)", "broken"),),
            Stat(),
            width=6,
            limits=at(1, "AuditChainBroken"),
            names=YES_IS_BAD,
        ),
        Panel(
            "Rows added",
            "Rows added to the chain in a second.",
            Unit.PER_SECOND,
            (rate("tradermind_audit_rows_total", legend="rows"),),
            Lines(),
            width=9,
        ),
        Panel(
            "Streams",
            "The newest row of each stream of the audit, and when it was added.",
            Unit.TEXT,
            (Sql("SELECT stream, ordinal AS rows, updated_at AS newest FROM audit_heads ORDER BY 1"),),
            Table(),
            width=9,
            columns=(Column("rows", Unit.COUNT), Column("newest", Unit.DATE)),
        ),
        Panel(
            "Rows by what they tell",
            "Rows of the audit in these hours, by stream and kind.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT stream, kind, count(*) AS rows, max(created_at) AS newest FROM audit_rows
                    WHERE $__unixEpochNanoFilter(created_at_ns) GROUP BY 1, 2 ORDER BY 3 DESC"""
                ),
            ),
            Table(sort="rows"),
            width=12,
            columns=(Column("rows", Unit.COUNT), Column("newest", Unit.DATE)),
        ),
        Panel(
            "Who did what",
            "Commands, proposals, approvals and decisions about dead letters in these hours, by person.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT author, what, count(*) AS times, max(at) AS newest FROM (
                        SELECT author, 'command ' || action AS what, created_at AS at FROM commands
                        UNION ALL SELECT author, 'proposal', created_at FROM change_proposals
                        UNION ALL SELECT author, 'approval', created_at FROM change_approvals
                        UNION ALL SELECT author, 'dead letter ' || action, created_at FROM dead_letter_actions) p
                    WHERE $__timeFilter(at) GROUP BY 1, 2 ORDER BY 3 DESC"""
                ),
            ),
            Table(sort="times"),
            width=12,
            columns=(Column("times", Unit.COUNT), Column("newest", Unit.DATE)),
        ),
    ),
)
_PEOPLE = Row(
    "People",
    (
        Panel(
            "Commands",
            "What people ordered, and why; the newest first.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT created_at AS time, author, action, scope, target, level, reason FROM commands
                    WHERE $__timeFilter(created_at) ORDER BY ordinal DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(_TIME,),
        ),
        Panel(
            "Signatures",
            "Every attempt to approve a change, the refused ones with why.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT a.created_at AS time, a.author AS signer, p.author AS proposer,
                        left(a.change_id, 12) AS change, a.refusal, p.reason
                    FROM change_approvals a LEFT JOIN change_proposals p USING (change_id)
                    WHERE $__timeFilter(a.created_at) ORDER BY a.ordinal DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(_TIME,),
        ),
        Panel(
            "What was made of them",
            "Outcomes of changes: applied, refused and why, lapsed.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT time, outcome, refusal, action, scope, target, author,
                        array_to_string(approved_by, ', ') AS signed_by, detail
                    FROM control_outcomes WHERE $__timeFilter(time) ORDER BY available_at_ns DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(_TIME,),
        ),
        Panel(
            "Artefacts refused",
            "Models that a worker was to load and did not, since the workers began: each is a fault or an attack. Whom"
            " else they were refused, and why, the board of the decider shows.",
            Unit.COUNT,
            (Prom("sum(tradermind_models_refused_total)", "artefacts"),),
            Stat(),
            width=12,
            limits=at(1, "ModelRefused"),
        ),
    ),
)
_LETTERS = Row(
    "Dead letters",
    (
        Panel(
            "By reason and state",
            "Dead letters by topic, reason, and what was done about them. OPEN ones wait for a person.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT topic, reason, status, count(*) AS letters, max(time) AS newest FROM dead_letter_states
                    WHERE $__unixEpochNanoFilter(recorded_at_ns) GROUP BY 1, 2, 3 ORDER BY 4 DESC"""
                ),
            ),
            Table(sort="letters"),
            width=12,
            columns=(Column("letters", Unit.COUNT), Column("newest", Unit.DATE)),
        ),
        Panel(
            "Newest letters",
            "The newest dead letters: where from, and why. Their content is not shown: `tradermind dlq show`.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT time, topic, "partition", "offset", stage, reason, detail FROM dead_letters
                    WHERE $__unixEpochNanoFilter(recorded_at_ns) ORDER BY recorded_at_ns DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(_TIME,),
        ),
        Panel(
            "What was done about them",
            "Replays, discards and take-overs of dead letters, by whom and why.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT created_at AS time, author, action, why, topic FROM dead_letter_actions
                    WHERE $__timeFilter(created_at) ORDER BY ordinal DESC LIMIT 50"""
                ),
            ),
            Table(),
            width=12,
            columns=(_TIME,),
        ),
        Panel(
            "Code that has run",
            "Which code and settings have held each stage, and since when: nothing runs that is not here.",
            Unit.TEXT,
            (
                Sql(
                    """SELECT stage, code_version, settings_hash, min(since) AS first, max(since) AS newest
                    FROM shard_version GROUP BY 1, 2, 3 ORDER BY 4 DESC"""
                ),
            ),
            Table(),
            width=12,
            columns=(Column("first", Unit.DATE), Column("newest", Unit.DATE)),
        ),
    ),
)

BOARD = Board(
    "audit",
    "11 Audit and security",
    "Who did what and what became of it; what was refused; whether the signed record of it is whole.",
    "Platform",
    (_CHAIN, _PEOPLE, _LETTERS),
)
