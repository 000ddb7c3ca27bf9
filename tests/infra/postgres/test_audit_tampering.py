"""Whoever has the database and not the key changes the audit: each of six kinds is found, with its row."""

import psycopg
import pytest
from audit_stories import (
    KEYS,
    STRANGERS_KEYS,
    Rows,
    a_chain,
    a_forged_row,
    deleted,
    edited,
    inserted,
    put_guards_aside,
    rechained,
    replace_stream,
    swapped,
    verified,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.postgres.audit_anchors import Anchor
from infra.postgres.audit_diagnosis import Tampering
from infra.postgres.audit_record import ORDERS, Head, sealed_head
from infra.postgres.migrate import migrate

pytestmark = pytest.mark.embedded
COUNT = 12
ROWS, HEAD = a_chain(COUNT)
NOBODYS = sealed_head(STRANGERS_KEYS, ORDERS, COUNT, ROWS[-1].mac)
Case = tuple[Rows, Head | None, Tampering, int]


@pytest.fixture(scope="module")
def unguarded(postgres_server: object) -> str:
    """The DSN of a database whose audit anybody may change: the tests of this module rewrite the stream."""
    server = postgres_server
    with psycopg.connect(server.dsn, autocommit=True) as connection:  # type: ignore[attr-defined]
        connection.execute("CREATE DATABASE audit_unguarded")
    dsn: str = server.dsn_of("audit_unguarded")  # type: ignore[attr-defined]
    migrate(dsn)
    put_guards_aside(dsn)
    return dsn


def found(dsn: str, rows: Rows, head: Head | None, anchors: list[Anchor] | None = None) -> tuple[Tampering, int] | None:
    replace_stream(dsn, rows, head)
    finding = verified(dsn, anchors=anchors or []).finding
    return None if finding is None else (finding.kind, finding.ordinal)


def test_a_sound_chain_is_sound(unguarded: str) -> None:
    assert found(unguarded, ROWS, HEAD, [Anchor(HEAD, 1)]) is None
    assert found(unguarded, [], None) is None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One tampering of each kind, anywhere, and what must be found of it."""
    place = draw(st.integers(1, COUNT))
    kind = draw(st.sampled_from(list(Tampering)))
    if kind is Tampering.EDITED:
        column = draw(st.sampled_from(["content", "event_id", "kind", "created_at_ns", "mac", "previous"]))
        inner = draw(st.integers(1, COUNT - 1)) if column == "mac" else place
        return edited(ROWS, inner, column), HEAD, kind, inner
    if kind is Tampering.DELETED:
        inner = draw(st.integers(1, COUNT - 1))
        return deleted(ROWS, inner, renumbered=draw(st.booleans())), HEAD, kind, inner
    if kind is Tampering.INSERTED:
        at = draw(st.integers(1, COUNT + 1))
        if draw(st.booleans()):
            return inserted(ROWS, at, a_forged_row(ROWS, at)), HEAD, kind, at
        copied = draw(st.integers(1, COUNT))
        # A copy put before its original takes its place: it is the original that is one too many then.
        return inserted(ROWS, at, ROWS[copied - 1]), HEAD, kind, at + 1 if copied == at else at
    if kind is Tampering.SWAPPED:
        other = draw(st.integers(1, COUNT).filter(lambda number: number != place))
        return swapped(ROWS, place, other, whole=draw(st.booleans())), HEAD, kind, min(place, other)
    if kind is Tampering.TRUNCATED:
        lowered = Head(ORDERS, place - 1, ROWS[place - 2].mac if place > 1 else bytes(32), "one", HEAD.seal)
        heads = [HEAD, lowered] if place == 1 else [HEAD, lowered, None]
        return ROWS[: place - 1], draw(st.sampled_from(heads)), kind, place
    rows, head = rechained(ROWS, place, STRANGERS_KEYS)
    return rows, draw(st.sampled_from([HEAD, head, None])), kind, place


@given(case=cases())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_six_kinds_of_tampering_are_each_found_with_their_row(unguarded: str, case: Case) -> None:
    rows, head, kind, ordinal = case
    assert found(unguarded, rows, head) == (kind, ordinal)


def test_what_was_cut_off_together_with_its_head_is_found_by_an_anchor(unguarded: str) -> None:
    earlier = sealed_head(KEYS, ORDERS, 7, ROWS[6].mac)
    assert found(unguarded, ROWS[:7], earlier) is None, "a head that was kept from then fits"
    assert found(unguarded, ROWS[:7], earlier, [Anchor(HEAD, 1)]) == (Tampering.TRUNCATED, 8)
    assert found(unguarded, [], None, [Anchor(HEAD, 1)]) == (Tampering.TRUNCATED, 1)


def test_what_was_written_anew_with_the_key_is_found_by_an_anchor(unguarded: str) -> None:
    rows, head = rechained(ROWS, 4, KEYS)
    assert found(unguarded, rows, head) is None, "whoever has the key can write another chain"
    assert found(unguarded, rows, head, [Anchor(HEAD, 1)]) == (Tampering.RECHAINED, COUNT)
    anchor = Anchor(sealed_head(KEYS, ORDERS, 5, ROWS[4].mac), 1)
    assert found(unguarded, rows, head, [anchor, Anchor(HEAD, 2)]) == (Tampering.RECHAINED, 5)


def test_a_head_with_a_strangers_seal_is_found(unguarded: str) -> None:
    assert found(unguarded, ROWS, NOBODYS) == (Tampering.TRUNCATED, COUNT + 1)


def test_two_edited_rows_side_by_side_are_edited_and_not_chained_anew(unguarded: str) -> None:
    assert found(unguarded, edited(edited(ROWS, 5, "content"), 6, "content"), HEAD) == (Tampering.EDITED, 5)
    assert found(unguarded, edited(edited(ROWS, 11, "content"), 12, "kind"), HEAD) == (Tampering.EDITED, 11)


def test_from_a_row_on_the_rest_is_verified_and_the_row_before_must_be_the_one_that_was_anchored(
    unguarded: str,
) -> None:
    changed = edited(ROWS, 3, "content")
    replace_stream(unguarded, changed, HEAD)
    anchor = Anchor(sealed_head(KEYS, ORDERS, 7, ROWS[6].mac), 1)
    assert verified(unguarded, anchors=[anchor], first=8).finding is None
    assert verified(unguarded, anchors=[anchor], first=8).rows == COUNT - 7
    other = Anchor(sealed_head(KEYS, ORDERS, 7, ROWS[5].mac), 1)
    finding = verified(unguarded, anchors=[other], first=8).finding
    assert finding is not None and (finding.kind, finding.ordinal) == (Tampering.RECHAINED, 7)
    replace_stream(unguarded, edited(ROWS, 9, "kind"), HEAD)
    finding = verified(unguarded, first=8).finding
    assert finding is not None and (finding.kind, finding.ordinal) == (Tampering.EDITED, 9)
