"""A book is right or absent: sync rules of spot and futures, gaps, crossings, snapshots that do not fit."""

import pytest
from market_inputs import KEY, UNIT, beat, book, definition, diff, ingest, ns, quote
from msgspec.structs import replace

from agents.market.stage import Ingestion, IngestionConfig
from agents.stage import ShardState
from schemas.event import Event
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind

BIDS, ASKS = {100: 5, 99: 5}, {101: 5, 102: 5}


def _kinds(outputs: list[Event]) -> list[str]:
    """The story in short: type names, and the kinds of Quality events."""
    return [event.kind.value if isinstance(event, Quality) else type(event).__name__ for event in outputs]


def _refusals(outputs: list[Event]) -> dict[str, int]:
    found: dict[str, int] = {}
    for event in outputs:
        if isinstance(event, Quality) and event.kind is QualityKind.REFUSED:
            found[event.detail] = found.get(event.detail, 0) + event.count
    return found


def test_depth_before_a_snapshot_is_kept_and_asked_for_but_not_trusted() -> None:
    outputs = ingest([diff(1, (1, 2)), diff(2, (3, 4))])
    assert _kinds(outputs) == ["InstrumentDefined", "UNSYNCHRONISED", "SNAPSHOT_REQUESTED"]


@pytest.mark.parametrize(
    ("diffs", "snapshot_id", "trusted"),
    [
        ([(8, 9), (10, 12), (13, 15)], 11, [(10, 12), (13, 15)]),
        ([(8, 9), (10, 12), (13, 15)], 12, [(13, 15)]),
        ([(8, 9), (10, 12), (13, 15)], 9, [(10, 12), (13, 15)]),
        ([(8, 9), (10, 12), (13, 15)], 15, []),
        ([(8, 9), (10, 12), (13, 15)], 20, []),
    ],
)
def test_spot_diffs_join_where_they_span_the_snapshot(
    diffs: list[tuple[int, int]], snapshot_id: int, trusted: list[tuple[int, int]]
) -> None:
    outputs = ingest([*(diff(1, ids) for ids in diffs), book(2, snapshot_id, BIDS, ASKS), beat(3, "closing")])
    assert _kinds(outputs)[3:5] == ["BookSnapshot", "SYNCHRONISED"]
    forwarded = [event for event in outputs if isinstance(event, DepthUpdate)]
    assert [(event.first_update_id, event.last_update_id) for event in forwarded] == trusted
    assert {event.available_at_ns for event in forwarded} <= {book(2, 0, {}, {}).available_at_ns}
    covered = len(diffs) - len(trusted)
    assert _refusals(outputs) == ({"diff covered by the snapshot": covered} if covered else {})


def test_a_spot_snapshot_that_is_older_than_what_waits_is_refused_and_another_asked_for() -> None:
    outputs = ingest([diff(1, (10, 12)), book(7, 8, BIDS, ASKS), book(8, 11, BIDS, ASKS), beat(8, "closing")])
    assert _kinds(outputs)[3:] == [
        *("SNAPSHOT_REQUESTED", "REFUSED"),
        *("BookSnapshot", "SYNCHRONISED", "DepthUpdate", "Heartbeat"),
    ]
    assert _refusals(outputs) == {"snapshot does not reach the diffs that wait": 1}


@pytest.mark.parametrize(
    ("snapshot_id", "trusted"), [(937, 2), (950, 2), (1_000, 2), (1_001, 1), (1_042, 1), (1_100, 0)]
)
def test_futures_diffs_join_by_previous_id_even_where_a_snapshot_falls_between_two(
    snapshot_id: int, trusted: int
) -> None:
    ids = [(899, 900, 937), (937, 1_000, 1_001), (1_001, 1_050, 1_100)]
    diffs = [diff(1, (first, last), previous=previous) for previous, first, last in ids]
    outputs = ingest([*diffs, book(2, snapshot_id, BIDS, ASKS)])
    assert "SYNCHRONISED" in _kinds(outputs)
    assert _kinds(outputs).count("DepthUpdate") == trusted


def test_a_futures_snapshot_from_before_the_first_diff_does_not_fit() -> None:
    outputs = ingest([diff(1, (1_000, 1_001), previous=937), book(2, 936, BIDS, ASKS)])
    assert "BookSnapshot" not in _kinds(outputs)


