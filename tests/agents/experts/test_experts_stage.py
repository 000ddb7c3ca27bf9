"""The stage ``experts`` on a hand-made story and on a recorded capture: order, completeness, replay."""

from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from captures import SPOT_20240809, USDM_20240808
from market_inputs import KEY, beat, book, definition, diff, quote, trade, trusted_events

from agents.experts.stage import Experts, ExpertsConfig
from agents.features.state import FeatureConfig
from agents.stage import ShardState, run_step
from schemas.event import Event, Heartbeat, derive_id
from schemas.opinions import AnomalyAlert, Bar, FeatureSnapshot, MarketMark, Vote
from schemas.routing import topic_of

OTHER = "BINANCE:ETHUSDT"
CONFIG = ExpertsConfig(features=FeatureConfig(instruments={KEY: definition(), OTHER: definition(OTHER)}))
STAGE = Experts(CONFIG)


def stamped(events: Iterable[Event]) -> list[Event]:
    """Give hand-made events the identities that a caller of ``step`` would have given them."""
    return [
        msgspec.structs.replace(event, event_id=derive_id("test", "input", number))
        for number, event in enumerate(events)
    ]


def run(stage: Experts, events: Iterable[Event], state: ShardState | None = None) -> tuple[ShardState, list[Event]]:
    state = ShardState() if state is None else state
    return state, [output for event in events for output in run_step(stage, state, event)[1]]


STORY = stamped(
    [
        *[beat(0.0), book(0.1, 1, {100: 5}, {102: 5}), trade(0.4, 101), beat(0.5), diff(0.9, (2, 2), {100: 9})],
        *[trade(1.2, 102), beat(1.3), quote(3.7), beat(4.0)],
    ]
)


def test_the_grid_is_closed_by_the_first_event_after_it_and_the_mark_follows_the_votes() -> None:
    _, outputs = run(STAGE, STORY[:6])
    kinds = [type(output).__name__ for output in outputs if not isinstance(output, Heartbeat | Bar)]
    assert kinds == ["MarketMark", "FeatureSnapshot", *["Vote"] * 18, "MarketMark"]
    snapshot = next(output for output in outputs if isinstance(output, FeatureSnapshot))
    mark = [output for output in outputs if isinstance(output, MarketMark)][-1]
    assert mark.on_grid
    assert (mark.grid_time_ns, mark.mid, mark.volume) == (snapshot.grid_time_ns, snapshot.mid, 10**8)
    assert mark.bid_quantity == 9 * 10**8


def test_every_expert_votes_once_on_every_ballot() -> None:
    _, outputs = run(STAGE, STORY)
    asked = [item.ballot_id for output in outputs if isinstance(output, FeatureSnapshot) for item in output.questions]
    votes = Counter((output.ballot_id, output.expert) for output in outputs if isinstance(output, Vote))
    assert votes == Counter({(ballot_id, name): 1 for ballot_id in asked for name in STAGE.expert_names})
    vote = next(output for output in outputs if isinstance(output, Vote))
    assert vote.expires_at_ns == vote.available_at_ns + vote.horizon_ns + CONFIG.features.deadline_ns


def test_of_several_grid_steps_in_silence_the_last_is_taken() -> None:
    _, outputs = run(STAGE, STORY)
    times = [
        output.grid_time_ns - STORY[0].available_at_ns for output in outputs if isinstance(output, FeatureSnapshot)
    ]
    assert times == [1_000_000_000, 3_000_000_000, 4_000_000_000]


def test_a_heartbeat_goes_on_to_both_topics_and_marks_every_instrument_seen() -> None:
    state, _ = run(STAGE, STORY[:3])
    _, outputs = run(STAGE, [STORY[3]], state)
    assert [type(output) for output in outputs] == [MarketMark, Heartbeat, Heartbeat]
    assert [topic_of(output).name for output in outputs[1:]] == [  # type: ignore[union-attr]
        "tradermind.feature.snapshot.v1",
        "tradermind.expert.vote.v1",
    ]
    assert all(output.available_at_ns == STORY[3].available_at_ns for output in outputs)
    assert not outputs[0].on_grid  # type: ignore[attr-defined]
    assert outputs[1].clock == "capture"  # type: ignore[attr-defined]


