"""What other systems may write: ``tradermind.ingest.*.v1``. Plain records, without our provenance.

``event_id`` is the writer's own and dedupes a re-send within a bounded window. Prices and quantities are integers
in units of 1e-8; times are nanoseconds since the Unix epoch. The record key is free: we re-key by instrument.
"""

from typing import Annotated

import msgspec

from schemas.event import Event
from schemas.values import Side

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Time = Annotated[int, msgspec.Meta(gt=0)]
Price = Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]
Quantity = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Prices = Annotated[tuple[Price, ...], msgspec.Meta(max_length=10_000)]
Quantities = Annotated[tuple[Quantity, ...], msgspec.Meta(max_length=10_000)]


class IngressRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the public records. ``instrument`` is ``VENUE:SYMBOL``."""

    event_id: Name
    instrument: Name
    event_time_ns: Time


class IngestTrade(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A trade seen by another system."""

    trade_id: Name
    price: Price
    quantity: Quantity | None = None
    aggressor: Side | None = None


class IngestQuote(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A best bid and ask seen by another system."""

    bid_price: Price | None = None
    bid_quantity: Quantity | None = None
    ask_price: Price | None = None
    ask_quantity: Quantity | None = None


class IngestDepth(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A change of depth; with ``snapshot`` the whole book as of ``last_update_id``."""

    first_update_id: int
    last_update_id: int
    snapshot: bool = False
    bid_prices: Prices = ()
    bid_quantities: Quantities = ()
    ask_prices: Prices = ()
    ask_quantities: Quantities = ()


class IngestVote(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A foreign expert's answer to one ballot: three probabilities that sum to 1, or none of them to abstain."""

    ballot_id: Name
    expert: Name
    horizon_ns: Time
    expires_at_ns: Time
    p_down: Probability | None = None
    p_flat: Probability | None = None
    p_up: Probability | None = None
    text_fed: bool = False
    evidence: dict[str, float | None] = {}


class IngestRequest(IngressRecord, frozen=True, kw_only=True, gc=False):
    """A strategy's question to the committee; answered by a decision marked as advice."""

    request_id: Name
    strategy: Name
    horizon_ns: Time


class IngestOutcome(IngressRecord, frozen=True, kw_only=True, gc=False):
    """What became of a decision, as another system knows it."""

    decision_id: Name
    kind: Name
    value: float
    note: str = ""


class IngressEnvelope(Event, frozen=True, kw_only=True, gc=False):
    """A public record on its way into the ingress stage; never encoded, it has no topic.

    The wrapper makes it: ``key`` is the record's instrument, ``event_id`` the topic and the writer's id together,
    ``event_time_ns`` the record's own, and ``available_at_ns`` the time stamp that the broker gave it.
    """

    record: IngressRecord
