"""Releases of models, and what two models wanted at the same tallies, straight from the record."""

from typing import Any, Final, NamedTuple

from infra.postgres.queries import Connection, Row

_RELEASES: Final = (
    "SELECT ordinal, available_at_ns, time, model, sha256, release_stage, reason, author FROM model_releases"
    " ORDER BY ordinal"
)
_PAIRS: Final = """
    SELECT c.strategy || '/' || c.instrument AS line, c.available_at_ns AS at_ns, c.mid, c.tally_id,
        (c.observation ->> 'spread_relative')::double precision AS spread,
        (c.observation ->> 'cost.excess')::double precision AS excess,
        (c.observation ->> 'cost.fee')::double precision AS fee,
        i.target AS incumbent, c.target AS challenger
    FROM decisions c JOIN LATERAL (
        SELECT target FROM decisions d WHERE d.tally_id = c.tally_id AND d.instrument = c.instrument
            AND d.strategy = ANY(%(incumbents)s) AND d.policy_stage = 'CHAMPION' AND d.outcome <> 'ADVICE'
        ORDER BY d.strategy <> c.strategy, d.strategy LIMIT 1
    ) i ON true
    WHERE c.policy = %(model)s AND c.policy_stage = %(stage)s AND c.outcome <> 'ADVICE'
        AND c.available_at_ns >= %(since_ns)s
    ORDER BY c.available_at_ns, c.tally_id, c.strategy
"""
_HEARD: Final = "SELECT refusal FROM command_events WHERE command_id = %s"


class PairsAsked(NamedTuple):
    """Whose decisions: a model in a stage since a time (ns), beside those of the champion in these strategies."""

    model: str
    stage: str
    since_ns: int
    incumbents: tuple[str, ...]


def releases(connection: Connection) -> list[Row]:
    """Return every release, in the order of the topic."""
    return connection.execute(_RELEASES).fetchall()


def pairs(connection: Connection, asked: PairsAsked) -> list[Row]:
    """Return each decision of the model with the champion's at the same tally: line, time, mid, costs, both targets."""
    values: dict[str, Any] = asked._asdict() | {"incumbents": list(asked.incumbents)}
    return connection.execute(_PAIRS, values).fetchall()


def was_heard(connection: Connection, command_id: str) -> bool:
    """Return whether the platform has passed a command on, as refused or not."""
    return connection.execute(_HEARD, (command_id,)).fetchone() is not None