def test_a_heartbeat_closes_the_grid_in_silence() -> None:
    _, outputs = run(STAGE, STORY[:4] + stamped([beat(2.5)]))
    assert [output.grid_time_ns % 10**10 for output in outputs if isinstance(output, FeatureSnapshot)] == [2 * 10**9]


def test_bars_are_made_of_trades() -> None:
    _, outputs = run(STAGE, STORY)
    bars = [output for output in outputs if isinstance(output, Bar)]
    assert [(bar.close_price // 10**8, bar.trades, bar.imputed) for bar in bars[:3]] == [
        (101, 1, False),
        (102, 1, False),
        (102, 0, True),
    ]


def test_an_instrument_that_is_not_configured_stops_the_line() -> None:
    stranger = msgspec.structs.replace(STORY[1], key="NOWHERE:X")
    with pytest.raises(KeyError):
        run(STAGE, [stranger])


def test_only_what_an_event_touched_is_written() -> None:
    state, _ = run(STAGE, STORY[:3])
    state.touched.clear()
    run(STAGE, [STORY[4]], state)
    assert state.touched == {f"{KEY}/features", f"{KEY}/bars"}
    run(STAGE, [STORY[5]], state)
    assert state.touched == {f"{KEY}/features", f"{KEY}/bars", *[f"{KEY}/expert/{name}" for name in STAGE.expert_names]}


def capture_stage(events: Iterable[Event]) -> Experts:
    keys = {event.key for event in events if type(event) is not Heartbeat}
    return Experts(ExpertsConfig(features=FeatureConfig(instruments={key: definition(key) for key in keys})))


def through_a_checkpoint(stage: Experts, state: ShardState) -> ShardState:
    restored = ShardState()
    for key, value in state.items():
        restored.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=stage.state_type(key)))
    return restored


@pytest.mark.slow
def test_a_capture_gives_the_same_bytes_through_checkpoints() -> None:
    events = trusted_events(USDM_20240808)[:30_000]
    stage = capture_stage(events)
    _, whole = run(stage, events)
    state, parts = ShardState(), []
    for start in range(0, len(events), 7_001):
        state, outputs = run(stage, events[start : start + 7_001], through_a_checkpoint(stage, state))
        parts += outputs
    assert len(whole) == len(parts)
    encoder = msgspec.msgpack.Encoder()
    assert all(encoder.encode(first) == encoder.encode(second) for first, second in zip(whole, parts, strict=True))


@pytest.mark.slow
def test_on_a_capture_the_committee_speaks_and_alerts_are_rare() -> None:
    events = trusted_events(USDM_20240808)
    _, outputs = run(capture_stage(events), events)
    votes = [output for output in outputs if isinstance(output, Vote)]
    speaking = Counter(vote.expert for vote in votes if vote.abstained is None)
    ballots = len({vote.ballot_id for vote in votes})
    assert set(speaking) == {"order_flow", "momentum", "mean_reversion", "quant"}
    assert all(count > 0.8 * ballots for count in speaking.values())
    alerts = [output for output in outputs if isinstance(output, AnomalyAlert)]
    assert len(alerts) < 0.1 * ballots / 3


def test_without_a_book_only_those_who_need_none_speak() -> None:
    """Spot 08-09 has no snapshot: the top of the book is all there is."""
    events = trusted_events(SPOT_20240809)[:20_000]
    _, outputs = run(capture_stage(events), events)
    assert all(not output.synchronised for output in outputs if isinstance(output, FeatureSnapshot))
    speaking = {output.expert for output in outputs if isinstance(output, Vote) and output.abstained is None}
    assert speaking == {"order_flow", "momentum", "mean_reversion", "quant"}
