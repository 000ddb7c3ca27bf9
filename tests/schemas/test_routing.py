"""Routing is part of the contract: one topic per type, Heartbeats explicit, requests nowhere."""

from schemas.event import Heartbeat
from schemas.market import Trade
from schemas.orders import CancelRequested
from schemas.partition import partition_of
from schemas.routing import targets, topic_of
from schemas.topics import EXPERT_VOTE, FEATURE_SNAPSHOT, MARKET_EVENT
from schemas.values import Side


def _beat(key: str) -> Heartbeat:
    return Heartbeat(key=key, event_time_ns=1, available_at_ns=1)


def test_an_instrument_goes_to_its_partition() -> None:
    trade = Trade(
        key="SIM:BTCUSD",
        event_time_ns=1,
        available_at_ns=1,
        trade_id="1",
        price=1,
        quantity=1,
        aggressor=Side.BUY,
    )
    assert targets(trade, 4, None) == ((MARKET_EVENT.name, partition_of("SIM:BTCUSD", 4)),)


def test_a_feeds_heartbeat_goes_to_every_partition() -> None:
    assert targets(_beat("feed"), 3, None) == tuple((MARKET_EVENT.name, partition) for partition in range(3))


def test_a_shards_heartbeat_goes_to_its_own_partition_of_the_topic_it_names() -> None:
    assert targets(_beat("feature.snapshot"), 3, 2) == ((FEATURE_SNAPSHOT.name, 2),)
    assert topic_of(_beat("expert.vote")) is EXPERT_VOTE


def test_a_request_to_the_venue_has_no_topic() -> None:
    request = CancelRequested(key="main", event_time_ns=1, available_at_ns=1, order_id="a", instrument="SIM:BTCUSD")
    assert targets(request, 4, 0) == ()
