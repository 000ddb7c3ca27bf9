"""What a venue says is not under our control: a word that a stage refuses ends no worker, and is kept all the same."""

from collections.abc import Sequence
from dataclasses import replace

from engine_runs import CODEC
from engine_toys import HOSTINGS, PARTITIONS, ToyDecider

from agents.stage import ShardState
from schemas.dead_letters import BadRecord, DeadLetterReason
from schemas.event import Event
from schemas.orders import ReportKind, VenueReport
from streams.engine.shard import ShardCore


class Refusing(ToyDecider):
    """Knows no order at all."""

    def step(self, state: ShardState, event: Event) -> tuple[ShardState, Sequence[Event]]:
        """Refuse every report."""
        if isinstance(event, VenueReport):
            raise BadRecord(DeadLetterReason.INVALID_VALUE, "not an order of ours")
        return super().step(state, event)


def test_a_report_on_a_strangers_order_is_counted_and_the_shard_goes_on() -> None:
    core = ShardCore(replace(HOSTINGS["decider"], make_stage=Refusing), "0", 0, CODEC, PARTITIONS)
    report = VenueReport(
        key="main",
        event_time_ns=1,
        available_at_ns=5,
        event_id="r1",
        order_id="a stranger's",
        instrument="SIM:A",
        kind=ReportKind.ACCEPTED,
    )
    assert core.take_event(report) == ()
    assert core.counters.by_reason == {DeadLetterReason.INVALID_VALUE: 1}
    assert (core.has_output(), core.touched_state(), core.reached_ns) == (False, {}, 5)
