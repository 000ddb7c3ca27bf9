"""The stage ``voting``: two clocks, requests, learning from scores, and the same bytes after any checkpoint."""

import math
import random
from collections.abc import Iterable

import msgspec
import pytest
from market_inputs import definition
from snapshot_stories import HORIZONS_NS, INSTRUMENT, make_snapshot

from agents.stage import ShardState, run_step
from agents.voting.stage import Voting, VotingConfig
from schemas.dead_letters import BadRecord
from schemas.event import Event, Heartbeat, derive_id
from schemas.feedback import BallotVoided, ExpertScore
from schemas.opinions import AbstainReason, BallotRequest, FeatureSnapshot, Vote, VoteTally
from schemas.values import NS_PER_MS, NS_PER_S

MID = 60_000 * 10**8
SHORT = HORIZONS_NS[0]
FEATURES = {"volatility": 5e-5, "spread": 1e7}
REQUEST = BallotRequest(
    key=INSTRUMENT,
    event_time_ns=7,
    available_at_ns=7,
    event_id="ask",
    request_id="r1",
    strategy="curious",
    horizon_ns=SHORT,
)
STAGE = Voting(VotingConfig(instruments={INSTRUMENT: definition(INSTRUMENT)}))
Said = tuple[float, float, float]
UNIFORM = (1 / 3, 1 / 3, 1 / 3)
UP = (0.1, 0.3, 0.6)


def snapshot_at(step: int) -> FeatureSnapshot:
    return make_snapshot(step, MID, FEATURES)


def vote(step: int, expert: str, said: Said | None = UP, horizon_ns: int = SHORT, **fields: object) -> Vote:
    snapshot = snapshot_at(step)
    ballot_id = next((item.ballot_id for item in snapshot.questions if item.horizon_ns == horizon_ns), "none")
    down, flat, up = said or (None, None, None)
    given: dict[str, object] = {
        "key": INSTRUMENT,
        "event_time_ns": snapshot.grid_time_ns,
        "available_at_ns": snapshot.grid_time_ns,
        "event_id": derive_id(f"{expert}|{step}|{horizon_ns}", "test", 0),
        "ballot_id": ballot_id,
        "expert": expert,
        "horizon_ns": horizon_ns,
        "expires_at_ns": snapshot.grid_time_ns + horizon_ns,
        "p_down": down,
        "p_flat": flat,
        "p_up": up,
        "abstained": None if said else AbstainReason.CONTEXT_ONLY,
    }
    return Vote(**(given | fields))  # type: ignore[arg-type]


def beat(step: float, topic: str) -> Heartbeat:
    at_ns = snapshot_at(0).grid_time_ns + round(step * NS_PER_S)
    return Heartbeat(key=topic, event_time_ns=at_ns, available_at_ns=at_ns, event_id=f"{topic}|{step}")


def beats(step: float) -> list[Event]:
    return [beat(step, "feature.snapshot"), beat(step, "expert.vote")]


def tallies(state: ShardState, events: Iterable[Event]) -> list[VoteTally]:
    found = [output for event in events for output in run_step(STAGE, state, event)[1]]
    assert all(isinstance(output, VoteTally) for output in found)
    return found  # type: ignore[return-value]


def score(step: int, entry: tuple[str, Said | None], outcome: int, pool_loss: float) -> ExpertScore:
    expert, said = entry
    return ExpertScore(
        key=INSTRUMENT,
        event_time_ns=step,
        available_at_ns=step,
        event_id=f"score|{step}|{expert}",
        ballot_id=snapshot_at(step).questions[0].ballot_id,
        expert=expert,
        horizon_ns=SHORT,
        outcome=outcome,
        move=0,
        loss=pool_loss if said is None else loss_of(said, outcome),
        base_loss=loss_of(UNIFORM, outcome),
        pool_loss=pool_loss,
        abstained=said is None,
    )


def loss_of(said: Said, outcome: int) -> float:
    return -math.log(max(said[outcome + 1], 0.01)) / math.log(100)


