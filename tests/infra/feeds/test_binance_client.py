"""The live client over a real loopback connection, against a server that breaks like a real one."""

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from binance_server import BinanceServer, Faults, binance_server
from captures import SPOT_20240808, USDM_20240808
from hypothesis import given
from hypothesis import strategies as st
from market_inputs import definition, ingest

from agents.market.book import Book
from agents.market.stage import Ingestion, IngestionConfig
from infra.feeds import FeedFailed
from infra.feeds.binance.client import BinanceFeed
from infra.feeds.binance.endpoints import SPOT_ENDPOINTS, USDM_ENDPOINTS, ConnectionPolicy, endpoints_for
from infra.feeds.binance.parse import SPOT, USDM, parse_message
from schemas.feed import FeedRecord
from schemas.market import BookSnapshot, DepthUpdate, Quality, QualityKind, Quote

QUICK = ConnectionPolicy(
    backoff_first_s=0.02, backoff_max_s=0.1, snapshot_interval_s=0.05, connect_timeout_s=5.0, silence_timeout_s=10.0
)
LIMIT_S = 30.0
Enough = Callable[[BinanceServer, list[FeedRecord]], bool]


async def _take(feed: BinanceFeed, enough: Callable[[list[FeedRecord]], bool]) -> list[FeedRecord]:
    taken: list[FeedRecord] = []
    async with asyncio.timeout(LIMIT_S):
        async for record in feed.records():
            taken.append(record)
            if enough(taken):
                break
    return taken


def _run(
    enough: Enough,
    faults: Faults | None = None,
    limit: int = 3_000,
    policy: ConnectionPolicy = QUICK,
    capture: Path = SPOT_20240808,
) -> tuple[BinanceServer, list[FeedRecord]]:
    async def run() -> tuple[BinanceServer, list[FeedRecord]]:
        venue = USDM if capture == USDM_20240808 else SPOT
        async with binance_server(capture, limit, faults, venue) as (server, endpoints):
            feed = BinanceFeed(endpoints, (f"{venue}:BTCUSDT",), policy)
            records = feed.records()
            taken: list[FeedRecord] = []
            async with asyncio.timeout(LIMIT_S):
                async for record in records:
                    taken.append(record)
                    if enough(server, taken):
                        break
            await records.aclose()  # type: ignore[attr-defined]
            return server, taken

    return asyncio.run(run())


def _all_sent(server: BinanceServer, taken: list[FeedRecord]) -> bool:
    """All messages and one snapshot for each connection have been received."""
    return server.exhausted and len(_streamed(taken)) == sum(map(len, server.sent)) and _snapshots(taken) >= 1


def _streamed(records: Sequence[FeedRecord]) -> list[FeedRecord]:
    """What came by the WebSocket: neither a RESYNC nor a REST snapshot."""
    return [
        record
        for record in records
        if record.refused is not None or not isinstance(record.events[0], Quality | BookSnapshot)
    ]


def _snapshots(records: Sequence[FeedRecord]) -> int:
    return sum(isinstance(event, BookSnapshot) for record in records for event in record.events)


def _resyncs(records: Sequence[FeedRecord]) -> list[Quality]:
    return [event for record in records for event in record.events if isinstance(event, Quality)]


def _same_as_sent(records: Sequence[FeedRecord], bodies: Sequence[str], venue: str) -> bool:
    return [record.events for record in records] == [
        (parse_message(body, record.events[0].available_at_ns, venue, "BTCUSDT"),)
        for body, record in zip(bodies, records, strict=True)
    ]


@pytest.mark.parametrize(("capture", "venue"), [(SPOT_20240808, SPOT), (USDM_20240808, USDM)], ids=["spot", "USD-M"])
def test_every_message_arrives_once_and_in_order_behind_a_resync(capture: Path, venue: str) -> None:
    server, taken = _run(_all_sent, capture=capture)
    assert [record.position for record in taken] == list(range(len(taken)))
    (resync,) = _resyncs(taken)
    assert taken[0].events == (resync,)
    assert (resync.kind, resync.key) == (QualityKind.RESYNC, f"{venue}:BTCUSDT")
    assert len(server.sent) == 1
    assert _same_as_sent(_streamed(taken), server.sent[0], venue)
    assert server.queries == ["streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"]
    times = [record.events[0].available_at_ns for record in taken]
    assert times == sorted(times)
    assert abs(times[-1] - time.time_ns()) < 60e9


