"""Dead letters in Postgres: which there are, what people did about them, and the orders that workers read.

Every change is one row of ``dead_letter_actions``, which the database itself refuses to change. How a letter stands
is told by the newest of its rows.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from infra.postgres.queries import Connection, Row
from schemas.dead_letters import HeldRecord, LetterAction, LetterOrder

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('dead_letter_actions'))"
_INSERT: Final = """
    INSERT INTO dead_letter_actions (action, author, why, stage, topic, "partition", first_offset, last_offset, key,
        dlq_topic, dlq_partition, dlq_offset, detail)
    VALUES (%(action)s, %(author)s, %(why)s, %(stage)s, %(topic)s, %(partition)s, %(first)s, %(last)s, %(key)s,
        %(dlq_topic)s, %(dlq_partition)s, %(dlq_offset)s, %(detail)s)
    RETURNING ordinal
"""
_FIND: Final = """
    SELECT time, status, topic, "partition", "offset", reason, detail, stage, octet_length(value) AS value_bytes,
        key, value, raw_headers, held_since, held_number, recorded_at_ns, dlq_topic, dlq_partition, dlq_offset
    FROM dead_letter_states
    WHERE (%(topic)s::text IS NULL OR topic = %(topic)s) AND (%(reason)s::text IS NULL OR reason = %(reason)s)
        AND (%(stage)s::text IS NULL OR stage = %(stage)s) AND (%(status)s::text IS NULL OR status = %(status)s)
        AND (%(key)s::text IS NULL OR key = convert_to(%(key)s, 'UTF8'))
        AND (%(since_ns)s::bigint IS NULL OR recorded_at_ns >= %(since_ns)s)
        AND (%(until_ns)s::bigint IS NULL OR recorded_at_ns < %(until_ns)s)
        AND (%(partition)s::int IS NULL OR "partition" = %(partition)s)
        AND (%(offset)s::bigint IS NULL OR "offset" = %(offset)s)
        AND (%(dlq_topic)s::text IS NULL OR
            (dlq_topic, dlq_partition, dlq_offset) = (%(dlq_topic)s, %(dlq_partition)s, %(dlq_offset)s))
"""
_NEWEST: Final = " ORDER BY recorded_at_ns DESC, dlq_topic, dlq_partition, dlq_offset DESC LIMIT %(limit)s"
_OLDEST: Final = " ORDER BY recorded_at_ns, dlq_topic, dlq_partition, dlq_offset LIMIT %(limit)s"
_ACTIONS: Final = """
    SELECT ordinal, created_at AS time, author, action, why, stage, topic, "partition", first_offset, last_offset, key,
        dlq_topic, dlq_partition, dlq_offset, detail
    FROM dead_letter_actions
    WHERE %(dlq_topic)s::text IS NULL OR
        (dlq_topic, dlq_partition, dlq_offset) = (%(dlq_topic)s, %(dlq_partition)s, %(dlq_offset)s)
    ORDER BY ordinal DESC LIMIT %(limit)s
"""
_ORDERS: Final = """
    SELECT ordinal, action, topic, coalesce("partition", 0), coalesce(first_offset, 0), coalesce(last_offset, 0), key
    FROM dead_letter_actions WHERE stage = %s AND ordinal > %s AND action = ANY(%s) ORDER BY ordinal LIMIT 1000
"""
_RELEASED: Final = """
    SELECT DISTINCT ON (detail ->> 'since') detail ->> 'since', key, (detail ->> 'stepped')::bigint,
        (detail ->> 'ended')::boolean
    FROM dead_letter_actions WHERE action = 'RELEASED' AND stage = %s ORDER BY detail ->> 'since', ordinal DESC
"""
_INSERT_ONCE: Final = """
    INSERT INTO dead_letter_actions (action, author, why, stage, topic, "partition", first_offset, last_offset, key,
        detail)
    SELECT %(action)s, %(author)s, %(why)s, %(stage)s, %(topic)s, %(partition)s, %(first)s, %(last)s, %(key)s,
        %(detail)s
    WHERE NOT EXISTS (
        SELECT FROM dead_letter_actions
        WHERE (action, stage, topic, key, detail) = (%(action)s, %(stage)s, %(topic)s, %(key)s, %(detail)s)
            AND ("partition", first_offset) IS NOT DISTINCT FROM (%(partition)s::int, %(first)s::bigint))
"""
_HELD: Final = """
    SELECT DISTINCT ON (held_number) held_number, topic, "partition", "offset", key, value, raw_headers, headers
    FROM dead_letters WHERE stage = %s AND held_since = %s AND held_number > %s ORDER BY held_number LIMIT %s