def test_now_is_the_lower_of_the_two_clocks() -> None:
    state = ShardState()
    assert tallies(state, [snapshot_at(1), vote(1, "a"), beat(5, "feature.snapshot"), beat(1.4, "expert.vote")]) == []
    closed = tallies(state, [beat(1.5, "expert.vote")])
    assert [tally.horizon_ns for tally in closed] == list(HORIZONS_NS)
    assert {tally.closed_by for tally in closed} == {"DEADLINE"}


def test_a_heartbeat_of_another_topic_keeps_no_time_here() -> None:
    with pytest.raises(BadRecord):
        run_step(STAGE, ShardState(), beat(1, "market.event"))


def test_a_tally_says_who_said_what_at_what_weight() -> None:
    state = ShardState()
    context = {"low": 0.1, "normal": 0.7, "high": 0.2}
    seen: dict[str, float | None] = {"imbalance_1": 0.4}
    events = [
        *[snapshot_at(1), vote(1, "a", evidence=seen), vote(1, "b", UNIFORM)],
        vote(1, "regime", None, context=context),
    ]
    tally = tallies(state, events + beats(1.5))[0]
    assert tally.key == INSTRUMENT
    assert tally.ballot_id == snapshot_at(1).questions[0].ballot_id
    assert tally.snapshot_id == snapshot_at(1).event_id
    assert tally.grid_time_ns == snapshot_at(1).grid_time_ns
    assert tally.available_at_ns == snapshot_at(1).deadline_ns
    assert (tally.mid, tally.volatility, tally.spread) == (MID, 5e-5, 10**7)
    assert tally.flat_band == snapshot_at(1).questions[0].flat_band
    assert [entry.expert for entry in tally.entries] == ["a", "b", "regime"]
    assert [entry.weight for entry in tally.entries] == pytest.approx([0.4, 0.4, 0.0])
    assert tally.entries[0].evidence == seen
    assert tally.entries[2].abstained is AbstainReason.CONTEXT_ONLY
    assert tally.context == {"regime.low": 0.1, "regime.normal": 0.7, "regime.high": 0.2}
    assert tally.p_up is not None
    assert tally.p_down is not None
    assert UNIFORM[2] < tally.p_up < UP[2]
    assert tally.disagreement is not None
    assert tally.disagreement > 0


def test_a_ballot_without_directions_has_no_probabilities() -> None:
    tally = tallies(ShardState(), [snapshot_at(1), vote(1, "regime", None), *beats(1.5)])[0]
    assert (tally.p_down, tally.p_flat, tally.p_up, tally.disagreement) == (None,) * 4


def test_the_last_live_vote_closes_the_ballot_at_once() -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1), vote(1, "a"), vote(1, "b"), *beats(1.6)])
    assert tallies(state, [vote(2, "a"), snapshot_at(2)]) == []
    (tally,) = tallies(state, [vote(2, "b")])
    assert (tally.closed_by, tally.late, tally.horizon_ns) == ("ALL", (), SHORT)


def test_who_is_late_is_named() -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1), vote(1, "a"), vote(1, "b"), *beats(1.5)])
    closed = tallies(state, [snapshot_at(2), vote(2, "a"), *beats(2.5)])
    assert closed[0].late == ("b",)


def test_a_snapshot_that_is_too_late_already_closes_at_once() -> None:
    closed = tallies(ShardState(), [*beats(100), snapshot_at(1)])
    assert [tally.closed_by for tally in closed] == ["DEADLINE"] * 3


def test_text_fed_experts_together_weigh_at_most_a_tenth() -> None:
    votes = [vote(1, f"news-{number}", UP, text_fed=True) for number in range(5)]
    tally = tallies(ShardState(), [snapshot_at(1), vote(1, "a", UNIFORM), vote(1, "b", UNIFORM), *votes, *beats(1.5)])[
        0
    ]
    assert sum(entry.weight for entry in tally.entries if entry.expert.startswith("news")) == pytest.approx(0.1)


