"""Whatever sets an order off says when it reached us, time itself included: or late orders would go uncounted."""

import pytest
from campaign import SETTINGS
from engine_runs import CODEC

from infra.settings import load_settings
from schemas.event import WALL_CLOCK
from streams.composition import compose
from streams.engine.shard import ORIGIN_HEADER, ShardCore
from streams.ingestion import FeedSteps, feed_hosting

NOW_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(("clock", "origins"), [(WALL_CLOCK, {str(NOW_NS).encode()}), ("closing", {None})])
def test_a_beat_of_the_wall_clock_has_an_origin_and_one_of_a_capture_has_none(
    clock: str, origins: set[bytes | None]
) -> None:
    run = compose(load_settings(SETTINGS, environment={}))
    core = ShardCore(feed_hosting(run), "feed", None, CODEC, run.settings.kafka.instrument_partitions)
    FeedSteps(core, next(iter(run.instruments)), live=True).beat(NOW_NS, clock, 1)
    outgoing, _, _ = core.drain()
    assert outgoing
    assert {dict(record.headers).get(ORIGIN_HEADER) for record in outgoing} == origins
