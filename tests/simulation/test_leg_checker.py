"""The checker of legs finds one that has traded beyond its position, and says nothing of those that have not."""

import pytest
from money_events import ONE, fill

from schemas.values import Leg, Side
from streams.simulation.money import leg_violations


@pytest.mark.parametrize(
    ("side", "leg", "after", "found"),
    [
        (Side.SELL, Leg.STOP_LOSS, 0, 0),
        (Side.SELL, Leg.STOP_LOSS, ONE, 0),
        (Side.SELL, Leg.STOP_LOSS, -1, 1),
        (Side.BUY, Leg.TAKE_PROFIT, 1, 1),
        (Side.BUY, Leg.OVERFILL, -ONE, 0),
        (Side.SELL, None, -ONE, 0),
    ],
)
def test_a_leg_beyond_its_position_is_found(side: Side, leg: Leg | None, after: int, found: int) -> None:
    assert len(list(leg_violations([fill(1, side, ONE, ONE, leg=leg, position_after=after)]))) == found