def test_a_request_is_answered_from_the_newest_votes_as_advice() -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1), vote(1, "a"), vote(1, "b", UNIFORM), *beats(1.5)])
    (tally,) = tallies(state, [REQUEST])
    assert (tally.advice_for, tally.request_id, tally.closed_by) == ("curious", "r1", "REQUEST")
    assert [entry.expert for entry in tally.entries] == ["a", "b"]
    assert tally.mid == MID
    (later,) = tallies(state, [*beats(2.1), REQUEST])
    assert later.entries == ()
    assert later.p_up is None
    (other,) = tallies(state, [msgspec.structs.replace(REQUEST, horizon_ns=12345)])
    assert (other.entries, other.p_up, other.horizon_ns) == ((), None, 12345)
    with pytest.raises(BadRecord):
        run_step(STAGE, state, msgspec.structs.replace(REQUEST, key="NOWHERE:X"))


def test_who_votes_on_an_open_ballot_is_let_in_by_a_request() -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1), vote(1, "a")])
    (tally,) = tallies(state, [REQUEST])
    assert [(entry.expert, entry.weight) for entry in tally.entries] == [("a", 0.4)]
    assert list(state[f"{INSTRUMENT}/{SHORT}/weights"].standings) == ["a"]


def test_a_request_before_any_snapshot_gets_an_answer_too() -> None:
    (tally,) = tallies(ShardState(), [REQUEST])
    assert (tally.mid, tally.p_up, tally.entries) == (None, None, ())


@pytest.mark.parametrize(
    "said",
    [
        {"p_down": 0.5, "p_flat": 0.5, "p_up": 0.5},
        {"p_down": -0.2, "p_flat": 0.6, "p_up": 0.6},
        {"p_up": None},
        {"p_down": None, "p_flat": None, "p_up": None},
        {"p_down": float("nan")},
        {"abstained": AbstainReason.NO_EDGE},
    ],
)
def test_a_vote_that_is_no_answer_is_refused_and_changes_nothing(said: dict[str, object]) -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1)])
    before = msgspec.msgpack.encode(dict(state))
    with pytest.raises(BadRecord):
        run_step(STAGE, state, vote(1, "a", UP, **said))
    assert msgspec.msgpack.encode(dict(state)) == before


def test_strangers_cannot_grow_the_state() -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1)])
    huge = {f"{number}" * 50: 1.0 for number in range(5000)} | {f"n{number}": 1.0 for number in range(5000)}
    for number in range(3000):
        tallies(state, [vote(1, f"x{number}", horizon_ns=number + 7)])
        tallies(state, [vote(1, f"x{number}", ballot_id=f"b{number}", evidence=huge if number < 3 else {})])
        tallies(state, [vote(1, f"x{number}")])
    assert state["strays"].votes == 3000
    assert len(state) == 5, "the sheet, three committees and the strays"
    assert len(msgspec.msgpack.encode(dict(state))) < 1_000_000
    closed = tallies(state, beats(1.5))
    assert len(closed[0].entries) == 64


def play_out(ballots: int, seed: int, *, split: int | None = None) -> tuple[ShardState, list[VoteTally]]:
    """Let informed, uniform and native-like experts vote, and score each ballot. ``split``: checkpoint before it."""
    generator = random.Random(seed)
    state, told = ShardState(), []
    for step in range(1, ballots + 1):
        if step == split:
            state = through_a_checkpoint(state)
        outcome = generator.choice((-1, 0, 1))
        said: dict[str, Said | None] = {
            "informed": lean_to(outcome, generator),
            "uniform": UNIFORM,
        }
        for name in ("n1", "n2", "n3"):
            said[name] = lean_to(generator.choice((-1, 0, 1, outcome)), generator)
        said["context"] = None
        votes: list[Event] = [vote(step, name, answer) for name, answer in said.items()]
        closed = tallies(state, [snapshot_at(step), *votes, *beats(step + 0.5)])
        tally = closed[0]
        told.append(tally)
        assert tally.p_down is not None
        assert tally.p_flat is not None
        assert tally.p_up is not None
        pool_loss = loss_of((tally.p_down, tally.p_flat, tally.p_up), outcome)
        voided = BallotVoided(
            key=INSTRUMENT, event_time_ns=0, available_at_ns=0, ballot_id="x", horizon_ns=SHORT, reason="GAP"
        )
        tallies(state, [voided, *[score(step, item, outcome, pool_loss) for item in said.items()]])
    return state, told


