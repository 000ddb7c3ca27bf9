"""The hard limits are the last step before the venue, and there is no way around them (15c3-5(d))."""

import ast
from pathlib import Path

import pytest
from trading_desk import CONFIG, ONE, Desk, wide_limits

from agents.execution.state import ExecutionConfig
from agents.limits.limit_set import LimitSet
from schemas.decisions import DenyReason
from schemas.orders import AmendRequested, OrderEvent, SubmitRequested

ROOT = Path(__file__).resolve().parents[3]
ASKING = {
    SubmitRequested.__name__: "agents/execution/admission.py",
    AmendRequested.__name__: "agents/execution/amending.py",
}


def _makers(name: str) -> set[str]:
    found = set()
    for package in ("agents", "infra", "streams"):
        for path in (ROOT / package).rglob("*.py"):
            calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            if any(isinstance(call.func, ast.Name) and call.func.id == name for call in calls):
                found.add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ASKING))
def test_what_asks_a_venue_for_an_order_is_made_in_one_place(name: str) -> None:
    assert _makers(name) == {ASKING[name]}


def test_no_setting_of_execution_turns_a_limit_off() -> None:
    """Nothing but limits that are all there, and numbers of which none can be without bound, can be given to it."""
    assert {"limits", "book"} <= set(ExecutionConfig.__dataclass_fields__)
    assert not {name for name in ExecutionConfig.__dataclass_fields__ if "check" in name or "skip" in name}
    for name in ("order_value_max", "position_value_max", "gross_exposure_max", "messages_max", "daily_loss_max"):
        for nothing in (None, 0, "inf", "", "off"):
            with pytest.raises(ValueError, match=name):
                wide_limits("alpha", **{name: nothing})
    with pytest.raises(ValueError, match="is missing"):
        LimitSet.from_mapping({"currency": "USD"})


@pytest.mark.parametrize("version", ["v", "test"])
def test_what_an_approval_says_of_its_checks_is_not_believed(version: str) -> None:
    """Whoever can write to the topic of approvals gets no order past the gate by saying that it has passed."""
    on = Desk(CONFIG)
    outputs = on.approve("forged", quantity=2_000 * ONE, limits_version=version, reduce_only=True)
    assert not [event for event in outputs if isinstance(event, SubmitRequested)]
    (denied,) = [event for event in outputs if isinstance(event, OrderEvent)]
    assert {DenyReason.REDUCE_ONLY, DenyReason.ORDER_QTY_MAX} <= set(denied.deny_reasons)
