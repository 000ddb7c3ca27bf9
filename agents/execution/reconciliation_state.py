"""What execution keeps of the comparison with its venues: who has answered, and what still differs."""

import enum
from typing import Final

import msgspec

STATE_KEY: Final = "reconciliation"


class Doubt(enum.StrEnum):
    """Every way in which a venue and our books can differ. All but FOREIGN_ORDER keep trading blocked."""

    NOT_ANSWERED = "NOT_ANSWERED"
    ORDER_MISSING = "ORDER_MISSING"
    ORDER_DIFFERS = "ORDER_DIFFERS"
    ORDER_OPEN_THERE = "ORDER_OPEN_THERE"
    ORPHAN_ORDER = "ORPHAN_ORDER"
    FILL_MISSING_HERE = "FILL_MISSING_HERE"
    FILL_MISSING_THERE = "FILL_MISSING_THERE"
    POSITION = "POSITION"
    BALANCE = "BALANCE"
    FOREIGN_ORDER = "FOREIGN_ORDER"


class OrphanPolicy(enum.StrEnum):
    """What is done with an order of ours that works at a venue and is not in the books."""

    CANCEL = "cancel"
    ADOPT = "adopt"
    HALT = "halt"


class BookDifference(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that differs: its kind, its instrument (an asset for BALANCE), its name, and both sides as text."""

    kind: Doubt
    instrument: str
    name: str
    ours: str | None = None
    theirs: str | None = None

    @property
    def blocks(self) -> bool:
        """Whether nothing may be traded before it is gone: another's order on our account is not ours to wait for."""
        return self.kind is not Doubt.FOREIGN_ORDER


class VenueStanding(msgspec.Struct, kw_only=True):
    """One venue: the newest question and answer by their attempts (0: none), and what the answer differs in.

    ``ask_at_ns`` is when it is asked again (0: never), ``asked_at_ns`` when the newest question was put.
    """

    instruments: list[str]
    attempt: int = 0
    answered: int = 0
    asked_at_ns: int = 0
    ask_at_ns: int = 0
    clean: bool = False
    differences: list[BookDifference] = []


class ReconciliationState(msgspec.Struct, kw_only=True):
    """The comparison that a claim began; ``clean_at_ns`` is when its last venue agreed, 0 as long as one does not."""

    epoch: int
    began_at_ns: int
    venues: dict[str, VenueStanding]
    clean_at_ns: int = 0

    def missing(self) -> list[BookDifference]:
        """Return everything that is not as it should be, in a fixed order; a venue that is silent is named, too."""
        found = [
            BookDifference(kind=Doubt.NOT_ANSWERED, instrument="", name=name, ours=f"asked {one.attempt} times")
            for name, one in self.venues.items()
            if not one.answered
        ]
        return sorted([*found, *(item for one in self.venues.values() for item in one.differences)])