def lean_to(outcome: int, generator: random.Random) -> Said:
    right = generator.random() < 0.5
    pick = outcome if right else generator.choice((-1, 0, 1))
    said = [0.25, 0.25, 0.25]
    said[pick + 1] = 0.5
    return (said[0], said[1], said[2])


def through_a_checkpoint(state: ShardState) -> ShardState:
    restored = ShardState()
    for key, value in state.items():
        kind = STAGE.state_type(key)
        restored.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind))
    return restored


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_informed_expert_ends_above_one_over_n_and_a_uniform_one_below(seed: int) -> None:
    _, told = play_out(500, seed)
    entries = {entry.expert: entry for entry in told[-1].entries}
    fair = 1 / len(entries)
    assert entries["informed"].weight > fair
    assert entries["uniform"].weight < fair
    assert entries["informed"].skill is not None
    assert entries["informed"].skill > 0.02
    assert entries["uniform"].skill == pytest.approx(0)


def test_the_same_bytes_with_and_without_checkpoints() -> None:
    whole_state, whole = play_out(40, 9)
    for split in (2, 17, 39):
        state, told = play_out(40, 9, split=split)
        assert msgspec.msgpack.encode(told) == msgspec.msgpack.encode(whole)
        assert msgspec.msgpack.encode(dict(state)) == msgspec.msgpack.encode(dict(whole_state))


def test_only_what_changed_is_touched() -> None:
    state = ShardState()
    tallies(state, [snapshot_at(1), vote(1, "a"), *beats(1.5)])
    state.touched.clear()
    tallies(state, [beat(1.6, "feature.snapshot")])
    assert state.touched == {"clock"}
    tallies(state, [vote(2, "a")])
    assert state.touched == {"clock", f"{INSTRUMENT}/{SHORT}/ballots"}


def test_a_key_of_another_stage_is_refused() -> None:
    with pytest.raises(KeyError):
        STAGE.state_type("account/main")


def test_deadlines_are_half_a_second() -> None:
    assert snapshot_at(1).deadline_ns - snapshot_at(1).grid_time_ns == 500 * NS_PER_MS


def scored(step: int, expert: str, said: Said, outcome: int) -> ExpertScore:
    down, flat, up = said
    return msgspec.structs.replace(
        score(step, (expert, said), outcome, 0.25), p_down=down, p_flat=flat, p_up=up, calibrated_loss=0.25
    )


def test_a_vote_is_pooled_as_it_was_found_to_mean_and_shown_as_it_was_said() -> None:
    """One expert is sure and right half of the time: its 0.9 is read as a half, only from its scores, only later."""
    state, sure = ShardState(), (0.05, 0.05, 0.9)
    (first,) = tallies(state, [snapshot_at(1), vote(1, "sure", sure), *beats(1.6)])[:1]
    assert first.entries[0].calibrated_up == 0.9
    assert first.entries[0].calibration_error is None
    for step in range(2, 400):
        tallies(state, [scored(step, "sure", sure, 1 if step % 2 else -1)])
    (later,) = tallies(state, [snapshot_at(500), vote(500, "sure", sure), *beats(500.6)])[:1]
    (entry,) = later.entries
    assert (entry.p_down, entry.p_flat, entry.p_up) == sure
    assert (entry.calibrated_down, entry.calibrated_up) == pytest.approx((0.5, 0.5), abs=0.2)
    assert entry.calibration_error is not None
    assert 0 < entry.calibration_error < 0.3
    assert later.p_up is not None
    assert first.p_up is not None
    assert later.p_up < first.p_up - 0.1


def test_a_score_without_what_was_said_teaches_no_calibrator() -> None:
    state, sure = ShardState(), (0.05, 0.05, 0.9)
    tallies(state, [snapshot_at(1), vote(1, "sure", sure), *beats(1.6)])
    tallies(state, [score(step, ("sure", sure), -1, 0.25) for step in range(2, 50)])
    (tally,) = tallies(state, [snapshot_at(60), vote(60, "sure", sure), *beats(60.6)])[:1]
    assert tally.entries[0].calibrated_up == 0.9
    assert tally.entries[0].skill is not None
