"""A command has its effect once, however often its row is read."""

import msgspec

from agents.control.stage import CommandsSeen, Control
from agents.stage import ShardState, run_step
from schemas.control import ControlAction, ControlCommand, ScopeKind
from schemas.event import Heartbeat
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
