"""What the decider remembers: time, the market of each instrument, and the target in force on each line."""

from decimal import Decimal
from typing import Final

import msgspec

from agents.reward.shaping import Moments
from schemas.opinions import AlertLevel, MarketMark
from schemas.values import ZERO

CLOCK_KEY: Final = "clock"


class Clock(msgspec.Struct, kw_only=True):
    """*Now*: the newest Heartbeat or mark."""

    now_ns: int = 0


class InstrumentOutlook(msgspec.Struct, kw_only=True):
    """The newest mark of an instrument, its alert level, and whether a HIGH alert still restricts it."""

    mark: MarketMark | None = None
    alert: AlertLevel = AlertLevel.NORMAL
    restricted: bool = False


class LineState(msgspec.Struct, kw_only=True):
    """One (strategy, instrument): the target in force and what became of it.

    ``position`` and ``working`` are signed units of 1e-8. ``satisfied`` says that the order of the decision in
    force has filled whole, ``half_spread`` what was quoted at that decision (a fraction of the mid).
    ``denied_until_ns``: until then the line is taken to be restricted to reducing, since execution has just denied an
    order for its level. ``funding`` is the money paid so far, ``gained`` the net profit and loss so far as a share of
    the budget and ``counted`` what that was at the last decision, None while not known; ``moments`` are of its changes.
    """

    target: float = 0.0
    decision_id: str = ""
    asserted_at_ns: int = 0
    satisfied: bool = True
    position: int = 0
    working: int = 0
    unrealised_pnl: float = 0.0
    ballots: int = 0
    denied_until_ns: int = 0
    half_spread: float | None = None
    funding: Decimal = ZERO
    gained: float | None = None
    counted: float | None = None
    moments: Moments = Moments()


def instrument_key(instrument: str) -> str:
    """Return the state key of an instrument."""
    return f"instrument/{instrument}"


def line_key(strategy: str, instrument: str) -> str:
    """Return the state key of a line."""
    return f"line/{strategy}|{instrument}"


class ShadowLine(LineState, kw_only=True):
    """A line on paper: what a shadow model would hold, as if each of its targets came about at once.

    ``mid`` is that of its last decision, in units of 1e-8.
    """

    mid: int | None = None


def watch_key(sha256: str) -> str:
    """Return the state key of what is watched of a model."""
    return f"watch/{sha256}"


def shadow_prefix(sha256: str) -> str:
    """Return what the state keys of a shadow model's lines begin with."""
    return f"shadow/{sha256}/"


def shadow_key(sha256: str, strategy: str, instrument: str) -> str:
    """Return the state key of a shadow model's line."""
    return f"{shadow_prefix(sha256)}{strategy}|{instrument}"
