"""What a restore makes of shards: where they go on, under which numbers, and with what leave to trade."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from engine_toys import HOSTINGS, mark
from msgspec.structs import force_setattr

from agents.risk.levels import latched
from agents.stage import ShardState
from infra.postgres.rescales import ShardRow
from infra.postgres.restores import Restore
from infra.settings import load_settings
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.event import Event
from schemas.topics import DECISION, EXPERT_ALERT, INGEST_TRADE, MARKET_EVENT, MARKET_MARK
from schemas.values import Level
from streams.composition import build_stage, compose
from streams.engine.shard import Progress
from streams.restore import RestoreOrder, Shards, at_the_end, input_slots, outboxes_of
from streams.restore_money import MoneyMending, progress_of, state_of, with_state

SETTINGS = Path(__file__).parents[2] / "tradermind.toml"
ERA = 1_700_000_000
BEGUN = Restore("test", "test", ERA, "cluster")
ORDER = RestoreOrder(author="ann", why="the disk broke")
RUN = compose(load_settings(SETTINGS))


def _row(stage: str, shard: str, progress: Progress | None = None) -> ShardRow:
    encoded = b"" if progress is None else msgspec.msgpack.encode(progress)
    return ShardRow(stage, shard, 4, 3, 70, 5, encoded, "cluster", "1", "toy", {})


def test_a_shard_goes_on_at_the_end_of_its_logs_and_its_numbers_go_on() -> None:
    marks, alerts, decisions = f"{MARKET_MARK.name}/0", f"{EXPERT_ALERT.name}/0", f"{DECISION.name}/0"
    before = Progress(next_offsets={marks: 40}, numbers={decisions: 40}, output_ends={decisions: 40}, reached_ns=9)
    before.seen.positions[marks] = {"experts/0": (1, 39)}
    before.silent = {decisions: 7}
    ranges = {(MARKET_MARK.name, 0): (10, 90), (EXPERT_ALERT.name, 0): (5, 6), (DECISION.name, 0): (0, 88)}
    row, passed = at_the_end(_row("decider", "0", before), HOSTINGS["decider"], ranges, BEGUN, 2, outboxes={})
    after = progress_of(row)
    assert after.next_offsets == {marks: 90, alerts: 6}
    assert passed == {marks: [40, 90], alerts: [5, 6]}
    assert (after.numbers, after.output_ends, after.silent) == ({decisions: 40}, {decisions: 88}, {})
    assert (after.seen, after.reached_ns) == (before.seen, 9)
    assert (row.epoch, row.generation, row.batch) == (ERA, ERA, 71)


@pytest.mark.parametrize(
    "positions",
    [{f"{DECISION.name}/0": {"decider/0": (1, 39)}, f"{MARKET_MARK.name}/0": {"experts/0": (1, 39)}}, {}],
    ids=["that it was heard", "that it was not heard yet"],
)
def test_what_an_outbox_of_the_backup_sends_again_is_not_taken_and_what_follows_the_restore_is(
    positions: dict[str, dict[str, tuple[int, int]]],
) -> None:
    decisions, marks = f"{DECISION.name}/0", f"{MARKET_MARK.name}/0"
    outboxes = outboxes_of(HOSTINGS, [("decider", "0"), ("experts", marks)], 2)
    assert decisions in outboxes and marks not in outboxes
    before = Progress(next_offsets={decisions: 40, marks: 40})
    before.seen.positions = positions
    ranges = {(DECISION.name, 0): (10, 90), (MARKET_MARK.name, 0): (10, 90)}
    row, _ = at_the_end(_row("feedback", "0", before), HOSTINGS["feedback"], ranges, BEGUN, 2, outboxes=outboxes)
    seen = progress_of(row).seen
    assert not seen.is_new(decisions, _numbered("decider/0", 1, 40)), "out of an outbox, once more"
    assert seen.is_new(decisions, _numbered("decider/0", ERA, 1))
    assert seen.is_new(marks, _numbered("experts/0", 1, 40)), "who has no outbox sends nothing once more"


def _numbered(source: str, generation: int, seq: int) -> Event:
    event = mark("A", 1, 1, 1)
    for name, value in (("source", source), ("generation", generation), ("seq", seq)):
        force_setattr(event, name, value)
    return event


def test_a_shard_that_nobody_remembers_has_a_place_too() -> None:
    row, passed = at_the_end(
        _row("decider", "0"), HOSTINGS["decider"], {(MARKET_MARK.name, 0): (3, 3)}, BEGUN, 2, outboxes={}
    )
    assert row.progress, "it is not a shard that begins with the log"
    assert passed == {}
    assert progress_of(row).next_offsets == {f"{MARKET_MARK.name}/0": 3}


def test_every_shard_is_known_by_what_it_reads() -> None:
    assert input_slots(HOSTINGS["experts"], f"{MARKET_EVENT.name}/1") == [(MARKET_EVENT.name, 1)]
    assert input_slots(HOSTINGS["ingress.trade"], f"{INGEST_TRADE.name}/0") == [(INGEST_TRADE.name, 0)]
    assert input_slots(HOSTINGS["feedback"], "0") == [(DECISION.name, 0), (MARKET_MARK.name, 0)]


def _shards() -> Shards:
    return {(stage, "0"): _row(stage, "0") for stage in ("execution", "risk", "feedback")}


def _mended(shards: Shards) -> tuple[Shards, dict[str, Any]]:
    mending = MoneyMending(RUN, cast(Any, None), ORDER, without_orders=True)
    return mending.states(cast(Any, None), shards, {("tradermind.order.approved.v1", 0): (0, 0)})


def _level(shards: Shards, stage: str) -> object:
    state = state_of(build_stage(RUN, stage), shards[stage, "0"])
    return latched(state, "ACCOUNT/main") if stage == "risk" else state["desk"].levels["ACCOUNT|main"]


def test_every_account_begins_in_reducing_for_risk_and_for_execution() -> None:
    mended, report = _mended(_shards())
    accounts = sorted(RUN.settings.accounts)
    assert report["reducing"] == accounts
    assert report["orders"] == []
    assert {_level(mended, stage) for stage in ("risk", "execution")} == {Level.REDUCING}
    risk = state_of(build_stage(RUN, "risk"), mended["risk", "0"])
    assert risk["levels"].causes["ACCOUNT/main"] == "ann: restore: the disk broke"


def test_an_account_that_a_person_had_halted_stays_halted() -> None:
    shards = _shards()
    halt = ControlCommand(
        key="c", event_time_ns=1, available_at_ns=1, command_id="c", author="bob", reason="no",
        action=ControlAction.SET_LEVEL, scope=ScopeKind.ACCOUNT, target="main", level=Level.HALTED,
    )  # fmt: skip
    for name in ("risk", "execution"):
        state = ShardState()
        build_stage(RUN, name).step(state, halt)
        shards[name, "0"] = with_state(shards[name, "0"], state)
    mended, report = _mended(shards)
    assert "main" not in report["reducing"]
    assert {_level(mended, stage) for stage in ("risk", "execution")} == {Level.HALTED}


def test_of_what_is_told_again_the_record_gets_what_the_backup_had_numbered() -> None:
    shards = _shards()
    numbers = {"tradermind.account.event.v1/0": 12, "tradermind.feedback.trade.v1/0": 5}
    for name in ("execution", "feedback"):
        encoded = msgspec.msgpack.encode(Progress(numbers=numbers))
        shards[name, "0"] = replace(shards[name, "0"], progress=encoded)
    _, report = _mended(shards)
    assert report["recorded_to"] == {
        "tradermind.account.event.v1": [3, 12],
        "tradermind.feedback.trade.v1": [3, 5],
    }
