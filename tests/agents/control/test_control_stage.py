"""A command has its effect once, however often its row is read."""

import msgspec

from agents.control.stage import CommandsSeen, Control
from agents.stage import ShardState, run_step
from schemas.changes import ChangeRefusal, Examined
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.event import Heartbeat
from schemas.feedback import ModelRelease, ReleaseStage
from schemas.values import Level


def _command(command_id: str) -> ControlCommand:
    return ControlCommand(
        key=command_id,
        event_time_ns=1,
        available_at_ns=1,
        event_id=command_id,
        command_id=command_id,
        author="ann",
        reason="test",
        action=ControlAction.SET_LEVEL,
        scope=ScopeKind.GLOBAL,
        target="*",
        level=Level.HALTED,
    )


def test_each_command_is_passed_on_once_and_in_order() -> None:
    stage, state = Control(), ShardState()
    passed = []
    for command_id in ("a", "b", "a", "c", "b"):
        state, outputs = run_step(stage, state, _command(command_id))
        passed += [output.command_id for output in outputs if isinstance(output, ControlCommand)]
    assert passed == ["a", "b", "c"]


def test_what_was_seen_survives_a_checkpoint() -> None:
    stage, state = Control(), ShardState()
    run_step(stage, state, _command("a"))
    again = ShardState()
    for key, value in state.items():
        again.restore(key, msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=stage.state_type(key)))
    assert isinstance(again["commands"], CommandsSeen)
    assert run_step(stage, again, _command("a"))[1] == ()
    assert len(run_step(stage, again, _command("b"))[1]) == 1


def test_time_alone_does_nothing() -> None:
    assert run_step(Control(), ShardState(), Heartbeat(key="x", event_time_ns=1, available_at_ns=1))[1] == ()


def _release(command_id: str, refusal: ChangeRefusal | None = None, change: str = "") -> Examined:
    wanted = _command(command_id)
    command = msgspec.structs.replace(
        wanted,
        action=ControlAction.RELEASE_MODEL,
        target="ab" * 32,
        level=None,
        model="swan",
        release_stage=ReleaseStage.SHADOW,
        change=change,
    )
    return Examined(
        key=command_id, event_time_ns=1, available_at_ns=1, event_id=command_id, command=command, refusal=refusal
    )


def test_a_model_is_released_once_and_only_when_it_was_examined() -> None:
    stage, state = Control(), ShardState()
    _, (told, released) = run_step(stage, state, _release("a"))
    assert isinstance(told, ControlCommand)
    assert told.refusal is None
    assert isinstance(released, ModelRelease)
    assert (released.model, released.sha256, released.release_stage) == ("swan", "ab" * 32, ReleaseStage.SHADOW)
    assert (released.author, released.reason) == ("ann", "test")
    assert run_step(stage, state, _release("a"))[1] == ()
    for event, refusal in (
        (_release("b").command, ChangeRefusal.NOT_EXAMINED),
        (_release("c", ChangeRefusal.GATE_NOT_PASSED), ChangeRefusal.GATE_NOT_PASSED),
    ):
        (refused,) = run_step(stage, state, event)[1]
        assert isinstance(refused, ControlCommand)
        assert refused.refusal == refusal


def test_signatures_are_good_for_one_release() -> None:
    stage, state = Control(), ShardState()
    assert len(run_step(stage, state, _release("a", ChangeRefusal.EXPIRED, change="signed"))[1]) == 1
    assert len(run_step(stage, state, _release("b", change="signed"))[1]) == 2
    (again,) = run_step(stage, state, _release("c", change="signed"))[1]
    assert isinstance(again, ControlCommand)
    assert again.refusal == ChangeRefusal.ALREADY_APPLIED
