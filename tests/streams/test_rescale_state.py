"""Where every state of the real stages goes under another partition count, and what is refused."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.voting.stage import Clock, Strays
from infra.postgres.rescales import ShardRow
from infra.settings import SettingsError, load_settings
from infra.topic_specs import keyed_topics, refuse_other_count
from schemas.partition import partition_of
from schemas.topics import MARKET_EVENT, TOPICS
from streams.composition import compose
from streams.engine.quarantine import Held, LetterProgress
from streams.engine.shard import Progress
from streams.offline.backtest import Backtest
from streams.rescale_checks import newest_positions
from streams.rescale_state import (
    KEY_RULES,
    RescaleRefused,
    digest_of,
    fence,
    move_stage,
    partition_number,
    progress_of,
    without_lanes,
)

ROOT = Path(__file__).resolve().parents[2]


def _row(stage: str, shard: str, state: dict[str, bytes], **facts: object) -> ShardRow:
    row = ShardRow(stage, shard, 3, 2, 70, 900, msgspec.msgpack.encode(Progress()), "k", "c", "s", state)
    return replace(row, **facts)


@lru_cache
def _states() -> dict[str, dict[str, bytes]]:
    """Return what the real stages keep after some seconds of the simulated market."""
    test = Backtest(compose(load_settings(ROOT / "tradermind.toml", environment={})), lambda event: None, ())
    for record in test.records(3.0):
        test.take(record)
    return {
        stage: {key: msgspec.msgpack.encode(value) for key, value in test.pipeline.state(stage).items()}
        for stage in KEY_RULES
    }


def _sharded(stage: str, partitions: int) -> list[ShardRow]:
    rule = KEY_RULES[stage]
    places: list[dict[str, bytes]] = [{} for _ in range(partitions)]
    for key, value in _states()[stage].items():
        if key in rule.joined:
            for place in places:
                place[key] = value
        else:
            match = rule.instrument.fullmatch(key)
            assert match is not None, f"no instrument in {key}"
            places[partition_of(match[1], partitions)][key] = value
    names = [f"{MARKET_EVENT.name}/{n}" if stage == "experts" else str(n) for n in range(partitions)]
    return [_row(stage, name, state) for name, state in zip(names, places, strict=True)]


def test_every_keyed_topic_is_read_by_stages_that_have_a_rule() -> None:
    readers = {name for topic in keyed_topics() for name in topic.consumers if name}
    assert readers == {*KEY_RULES, "sinks"}


@pytest.mark.parametrize("stage", sorted(KEY_RULES))
@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 7), (7, 2), (3, 1)])
def test_each_state_of_the_real_stages_is_once_where_its_instrument_belongs(
    stage: str, before: int, after: int
) -> None:
    rows = _sharded(stage, before)
    rule = KEY_RULES[stage]
    instruments = {key.split("/")[0] for key in _states()[stage] if key not in rule.joined}
    assert len(instruments) >= 2, "one instrument proves nothing"
    moved = move_stage(rule, rows, before, after, 9)
    assert [partition_number(row.shard) for row in moved.rows] == list(range(after))
    assert {row.shard.rpartition("/")[0] for row in moved.rows} == {rows[0].shard.rpartition("/")[0]}
    found = {key: value for row in moved.rows for key, value in row.state.items()}
    assert found == _states()[stage]
    for number, row in enumerate(moved.rows):
        own = {key for key in row.state if key not in rule.joined}
        assert {partition_of(key.split("/")[0], after) for key in own} <= {number}
        assert (row.generation, row.epoch, row.batch) == (9, 4, 71)
        assert progress_of(row).next_offsets == {}
    assert moved.keys == sum(len(row.state) - len(row.state.keys() & rule.joined.keys()) for row in rows)
    back = move_stage(rule, moved.rows, after, before, 10)
    assert [row.state for row in back.rows] == [row.state for row in rows]
    assert (back.digest, back.keys) == (moved.digest, moved.keys)


def test_what_voting_keeps_once_a_shard_is_joined_so_that_nothing_is_claimed_too_early() -> None:
    def encoded(clock: Clock, strays: int) -> dict[str, bytes]:
        kept = {"clock": msgspec.msgpack.encode(clock)}
        return kept | ({"strays": msgspec.msgpack.encode(Strays(strays))} if strays else {})

    rows = [_row("voting", "0", encoded(Clock(5, 9), 2)), _row("voting", "1", encoded(Clock(7, 3), 4))]
    first, *rest = move_stage(KEY_RULES["voting"], rows, 2, 3, 9).rows
    assert msgspec.msgpack.decode(first.state["clock"], type=Clock) == Clock(5, 3)
    assert msgspec.msgpack.decode(first.state["strays"], type=Strays).votes == 6
    assert [row.state for row in rest] == [{"clock": first.state["clock"]}] * 2


@pytest.mark.parametrize(
    ("key", "why"),
    [("volume", "names no instrument"), ("SIM:A/unheard", "names no instrument"), ("SIM:A/features", "belongs to")],
)
def test_a_key_whose_place_cannot_be_told_is_refused(key: str, why: str) -> None:
    elsewhere = 1 - partition_of("SIM:A", 2)
    rows = [_row("experts", f"t/{number}", {key: b""} if number == elsewhere else {}) for number in range(2)]
    with pytest.raises(RescaleRefused, match=why):
        move_stage(KEY_RULES["experts"], rows, 2, 3, 9)


def test_a_key_that_two_shards_keep_or_a_key_in_quarantine_is_refused() -> None:
    twice = [_row("experts", "t/0", {"SIM:A/bars": b""}), _row("experts", "u/0", {"SIM:A/bars": b""})]
    with pytest.raises(RescaleRefused, match="Two shards"):
        move_stage(KEY_RULES["experts"], twice, 1, 2, 9)
    held = Progress(letters=LetterProgress(held={"SIM:A": Held("t/0/7")}))
    with pytest.raises(RescaleRefused, match="holds back keys"):
        move_stage(KEY_RULES["experts"], [_row("experts", "t/0", {}, progress=msgspec.msgpack.encode(held))], 1, 2, 9)
    with pytest.raises(RescaleRefused, match="names no partition"):
        partition_number("feed-SIM")


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=8), st.integers(1, 4), st.randoms())
def test_the_digest_is_of_all_keys_and_values_and_of_no_order(
    state: dict[str, bytes], parts: int, random: object
) -> None:
    split: list[dict[str, bytes]] = [{} for _ in range(parts)]
    for key, value in state.items():
        split[random.randrange(parts)][key] = value  # type: ignore[attr-defined]
    assert digest_of(split) == digest_of([state])
    assert digest_of([{**state, "another": b"x"}]) != digest_of([state])
    for key, value in state.items():
        assert digest_of([{**state, key: value + b"0"}]) != digest_of([state])


def test_orders_about_letters_are_not_carried_out_again_and_time_does_not_go_back() -> None:
    progress = [Progress(letters=LetterProgress(orders=n, stepped_orders=9 - n), reached_ns=n) for n in (3, 8)]
    rows = [_row("experts", f"t/{n}", {}, progress=msgspec.msgpack.encode(one)) for n, one in enumerate(progress)]
    for row in move_stage(KEY_RULES["experts"], rows, 2, 3, 9).rows:
        letters = progress_of(row).letters
        assert (letters.orders, letters.stepped_orders, progress_of(row).reached_ns) == (8, 6, 8)


def test_a_late_record_from_before_the_rescale_is_dropped_and_the_next_of_each_source_is_not() -> None:
    lane, other = "tradermind.feedback.score.v1/1", "tradermind.feedback.score.v1/4"
    writer = Progress(numbers={lane: 12}, next_offsets={"tradermind.ingest.vote.v1/0": 30}, external=40)
    encoded = msgspec.msgpack.encode(writer)
    others = [
        _row("feedback", "0", {}, progress=encoded),
        _row("ingress.vote", "tradermind.ingest.vote.v1/0", {}, progress=encoded),
        _row("ingestion", "feed-SIM-0", {}, progress=encoded),
        _row("ingestion", "a-capture", {}, progress=encoded),
    ]
    moved = move_stage(KEY_RULES["voting"], [_row("voting", "0", {})], 1, 2, 9).rows
    newest = newest_positions([_row("voting", "0", {})], moved, others)
    seen = progress_of(fence(moved[1], [lane, other], newest)).seen.positions
    assert seen[lane] == {
        "voting/0": (9, -1),
        "voting/1": (9, -1),
        "feedback/0": (2, 12),
        "ingress.vote/tradermind.ingest.vote.v1/0": (2, 30 * 65_536 - 1),
        "ingestion/feed-SIM-0": (3, -1),
        "ingestion/a-capture": (2, 40 * 65_536 - 1),
    }
    assert "feedback/0" not in seen[other], "it has never written there"


def test_a_writer_forgets_where_topics_end_that_begin_anew() -> None:
    progress = Progress(
        output_ends={"tradermind.market.event.v1/3": 7, "tradermind.market.mark.v1/0": 8}, silent={"x": 1}
    )
    row = without_lanes(
        _row("ingestion", "f", {}, progress=msgspec.msgpack.encode(progress)), frozenset([MARKET_EVENT.name])
    )
    assert progress_of(row).output_ends == {"tradermind.market.mark.v1/0": 8}
    assert progress_of(row).silent == {}


def test_a_worker_with_another_count_than_the_topics_have_is_told_both_numbers() -> None:
    there = {topic.name: topic.partitions(8) for topic in TOPICS.values()}
    refuse_other_count(there, 8)
    refuse_other_count({}, 8)
    refuse_other_count({**there, "tradermind.ingest.vote.v1": 3}, 8)
    with pytest.raises(
        SettingsError, match=r"market\.event\.v1 has 8 partitions, but kafka\.instrument_partitions is 4"
    ):
        refuse_other_count(there, 4)
