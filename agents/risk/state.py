"""What risk remembers: time and latches, the newest mark of each instrument, the exposure of each account."""

from typing import Final

import msgspec

from agents.limits.exposure import AccountExposure
from agents.limits.windows import PriceRange
from schemas.decisions import Decision
from schemas.opinions import MarketMark
from schemas.values import Level, OrderType

LEVELS_KEY: Final = "levels"


class Levels(msgspec.Struct, kw_only=True):
    """*Now*, and the latched levels by scope (``GLOBAL``, ``ACCOUNT/main``, ...) with who latched each, and why.

    ``since_ns`` is when each was latched. ``clock_ns`` is the newest reading of this worker's own clock, 0 where a
    capture's clock rules.
    """

    now_ns: int = 0
    clock_ns: int = 0
    since_ns: dict[str, int] = {}
    levels: dict[str, Level] = {}
    causes: dict[str, str] = {}


class InstrumentRisk(msgspec.Struct, kw_only=True):
    """The newest mark of an instrument, its mids of late, and whether an alert restricts it to reducing."""

    mark: MarketMark | None = None
    mids: PriceRange = msgspec.field(default_factory=PriceRange)
    restricted: bool = False


class Flattening(msgspec.Struct, kw_only=True):
    """A line that is being closed by order of a person: which command, and how often it was tried.

    ``denials`` counts those in a row; the next try waits the longer the more there were.
    """

    decision_id: str
    attempt: int = 0
    denials: int = 0
    next_try_ns: int = 0


class Protection(msgspec.Struct, kw_only=True):
    """What protects one line, beside the legs that work (those are in the exposure).

    ``parent_order_id`` and ``decision_id`` are of the newest order that made the position. ``waiting`` is a decision
    whose order can leave only once the legs have gone. ``filled`` is what each leg of late has filled, ``overfill`` the
    signed quantity that takes back what legs have traded beyond the position. ``failures`` counts legs in a row that
    came to nothing, the newest, of ``failed_type``, at ``failed_at_ns``, ``rejections`` those that the venue has
    rejected since the line was flat.
    """

    parent_order_id: str | None = None
    decision_id: str = ""
    waiting: Decision | None = None
    filled: dict[str, int] = {}
    overfill: int = 0
    count: int = 0
    failures: int = 0
    rejections: int = 0
    failed_at_ns: int = 0
    failed_type: OrderType | None = None
    next_try_ns: int = 0
    next_profit_ns: int = 0


class AccountRisk(msgspec.Struct, kw_only=True):
    """One account: its exposure, the lines being flattened or protected (``strategy|instrument``), and counts of
    verdicts.

    ``unchanged`` counts targets that came to no whole lot and so to no order.
    """

    exposure: AccountExposure
    flattening: dict[str, Flattening] = {}
    protections: dict[str, Protection] = {}
    approved: int = 0
    denied: int = 0
    unchanged: int = 0


def account_key(account: str) -> str:
    """Return the state key of an account."""
    return f"account/{account}"


def instrument_key(instrument: str) -> str:
    """Return the state key of an instrument."""
    return f"instrument/{instrument}"


def line_key(strategy: str, instrument: str) -> str:
    """Return the name of a line within its account's state."""
    return f"{strategy}|{instrument}"