@pytest.mark.parametrize(
    ("following", "gap"),
    [
        (diff(3, (12, 13)), False),
        (diff(3, (13, 14)), True),
        (diff(3, (11, 13)), True),
        (diff(3, (99, 101), previous=11), False),
        (diff(3, (99, 101), previous=12), True),
    ],
)
def test_a_diff_that_does_not_follow_is_a_gap(following: DepthUpdate, gap: bool) -> None:
    first = diff(2, (11, 11), previous=following.previous_update_id and 10)
    outputs = ingest([book(1, 10, BIDS, ASKS), first, following, diff(4, (500, 501))])
    expected = ["GAP", "UNSYNCHRONISED", "SNAPSHOT_REQUESTED"] if gap else ["DepthUpdate", "GAP"]
    assert _kinds(outputs)[4 : 4 + len(expected)] == expected


def test_after_a_gap_nothing_is_trusted_until_a_fresh_snapshot_fits_and_the_diff_that_showed_it_is_not_lost() -> None:
    outputs = ingest(
        [
            *(book(1, 10, BIDS, ASKS), diff(2, (11, 11), {100: 7})),
            *(diff(3, (15, 16), {100: 8}), diff(4, (17, 17), {99: 0})),
            book(5, 14, BIDS, ASKS),
        ]
    )
    assert _kinds(outputs) == [
        *("InstrumentDefined", "BookSnapshot", "SYNCHRONISED", "DepthUpdate"),
        *("GAP", "UNSYNCHRONISED", "SNAPSHOT_REQUESTED"),
        *("BookSnapshot", "SYNCHRONISED", "DepthUpdate", "DepthUpdate"),
    ]


def test_a_hole_among_the_diffs_that_wait_keeps_the_book_untrusted() -> None:
    state = ShardState()
    outputs = ingest([diff(1, (10, 12)), diff(1, (13, 14)), diff(1, (20, 21)), book(2, 11, BIDS, ASKS)], state=state)
    assert "BookSnapshot" not in _kinds(outputs)
    assert not state[KEY].depth.synchronised
    assert state[KEY].depth.book.bids == {}
    later = ingest([book(3, 20, BIDS, ASKS), beat(4, "closing")], state=state)
    assert _kinds(later)[:3] == ["BookSnapshot", "SYNCHRONISED", "DepthUpdate"]
    assert _refusals(outputs + later) == {
        "snapshot does not reach the diffs that wait": 1,
        "diff followed by a gap": 2,
    }


def test_what_waits_is_bounded_and_what_had_to_go_is_counted() -> None:
    state = ShardState()
    stage = Ingestion(IngestionConfig(instruments={KEY: definition()}, pending_max=10))
    outputs = ingest([diff(k / 10, (k, k)) for k in range(200)], stage, state)
    assert len(state[KEY].depth.pending) == 10
    outputs += ingest([beat(30, "closing")], stage, state)
    assert _refusals(outputs) == {
        "diff waited too long for a snapshot": 190,
        "the feed ended before a snapshot fitted": 10,
    }


def test_a_snapshot_is_asked_for_again_after_waits_that_double_also_in_silence() -> None:
    outputs = ingest([diff(0, (1, 1)), *(beat(k / 10) for k in range(1, 2_000))])
    asked = [event.available_at_ns for event in outputs if _kinds([event]) == ["SNAPSHOT_REQUESTED"]]
    assert [(at - asked[0]) / 1e9 for at in asked] == [0, 5, 15, 35, 75, 135, 195]


def test_repeated_depth_is_ignored_and_counted() -> None:
    story = [book(1, 10, BIDS, ASKS), diff(2, (11, 12), {100: 9}), diff(2, (11, 12), {100: 1}), diff(3, (13, 13))]
    state = ShardState()
    outputs = ingest([*story, book(4, 12, BIDS, ASKS), beat(5, "closing")], state=state)
    assert _kinds(outputs).count("DepthUpdate") == 2
    assert state[KEY].depth.book.bids[100 * UNIT] == 9 * UNIT
    assert _refusals(outputs) == {"diff already in the book": 1, "snapshot older than the book": 1}


