"""What other systems may write: ``tradermind.ingest.*.v1``. Plain records, without our provenance.

``event_id`` is the writer's own and dedupes a re-send within a bounded window. Prices and quantities are integers
in units of 1e-8; times are nanoseconds since the Unix epoch. The record key is free: we re-key by instrument.
"""

import msgspec

from schemas.values import Side


class IngressRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the public records. ``instrument`` is ``VENUE:SYMBOL``."""

    event_id: str
    instrument: str
    event_time_ns: int


class IngestTrade(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A trade seen by another system."""

    trade_id: str
    price: int
    quantity: int | None = None
    aggressor: Side | None = None


class IngestQuote(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A best bid and ask seen by another system."""

    bid_price: int | None = None
    bid_quantity: int | None = None
    ask_price: int | None = None
    ask_quantity: int | None = None


class IngestDepth(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A change of depth; with ``snapshot`` the whole book as of ``last_update_id``."""

    first_update_id: int
    last_update_id: int
    snapshot: bool = False
    bid_prices: tuple[int, ...] = ()
    bid_quantities: tuple[int, ...] = ()
    ask_prices: tuple[int, ...] = ()
    ask_quantities: tuple[int, ...] = ()


class IngestVote(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A foreign expert's answer to one ballot: three probabilities that sum to 1, or none of them to abstain."""

    ballot_id: str
    expert: str
    horizon_ns: int
    expires_at_ns: int
    p_down: float | None = None
    p_flat: float | None = None
    p_up: float | None = None
    text_fed: bool = False
    evidence: dict[str, float | None] = {}


class IngestRequest(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A strategy's question to the committee; answered by a decision marked as advice."""

    request_id: str
    strategy: str
    horizon_ns: int


class IngestOutcome(IngressRecord, frozen=True, kw_only=True, gc=False):
    """What became of a decision, as another system knows it."""

    decision_id: str
    kind: str
    value: float
    note: str = ""