def test_each_connection_is_a_new_generation_and_nothing_it_sent_is_lost() -> None:
    async def run() -> tuple[BinanceServer, dict[int, list[FeedRecord]]]:
        faults = Faults(disconnect_after=[400, 700], lost_between=25)
        async with binance_server(SPOT_20240808, 2_000, faults) as (server, endpoints):
            feed = BinanceFeed(endpoints, ("BINANCE:BTCUSDT",), QUICK)
            by_generation: dict[int, list[FeedRecord]] = {}

            def sort(taken: list[FeedRecord]) -> bool:
                by_generation.setdefault(feed.generation, []).append(taken[-1])
                return len(server.sent) == 3 and _all_sent(server, taken)

            await _take(feed, sort)
            return server, by_generation

    server, by_generation = asyncio.run(run())
    assert [len(bodies) for bodies in server.sent] == [400, 700, 2_000 - 400 - 700 - 50]
    assert list(by_generation) == [1, 2, 3]
    for generation, bodies in zip(by_generation, server.sent, strict=True):
        records = by_generation[generation]
        (resync,) = _resyncs(records)
        assert records[0].events == (resync,)
        assert f"connection {generation} after" in resync.detail
        assert _same_as_sent(_streamed(records), bodies, SPOT)
    assert "code 1001" in _resyncs(by_generation[2])[0].detail


def test_after_losses_the_rebuilt_book_is_the_venues_again() -> None:
    faults = Faults(disconnect_after=[1_500, 2_500], lost_between=40, snapshot_delay_s=0.03)

    def enough(server: BinanceServer, taken: list[FeedRecord]) -> bool:
        return _all_sent(server, taken) and len(server.sent) == 3 and _snapshots(taken) >= 3

    server, taken = _run(enough, faults, limit=9_000)
    stage = Ingestion(IngestionConfig(instruments={"BINANCE:BTCUSDT": definition()}))
    trusted = ingest((event for record in taken for event in record.events), stage)
    book, tops, quotes = Book(), {}, {}
    for event in trusted:
        if isinstance(event, BookSnapshot) and event.update_id != book.update_id:
            book.replace_all(event)
        elif isinstance(event, DepthUpdate):
            book.apply(event)
        elif isinstance(event, Quality) and event.kind is QualityKind.RESYNC:
            book.clear()
        elif isinstance(event, Quote):
            quotes[event.update_id] = (event.bid_price, event.ask_price, event.bid_quantity, event.ask_quantity)
        if book.best_bid is not None and book.best_ask is not None:
            assert book.best_bid < book.best_ask
            bid, ask = book.best_bid, book.best_ask
            tops[book.update_id] = (bid, ask, book.bids[bid], book.asks[ask])
    comparable = tops.keys() & quotes.keys()
    assert len(comparable) > 50
    assert {key: tops[key] for key in comparable} == {key: quotes[key] for key in comparable}
    assert len(server.asked) >= 3


def test_a_connection_cut_without_a_word_is_replaced_too() -> None:
    def enough(server: BinanceServer, taken: list[FeedRecord]) -> bool:
        return server.exhausted and len(server.sent) == 2 and len(_last_generation(taken)) == len(server.sent[1])

    server, taken = _run(enough, Faults(disconnect_after=[600], abruptly=True), limit=1_500)
    assert [event.kind for event in _resyncs(taken)] == [QualityKind.RESYNC] * 2
    assert _same_as_sent(_last_generation(taken), server.sent[1], SPOT)


def _last_generation(taken: Sequence[FeedRecord]) -> list[FeedRecord]:
    first = max(place for place, record in enumerate(taken) if _resyncs([record]))
    return _streamed(taken[first:])


def test_garbage_is_refused_with_its_bytes_and_the_stream_goes_on() -> None:
    faults = Faults(garbage_at=frozenset({0, 10, 999}))
    server, taken = _run(_all_sent, faults, limit=1_000)
    refused = [record for record in taken if record.refused is not None]
    assert [record.raw for record in refused] == [faults.garbage.encode()] * 3
    assert all(record.refused and "malformed" in record.refused for record in refused)
    assert len(_streamed(taken)) == len(server.sent[0]) == 1_003


