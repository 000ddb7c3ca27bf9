"""The book against the exchange's own best bid and ask, in recorded captures: the oracle that cannot be argued with."""

from collections import Counter
from pathlib import Path

import pytest
from captures import SPOT_20240808, SPOT_20240809, USDM_20240808
from market_inputs import definition, ingest, raw_events, trusted_events

from agents.market.book import Book
from agents.market.stage import Ingestion, IngestionConfig
from schemas.event import Event, Heartbeat
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote, Trade

Top = tuple[int, int, int, int]


def _top(book: Book) -> Top:
    bid, ask = book.best_bid, book.best_ask
    assert bid is not None
    assert ask is not None
    return bid, book.bids[bid], ask, book.asks[ask]


def _quotes(events: tuple[Event, ...]) -> dict[int, Top]:
    return {
        event.update_id: (event.bid_price, event.bid_quantity, event.ask_price, event.ask_quantity)
        for event in events
        if isinstance(event, Quote)
    }


def _refused(events: tuple[Event, ...]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Quality) and event.kind is QualityKind.REFUSED:
            found[event.detail] += event.count
    return dict(found)


@pytest.mark.parametrize(
    ("capture", "comparable", "covered"), [(USDM_20240808, 629, 4), (SPOT_20240808, 564, 2)], ids=["USD-M", "spot"]
)
def test_the_rebuilt_top_is_the_exchanges_at_every_equal_update_id(
    capture: Path, comparable: int, covered: int
) -> None:
    trusted = trusted_events(capture)
    book, tops, crossed = Book(), {}, 0
    for event in trusted:
        if isinstance(event, BookSnapshot) and event.update_id != book.update_id:
            book.replace_all(event)
        elif isinstance(event, DepthUpdate):
            book.apply(event)
        else:
            continue
        tops[book.update_id] = _top(book)
        crossed += book.crossed
    quotes = _quotes(trusted)
    equal_ids = tops.keys() & quotes.keys()
    assert len(equal_ids) == comparable
    assert sum(tops[update_id] == quotes[update_id] for update_id in equal_ids) == comparable
    assert crossed == 0
    assert _refused(trusted) == {"diff covered by the snapshot": covered}


def test_a_consumer_that_drops_the_diffs_before_the_snapshot_ends_with_most_books_crossed() -> None:
    """The trap, walked into: without ingestion, and with the early diffs gone, the book is silently wrong."""
    events = raw_events(SPOT_20240808)
    book, crossed, books = Book(), 0, 0
    for event in events:
        if isinstance(event, BookSnapshot):
            book.replace_all(event)
        elif isinstance(event, DepthUpdate) and book.update_id >= 0:
            book.apply(event)
            books += 1
            crossed += book.crossed
    assert (crossed, books) == (2_573, 3_448)


def test_ingestion_does_not_walk_into_it() -> None:
    events = raw_events(SPOT_20240808)
    start = next(index for index, event in enumerate(events) if isinstance(event, BookSnapshot))
    late = [event for event in events[:start] if not isinstance(event, DepthUpdate)] + list(events[start:])
    key = events[start].key
    outputs = ingest(late, Ingestion(IngestionConfig(instruments={key: definition(key)})))
    kinds = Counter(event.kind for event in outputs if isinstance(event, Quality))
    assert kinds[QualityKind.GAP] == kinds[QualityKind.UNSYNCHRONISED] == 1
    assert kinds[QualityKind.CROSSED] == 0
    assert not [event for event in outputs if isinstance(event, DepthUpdate)]


def test_without_a_snapshot_a_capture_stays_unsynchronised_and_says_so() -> None:
    raw, trusted = raw_events(SPOT_20240809), trusted_events(SPOT_20240809)
    kinds = Counter(event.kind for event in trusted if isinstance(event, Quality))
    assert kinds[QualityKind.UNSYNCHRONISED] == 1
    assert kinds[QualityKind.SYNCHRONISED] == 0
    assert 5 <= kinds[QualityKind.SNAPSHOT_REQUESTED] <= 10
    assert not [event for event in trusted if isinstance(event, DepthUpdate | BookSnapshot)]
    diffs = sum(isinstance(event, DepthUpdate) for event in raw)
    assert diffs == 3_044 == sum(_refused(trusted).values())
    for kind, count in ((Quote, 45_134), (Trade, 10_147)):
        assert sum(isinstance(event, kind) for event in trusted) == count


@pytest.mark.parametrize(
    ("capture", "messages"), [(USDM_20240808, 93_954), (SPOT_20240808, 41_249), (SPOT_20240809, 58_325)]
)
def test_every_message_is_accounted_for(capture: Path, messages: int) -> None:
    raw, trusted = raw_events(capture), trusted_events(capture)
    assert sum(not isinstance(event, Heartbeat) for event in raw) == messages
    passed = sum(isinstance(event, Quote | Trade | DepthUpdate) for event in trusted)
    snapshots = sum(isinstance(event, BookSnapshot) for event in raw)
    assert passed + snapshots + sum(_refused(trusted).values()) == messages


@pytest.mark.parametrize("capture", [USDM_20240808, SPOT_20240808, SPOT_20240809], ids=["USD-M", "spot", "spot 09"])
def test_the_clocks_of_the_captures_are_seen_as_they_are(capture: Path) -> None:
    trusted = trusted_events(capture)
    skews = [event for event in trusted if isinstance(event, Quality) and event.kind is QualityKind.CLOCK_SKEW]
    assert len(skews) == 1
    assert 1.26e9 < int(skews[0].detail.split()[4]) < 1.29e9
    backwards, newest = 0, 0
    for event in raw_events(capture):
        if not isinstance(event, Heartbeat) and event.event_time_ns != event.available_at_ns:
            backwards += event.event_time_ns < newest
            newest = max(newest, event.event_time_ns)
    counted = [event for event in trusted if isinstance(event, Quality) and event.kind is QualityKind.CLOCK_BACKWARDS]
    assert sum(event.count for event in counted) == backwards > 0
    assert len(counted) <= 75
