"""What tells a database that was set back from one that a crash has merely left behind what is in flight."""

from dataclasses import replace

import engine_toys
import pytest
from engine_toys import HOSTINGS
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import DECISION, FEEDBACK_SCORE, MARKET_EVENT, MARKET_MARK
from streams.engine.ports import StageHosting, StageKind
from streams.engine.rewind import GroupPlace, group_is_ahead, is_above, output_slots, sends_after_commit
from streams.engine.shards import to_be_claimed

OUTBOX, ONE_TOPIC = StageKind.OUTBOX, StageKind.ONE_TOPIC


@pytest.mark.parametrize(
    ("committed", "end", "checkpoints", "ahead"),
    [
        (None, 100, (None,), False),
        (None, 100, (70,), False),
        (70, 100, (70,), False),
        (69, 100, (70,), False),
        (71, 100, (70,), True),
        # The database was lost, or is another run's: nobody has read what the group has read.
        (71, 100, (None,), True),
        (71, 100, (None, None), True),
        # A topic that was made anew under its old name: Kafka forgets a deleted topic's offsets, but when?
        (71, 70, (None,), False),
        (0, 0, (None,), False),
        (0, 100, (None,), False),
        # Of two stages in one app the group follows those that have read the lane at all.
        (71, 100, (71, None), False),
        (71, 100, (80, 30), False),
        (81, 100, (80, 30), True),
    ],
)
def test_a_group_is_ahead_of_the_database_only_if_no_checkpoint_has_come_so_far(
    committed: int | None, end: int, checkpoints: tuple[int | None, ...], ahead: bool
) -> None:
    assert group_is_ahead(GroupPlace(committed, end, checkpoints)) is ahead


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), max_size=40), st.data())
def test_two_stages_that_read_on_as_they_please_never_look_set_back(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Whenever the group commits, it commits the least of what is known; whoever looks asks Kafka first."""
    stands: list[int | None] = [None, None]
    committed: int | None = None
    for stage, records in steps:
        stands[stage] = (stands[stage] or 0) + records
        if data.draw(st.booleans()):
            committed = min(offset for offset in stands if offset is not None)
        asked = committed
        assert not group_is_ahead(GroupPlace(asked, 1000, (stands[0], stands[1])))


@pytest.mark.parametrize(
    ("position", "kind", "above"),
    [
        ((3, 70), OUTBOX, False),
        ((3, 71), OUTBOX, True),
        ((2, 900), OUTBOX, False),
        ((4, 1), OUTBOX, True),
        # A stage that is numbered by its inputs has sent what its checkpoint does not know, and sends the same again.
        ((3, 71), ONE_TOPIC, False),
        ((4, 1), ONE_TOPIC, True),
    ],
)
def test_a_record_of_our_own_is_above_what_we_have_committed(
    position: tuple[int, int], kind: StageKind, above: bool
) -> None:
    assert is_above(position, generation=3, number=70, kind=kind) is above


def test_every_place_that_a_stage_writes_to_is_looked_at() -> None:
    feed = StageHosting(name="ingestion", topics=(), kind=ONE_TOPIC)
    assert sends_after_commit(HOSTINGS["decider"])
    assert sends_after_commit(feed), "its generation is committed before anything carries it"
    assert not sends_after_commit(HOSTINGS["experts"])
    assert (DECISION.name, 0) in output_slots(HOSTINGS["decider"], 2)
    scores = [slot for slot in output_slots(HOSTINGS["feedback"], 2) if slot[0] == FEEDBACK_SCORE.name]
    assert scores == [(FEEDBACK_SCORE.name, 0), (FEEDBACK_SCORE.name, 1)]
    assert output_slots(HOSTINGS["ingress.trade"], 2) == output_slots(feed, 2) != []


def test_an_assignment_names_each_shard_once_with_all_that_it_reads() -> None:
    hostings = {name: HOSTINGS[name] for name in ("experts", "decider", "feedback")}
    hostings["sinks"] = replace(engine_toys.sinks(""), topics=(MARKET_MARK,))
    assignment = frozenset({TP(MARKET_MARK.name, 0), TP(DECISION.name, 0), TP(MARKET_EVENT.name, 1)})
    claimed = {shard.source: shard.inputs for shard in to_be_claimed(hostings, assignment)}
    assert claimed == {
        "decider/0": ((MARKET_MARK.name, 0),),
        "feedback/0": ((DECISION.name, 0), (MARKET_MARK.name, 0)),
        f"experts/{MARKET_EVENT.name}/1": ((MARKET_EVENT.name, 1),),
    }