def test_differences_are_not_held_back_by_a_slow_snapshot() -> None:
    server, taken = _run(_all_sent, Faults(snapshot_delay_s=0.3), limit=500)
    kinds = [type(record.events[0]) for record in taken]
    assert kinds.index(DepthUpdate) < kinds.index(BookSnapshot)
    assert len(server.asked) == 1


def test_a_snapshot_that_fails_is_asked_for_again_and_the_venues_wish_is_kept() -> None:
    faults = Faults(statuses=[503, 429], retry_after_s=0.4, rest_garbage=1)
    server, taken = _run(lambda server, taken: server.exhausted and _snapshots(taken) == 1, faults, limit=500)
    assert len(server.asked) == 4
    assert server.asked[2] - server.asked[1] >= 0.4
    assert _snapshots(taken) == 1
    # The answer that was no snapshot is accounted for like any other message.
    assert [record.refused for record in taken if record.refused] == ["neither a stream message nor a depth snapshot"]


def test_many_wishes_for_a_snapshot_are_few_requests() -> None:
    async def run() -> tuple[list[float], list[bool], bool]:
        async with binance_server(SPOT_20240808, 200) as (server, endpoints):
            feed = BinanceFeed(endpoints, ("BINANCE:BTCUSDT",), QUICK)
            before = await feed.request_snapshot("BINANCE:BTCUSDT")
            answers: list[bool] = []

            async def nag() -> None:
                for _ in range(60):
                    await asyncio.sleep(0.005)
                    answers.append(await feed.request_snapshot("BINANCE:BTCUSDT"))
                answers.append(await feed.request_snapshot("BINANCE:ETHUSDT"))
                await feed.close()

            nagging: list[asyncio.Task[None]] = []

            def started(taken: list[FeedRecord]) -> bool:
                if not nagging:
                    nagging.append(asyncio.create_task(nag()))
                return False

            taken = await _take(feed, started)
            # The last answer may have been under way when the feed was closed.
            assert len(server.asked) - 1 <= _snapshots(taken) <= len(server.asked)
            return server.asked, answers, before

    asked, answers, before = asyncio.run(run())
    assert not before
    assert all(answers[:-1])
    assert not answers[-1]
    assert 2 <= len(asked) <= 20
    assert all(later - earlier >= 0.045 for earlier, later in itertools.pairwise(asked))


@pytest.mark.parametrize(
    ("change", "faults", "why"),
    [
        ({"silence_timeout_s": 0.3}, Faults(mute_after=300), "nothing came for 0.3 s"),
        ({"lifetime_s": 0.3}, Faults(), "it had lasted for 0.3 s"),
        ({"message_bytes_max": 5_000}, Faults(garbage_at=frozenset({50}), garbage="x" * 9_000), ""),
    ],
    ids=["silence", "lifetime", "oversize"],
)
def test_a_connection_that_is_no_longer_good_is_left(change: dict[str, Any], faults: Faults, why: str) -> None:
    policy = ConnectionPolicy(**{field: getattr(QUICK, field) for field in QUICK.__slots__} | change)
    _, taken = _run(lambda _, taken: len(_resyncs(taken)) == 2, faults, 1_000, policy)
    assert why in _resyncs(taken)[1].detail
    assert len(_streamed(taken)) >= 50


@pytest.mark.slow
def test_pings_are_answered_so_that_a_quiet_connection_stays() -> None:
    def enough(server: BinanceServer, taken: list[FeedRecord]) -> bool:
        return server.exhausted and len(taken) >= 402

    async def run() -> BinanceServer:
        async with binance_server(SPOT_20240808, 400, Faults(ping_s=0.1)) as (server, endpoints):
            feed = BinanceFeed(endpoints, ("BINANCE:BTCUSDT",), QUICK)
            closing = asyncio.get_running_loop().call_later(1.0, lambda: asyncio.ensure_future(feed.close()))
            taken = await _take(feed, lambda taken: False)
            closing.cancel()
            assert enough(server, taken)
            return server

    assert len(asyncio.run(run()).sent) == 1


