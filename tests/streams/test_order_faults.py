"""Orders under faults over the real exchange process: some of the runs of ``make test-orders``."""

from pathlib import Path

import pytest
from order_faults import play, stories

from agents.execution.transitions import LIVE

CHOSEN = (
    "executor killed: PENDING_REPLACE after what follows is sent",
    "exchange killed: PARTIALLY_FILLED before what follows is sent",
    "script: fills taken back",
)


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("name", CHOSEN)
def test_both_sides_agree_and_nothing_is_sent_twice(name: str, tmp_path: Path) -> None:
    (story,) = [story for story in stories() if story.name == name]
    assert play(story, tmp_path).violations == []


def test_each_state_in_which_an_order_can_wait_has_its_kills() -> None:
    killed = {(story.who, story.moment.status) for story in stories() if story.moment}
    assert killed == {(who, status) for who in ("executor", "exchange") for status in LIVE}
