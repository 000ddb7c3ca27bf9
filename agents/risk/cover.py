"""How a line is covered: what it holds, what else could close it, and the legs that protect it.

All that works on the closing side never comes to more than the position: whatever fills, in any order, closes it and
goes no further. A leg counts until execution says that it is over, however long ago its cancel was asked for.
"""

from dataclasses import dataclass

import msgspec

from agents.limits.exposure import AccountExposure, ExposureLine
from agents.limits.working import WorkingOrder
from agents.risk.leg_prices import closing_side
from schemas.values import Side

LEGS_MAX = 4
"""So many legs a line may have before small ones are joined: a venue takes only so many stops."""


@dataclass(frozen=True, slots=True)
class Cover:
    """One line. ``line`` counts everything that works, ``legs`` are those of it that only protect."""

    line: ExposureLine
    legs: tuple[WorkingOrder, ...]

    @property
    def held(self) -> int:
        """The signed position."""
        return self.line.position

    @property
    def side(self) -> Side:
        """The side that closes the position."""
        return closing_side(self.held)

    @property
    def standing(self) -> list[WorkingOrder]:
        """The legs that can close the position and have not been asked to go, oldest first."""
        return [leg for leg in self.legs if self.held and leg.side is self.side and not leg.cancelling]

    @property
    def room(self) -> int:
        """How much of the position nothing that works could close, unsigned."""
        closing = self.line.sells if self.held > 0 else self.line.buys
        return max(0, abs(self.held) - closing)

    @property
    def without_legs(self) -> ExposureLine:
        """The line as if no leg worked."""
        buys = sum(leg.leaves for leg in self.legs if leg.side is Side.BUY)
        sells = sum(leg.leaves for leg in self.legs if leg.side is Side.SELL)
        return msgspec.structs.replace(self.line, buys=self.line.buys - buys, sells=self.line.sells - sells)

    def misplaced(self) -> tuple[str, ...]:
        """Return the legs that could trade beyond the position: on its own side, or too many, newest first."""
        wrong = [leg for leg in self.legs if not leg.cancelling and (not self.held or leg.side is not self.side)]
        plain = self.without_legs
        others = plain.sells if self.held > 0 else plain.buys
        over = sum(leg.leaves for leg in self.standing) - max(0, abs(self.held) - others)
        for leg in reversed(self.standing):
            if over <= 0:
                break
            wrong.append(leg)
            over -= leg.leaves
        return _resting(wrong)

    def crowded(self) -> tuple[str, ...]:
        """Return the legs that are to be joined into one, when there are too many and it would be no larger one."""
        standing = sorted(self.standing, key=lambda leg: leg.leaves)
        if len(standing) <= LEGS_MAX or standing[0].leaves + standing[1].leaves > standing[-1].leaves:
            return ()
        return _resting(standing[:2])

    def all_resting(self) -> tuple[str, ...]:
        """Return every leg that must be asked to go."""
        return _resting([leg for leg in self.legs if not leg.cancelling])

    def waiting_stops(self) -> tuple[str, ...]:
        """Return the legs that still wait for their stop price."""
        return tuple(leg.order_id for leg in self.standing if leg.stop_price is not None)


def cover_of(exposure: AccountExposure, strategy: str, instrument: str) -> Cover:
    """Return how a line is covered."""
    line = exposure.line(strategy, instrument)
    legs = tuple(
        order
        for order in exposure.working.values()
        if order.leg is not None and order.strategy == strategy and order.instrument == instrument
    )
    return Cover(line, legs)


def _resting(legs: list[WorkingOrder]) -> tuple[str, ...]:
    # What takes at once is over before a cancel could reach it.
    return tuple(leg.order_id for leg in legs if leg.rests)