def test_a_reader_that_falls_behind_loses_the_connection_and_is_told() -> None:
    async def run() -> tuple[list[FeedRecord], int]:
        policy = ConnectionPolicy(
            **{field: getattr(QUICK, field) for field in QUICK.__slots__} | {"waiting_records_max": 100}
        )
        async with binance_server(SPOT_20240808, 5_000) as (server, endpoints):
            feed = BinanceFeed(endpoints, ("BINANCE:BTCUSDT",), policy)
            taken: list[FeedRecord] = []
            async with asyncio.timeout(LIMIT_S):
                async for record in feed.records():
                    taken.append(record)
                    if len(taken) == 10:
                        await asyncio.sleep(0.5)
                    if len(_resyncs(taken)) == 2:
                        break
            return taken, len(server.sent)

    taken, connections = asyncio.run(run())
    told = re.search(r"the reader fell 100 messages behind; (\d) messages found no room", _resyncs(taken)[1].detail)
    assert told is not None and 1 <= int(told[1]) <= 2, "what was received and not kept: a message, perhaps a snapshot"
    assert len(taken) <= 10 + 100 + 1
    assert connections == 2


def test_a_venue_that_cannot_be_reached_ends_the_feed_with_a_sentence() -> None:
    async def nobody_listens() -> None:
        async with binance_server(SPOT_20240808, 1) as (_, endpoints):
            pass
        await _take(BinanceFeed(endpoints, ("BINANCE:BTCUSDT",), QUICK), lambda _: True)

    with pytest.raises(FeedFailed, match=r"^ws://127.0.0.1:\d+ cannot be used as Binance's market data: .*\.$"):
        asyncio.run(nobody_listens())


def test_a_refusal_at_the_door_is_final_but_a_busy_door_is_not() -> None:
    with pytest.raises(FeedFailed, match="451"):
        _run(_all_sent, Faults(handshakes=[451]), limit=10)
    server, _ = _run(_all_sent, Faults(handshakes=[503, 503]), limit=10)
    assert len(server.sent) == 1


def test_closing_ends_the_records_and_leaves_nothing_running() -> None:
    async def run() -> None:
        async with binance_server(SPOT_20240808, 5_000) as (server, endpoints):
            feed = BinanceFeed(endpoints, ("BINANCE:BTCUSDT",), QUICK)
            asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(feed.close()))
            taken = await _take(feed, lambda _: False)
            assert taken
            before = feed.generation
            with pytest.raises(RuntimeError, match="read once"):
                await _take(feed, lambda _: True)
            assert feed.generation == before == 1
            await asyncio.sleep(0.1)
            assert server.agreed_closes == 1
            mine = [task for task in asyncio.all_tasks() if "infra/feeds" in str(task.get_coro())]
            assert not mine

    asyncio.run(run())


def test_settings_choose_the_addresses() -> None:
    assert endpoints_for(["BINANCE:BTCUSDT", "BINANCE:ETHUSDT"], None, None) == SPOT_ENDPOINTS
    assert endpoints_for(["BINANCE_USDM:BTCUSDT"], None, None) == USDM_ENDPOINTS
    own = endpoints_for(["BINANCE:BTCUSDT"], "wss://own/", "https://own/")
    assert own.stream_url(["BTCUSDT"]).startswith("wss://own/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker")
    assert own.depth_url("BTCUSDT") == "https://own/api/v3/depth?symbol=BTCUSDT&limit=1000"
    feed = BinanceFeed.from_settings(None, None, ("BINANCE_USDM:BTCUSDT",))
    assert (feed.name, feed.replayable, feed.generation) == ("BINANCE_USDM", False, 0)


@pytest.mark.parametrize(
    ("instruments", "reason"),
    [
        ([], "at least one instrument"),
        (["SIM:BTCUSD"], "'SIM' is not a venue of Binance"),
        (["BINANCE:BTCUSDT", "BINANCE_USDM:BTCUSDT"], "One feed connects to one venue"),
    ],
)
def test_what_one_connection_cannot_give_is_refused(instruments: list[str], reason: str) -> None:
    with pytest.raises(FeedFailed, match=reason):
        BinanceFeed.from_settings(None, None, instruments)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_pause_before_the_next_attempt_grows_to_a_bound_and_differs(failures: int, fraction: float) -> None:
    policy = ConnectionPolicy()
    pause_s = policy.backoff_s(failures, fraction)
    assert policy.backoff_first_s / 2 <= pause_s <= policy.backoff_max_s
    assert policy.backoff_s(failures, 0.0) <= pause_s
    assert policy.backoff_s(failures + 1, fraction) >= pause_s