def test_the_venues_snapshot_at_our_own_id_must_agree() -> None:
    agreeing = ingest([book(1, 10, BIDS, ASKS), book(2, 10, BIDS, ASKS)])
    assert _kinds(agreeing) == ["InstrumentDefined", "BookSnapshot", "SYNCHRONISED", "BookSnapshot"]
    state = ShardState()
    contradicting = ingest([book(1, 10, BIDS, ASKS), book(2, 10, {100: 6, 99: 5}, ASKS)], state=state)
    assert _kinds(contradicting)[3:] == ["GAP", "UNSYNCHRONISED", "BookSnapshot", "SYNCHRONISED"]
    assert state[KEY].depth.book.bids[100 * UNIT] == 6 * UNIT


def test_a_crossing_is_reported_and_its_end() -> None:
    outputs = ingest([book(1, 10, BIDS, ASKS), diff(2, (11, 11), {101: 1}), diff(2.1, (12, 12), {101: 0}), beat(3)])
    assert _kinds(outputs)[3:] == ["DepthUpdate", "CROSSED", "DepthUpdate", "UNCROSSED", "Heartbeat"]


def test_a_book_that_flaps_is_reported_at_a_bounded_rate() -> None:
    flaps = [diff(2 + k / 100, (11 + k, 11 + k), {101: 1 - k % 2}) for k in range(400)]
    outputs = _kinds(ingest([book(1, 10, BIDS, ASKS), *flaps]))
    assert outputs.count("DepthUpdate") == 400
    assert outputs.count("CROSSED") == outputs.count("UNCROSSED") == 1


def test_a_book_that_stays_crossed_is_lost() -> None:
    state = ShardState()
    outputs = ingest([book(1, 10, BIDS, ASKS), diff(2, (11, 11), {101: 1}), beat(2.5), beat(3)], state=state)
    assert _kinds(outputs)[-4:] == ["Heartbeat", "GAP", "UNSYNCHRONISED", "SNAPSHOT_REQUESTED"]
    assert state[KEY].depth.book.bids == {}


def test_the_book_is_repeated_every_minute_for_whoever_starts_later() -> None:
    outputs = ingest([book(1, 10, BIDS, ASKS), diff(2, (11, 11), {100: 9}), *(beat(k) for k in range(3, 130))])
    repeated = [event for event in outputs if isinstance(event, BookSnapshot)][1:]
    assert len(repeated) == 2
    assert {event.update_id for event in repeated} == {11}
    assert repeated[0].bid_quantities == (9 * UNIT, 5 * UNIT)


def test_a_new_connection_starts_without_a_book() -> None:
    resync = Quality(key=KEY, event_time_ns=1, available_at_ns=quote(3).available_at_ns, kind=QualityKind.RESYNC)
    outputs = ingest([book(1, 10, BIDS, ASKS), diff(2, (11, 11)), resync, diff(3, (3, 3)), book(4, 3, BIDS, ASKS)])
    assert _kinds(outputs)[4:] == [
        *("RESYNC", "UNSYNCHRONISED", "SNAPSHOT_REQUESTED", "BookSnapshot", "SYNCHRONISED"),
        "REFUSED",
    ]


def test_diffs_that_waited_on_a_connection_that_ended_are_counted() -> None:
    resync = Quality(key=KEY, event_time_ns=1, available_at_ns=ns(3), kind=QualityKind.RESYNC)
    outputs = ingest([diff(1, (5, 6)), diff(2, (7, 8)), resync, book(4, 2, BIDS, ASKS), diff(5, (3, 3)), beat(9)])
    assert _refusals(outputs) == {"diff of a connection that ended": 2}
    assert _kinds(outputs).count("DepthUpdate") == 1


@pytest.mark.parametrize(
    "snapshot",
    [
        book(1, 10, {100: 1}, {100: 1}),
        book(1, 10, {100: 0}, {101: 1}),
        book(1, 10, {-1: 1}, {101: 1}),
        BookSnapshot(
            key=KEY,
            event_time_ns=ns(1),
            available_at_ns=ns(1),
            update_id=1,
            bid_prices=(1, 2),
            bid_quantities=(1, 1),
            ask_prices=(),
            ask_quantities=(),
        ),
        replace(book(1, 10, {100: 1}, {101: 1}), bid_quantities=()),
    ],
    ids=["crossed", "empty level", "negative price", "worst first", "unequal sides"],
)
def test_a_snapshot_that_cannot_be_is_refused(snapshot: BookSnapshot) -> None:
    assert _kinds(ingest([snapshot])) == ["InstrumentDefined", "REFUSED"]
