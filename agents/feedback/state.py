"""What feedback remembers, by checkpoint key: time, open ballots and marks by instrument, lots and rewards by line."""

from decimal import Decimal
from typing import Final

import msgspec

from schemas.values import ZERO

CLOCK_KEY: Final = "clock"


class Clock(msgspec.Struct, kw_only=True):
    """*Now*: the newest Heartbeat or mark."""

    now_ns: int = 0


class KeptMark(msgspec.Struct, frozen=True, kw_only=True):
    """A mark that ballots may need: on the grid at its grid time, or a gap seen between two grid times."""

    time_ns: int
    on_grid: bool
    mid: int | None
    gap: bool


class OpenVote(msgspec.Struct, frozen=True, kw_only=True):
    """One expert's entry on an open ballot: what it said and what was pooled of it, null when it abstained."""

    expert: str
    forecast: tuple[float, float, float] | None
    calibrated: tuple[float, float, float] | None = None


class OpenBallot(msgspec.Struct, frozen=True, kw_only=True):
    """A tallied ballot that waits for the mark at its horizon."""

    ballot_id: str
    horizon_ns: int
    grid_time_ns: int
    available_at_ns: int
    flat_band: int
    mid: int | None
    pool: tuple[float, float, float] | None
    votes: tuple[OpenVote, ...]

    @property
    def due_ns(self) -> int:
        """The grid time at whose mark, or the first after it, the ballot is scored."""
        return self.grid_time_ns + self.horizon_ns


class InstrumentBallots(msgspec.Struct, kw_only=True):
    """Open ballots, newest marks and running outcome counts of one instrument.

    ``queues`` and ``counts`` are by horizon in nanoseconds (as text); counts are of (down, flat, up).
    ``forgotten_ns`` is the time of the newest mark that is no longer kept. ``grids`` is tally id -> grid time.
    """

    marks: list[KeptMark] = []
    forgotten_ns: int = 0
    queues: dict[str, list[OpenBallot]] = {}
    counts: dict[str, list[int]] = {}
    grids: dict[str, int] = {}
    outcomes_reported: int = 0


class Lot(msgspec.Struct, kw_only=True):
    """What is left of one opening fill: unsigned quantity, and its share of fee and slippage (quote currency)."""

    quantity: int
    price: int
    time_ns: int
    decision_id: str
    fill_id: str
    fee: Decimal
    slippage: Decimal


class OpenDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision whose reward is not yet known."""

    decision_id: str
    tally_id: str
    available_at_ns: int
    policy: str
    policy_stage: str
    observation: dict[str, float | None]
    intended: float
    horizon_ns: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Running totals of one line at a grid mark, in the account's currency."""

    grid_time_ns: int
    position: int
    mid: int
    pnl: Decimal
    fees: Decimal
    slippage: Decimal


class Line(msgspec.Struct, kw_only=True):
    """One (account, strategy, instrument): open lots, first in first out, and what its decisions have earned.

    ``sign`` is the lots' direction. ``traded``, ``cost`` and ``fees`` are of the fills since the last valued mark:
    signed quantity, its signed value at the fill prices, and fees, in the account's currency.
    """

    sign: int = 0
    lots: list[Lot] = []
    decisions: list[OpenDecision] = []
    accounts: list[Account] = []
    traded: int = 0
    cost: Decimal = ZERO
    fees: Decimal = ZERO


def ballots_key(instrument: str) -> str:
    """Return the state key of an instrument."""
    return f"ballots/{instrument}"


def line_key(account: str, strategy: str, instrument: str) -> str:
    """Return the state key of a line."""
    return f"line/{account}|{strategy}|{instrument}"