"""
_TIMESTAMP: Final = "__tradermind.errors.timestamp"
_headers_decoder: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]])


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are asked for; what is None is not asked about. Times are ns, ``until_ns`` excluded.

    ``partition`` and ``offset`` are the refused record's own; the letter's own place is in ``dlq_*``.
    """

    topic: str | None = None
    reason: str | None = None
    stage: str | None = None
    key: str | None = None
    status: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    partition: int | None = None
    offset: int | None = None
    dlq_topic: str | None = None
    dlq_partition: int | None = None
    dlq_offset: int | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that a person does, as the audit keeps it. ``first`` and ``last`` are offsets, both included."""

    action: LetterAction
    author: str
    why: str
    stage: str = ""
    topic: str = ""
    partition: int | None = None
    first: int | None = None
    last: int | None = None
    key: str = ""
    letter: tuple[str, int, int] | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def flaw(self) -> str:
        """Return why this is no action, in one sentence, or nothing."""
        if not self.author.strip() or not self.why.strip():
            return "What is done about a dead letter needs an author and a reason."
        if self.action is LetterAction.TAKE and (self.first or 0) > (self.last or 0):
            return "The last offset to take lies before the first."
        return ""


def find_letters(connection: Connection, wanted: LetterFilter, *, oldest_first: bool = False) -> list[Row]:
    """Return letters with their bytes, newest first; ``raw_headers`` is as stored."""
    return connection.execute(_FIND + (_OLDEST if oldest_first else _NEWEST), asdict(wanted)).fetchall()


def raw_headers(stored: bytes) -> list[tuple[str, bytes | None]]:
    """Return the headers of a letter as they were, from what ``raw_headers`` holds."""
    return _headers_decoder.decode(stored)


def find_actions(connection: Connection, letter: tuple[str, int, int] | None = None, limit: int = 100) -> list[Row]:
    """Return what people did, newest first: about one letter, or about all."""
    dlq_topic, dlq_partition, dlq_offset = letter or (None, None, None)
    place = {"dlq_topic": dlq_topic, "dlq_partition": dlq_partition, "dlq_offset": dlq_offset, "limit": limit}
    return connection.execute(_ACTIONS, place).fetchall()


def record_action(connection: psycopg.Connection[Any], action: Action) -> int:
    """Write one row of the audit in a transaction of its own; return its ordinal.

    Raises ValueError for what is no action, and psycopg.Error.
    """
    if flaw := action.flaw():
        raise ValueError(flaw)
    values = asdict(action) | {"detail": Jsonb(action.detail)}
    values["dlq_topic"], values["dlq_partition"], values["dlq_offset"] = action.letter or (None, None, None)
    with connection.transaction():
        # Numbers are given out before the commit; the lock makes their order the order of the commits, so that a
        # worker that has carried out a number will never meet a smaller one.
        connection.execute(_LOCK)
        row = connection.cursor(row_factory=dict_row).execute(_INSERT, values).fetchone()
    assert row is not None
    return int(row["ordinal"])


def is_passed(connection: psycopg.Connection[Any], order: Action) -> bool:
    """Tell whether the last record of a TAKE was passed over by whoever has no checkpoint to tell it."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM dead_letter_actions WHERE action = 'PASSED'"
        ' AND (stage, topic, "partition", first_offset) = (%s, %s, %s, %s))',
        (order.stage, order.topic, order.partition, order.last),
    ).fetchone()
    assert row is not None
    return bool(row[0])


async def read_orders(
    connection: psycopg.AsyncConnection[Any], stage: str, after: int, actions: Sequence[LetterAction]
) -> tuple[LetterOrder, ...]:
    """Return a stage's orders of these kinds above ``after``, in the order of their commits, at most 1000."""
    found = await connection.execute(_ORDERS, (stage, after, list(actions)))
    return tuple(
        LetterOrder(ordinal, LetterAction(action), topic, partition, first, last, key)
        for ordinal, action, topic, partition, first, last, key in await found.fetchall()
    )


async def newest_action(connection: psycopg.AsyncConnection[Any]) -> int:
    """Return the ordinal of the newest thing that was done about any letter, 0 when nothing was."""
    row = await (await connection.execute("SELECT coalesce(max(ordinal), 0) FROM dead_letter_actions")).fetchone()
    assert row is not None
    return int(row[0])


async def read_released(connection: psycopg.AsyncConnection[Any], stage: str) -> dict[str, tuple[str, int, bool]]:
    """Return quarantine -> (key, how many of what it held were stepped, whether it is over), as the audit has it."""
    found = await connection.execute(_RELEASED, (stage,))
    return {str(since): (str(key), int(stepped), bool(ended)) for since, key, stepped, ended in await found.fetchall()}


async def note_outcome(connection: psycopg.AsyncConnection[Any], action: Action) -> None:
    """Write down what became of an order, unless the audit has the very same already. Raises psycopg.Error."""
    values = asdict(action) | {"detail": Jsonb(action.detail), "dlq_topic": None, "dlq_partition": None}
    async with connection.transaction():
        await connection.execute(_LOCK)
        await connection.execute(_INSERT_ONCE, values)


async def read_held(
    connection: psycopg.AsyncConnection[Any], stage: str, since: str, after: int, limit: int
) -> tuple[HeldRecord, ...]:
    """Return what a quarantine has held after its ``after``-th record, in order and without a gap.

    What a sink has not written yet ends it, and comes with a later call.
    """
    found = await connection.execute(_HELD, (stage, since, after, limit))
    records: list[HeldRecord] = []
    for number, topic, partition, offset, key, value, stored, headers in await found.fetchall():
        if number != after + len(records) + 1 or stored is None:
            break
        own = tuple((name, content or b"") for name, content in raw_headers(bytes(stored)))
        records.append(
            HeldRecord(topic, partition, offset, _bytes(key), _bytes(value), own, int(headers.get(_TIMESTAMP, 0)))
        )
    return tuple(records)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
