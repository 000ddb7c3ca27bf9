"""The simulated venue's settings, its script of faults, and all that it must not lose."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from agents.sim.engine import VenueOrder
from schemas.market import InstrumentDefined
from schemas.orders import AmendRequested, CancelRequested, SubmitRequested, VenueReport
from schemas.values import NS_PER_MS, NS_PER_S, ZERO, money, notional


class FaultKind(enum.StrEnum):
    """What can go wrong at a venue, on purpose. BUST_FILLS takes each fill back after ``delay_ns``.

    OUTAGE: with that request the venue is away for ``delay_ns``. THROTTLE: it is to come again after ``delay_ns``.
    """

    DROP_ACK = "DROP_ACK"
    DROP_REPORTS = "DROP_REPORTS"
    DUPLICATE_FILLS = "DUPLICATE_FILLS"
    DELAY_REPORTS = "DELAY_REPORTS"
    DROP_RESPONSE = "DROP_RESPONSE"
    LOSE_REQUEST = "LOSE_REQUEST"
    REJECT = "REJECT"
    DISCONNECT = "DISCONNECT"
    OUTAGE = "OUTAGE"
    THROTTLE = "THROTTLE"
    LOSE_AMEND = "LOSE_AMEND"
    DROP_REPLACED = "DROP_REPLACED"
    BUST_FILLS = "BUST_FILLS"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that befalls the ``order_number``-th order (from 1), or with ``every`` each so-many-th order."""

    kind: FaultKind
    order_number: int = 0
    every: int = 0
    delay_ns: int = 0

    def befalls(self, number: int) -> bool:
        """Tell whether it befalls the order of this number."""
        return number == self.order_number or (self.every > 0 and number % self.every == 0)


@dataclass(frozen=True, kw_only=True)
class VenueTerms:
    """The venue's settings. A request takes ``latency_ns`` plus up to ``jitter_ns`` to arrive, a report as long back.

    A request older than ``receive_window_ns``, or than it says itself, when it arrives is rejected, and so is one from
    more than ``clock_ahead_max_ns`` in the future. With ``fences_epochs`` whoever has an older epoch than the newest
    seen is rejected, too; real venues know no epochs. ``name`` goes into the ids of reports.
    """

    instruments: Mapping[str, InstrumentDefined]
    name: str
    seed: int = 0
    latency_ns: int = 5 * NS_PER_MS
    jitter_ns: int = 5 * NS_PER_MS
    receive_window_ns: int = 2 * NS_PER_S
    clock_ahead_max_ns: int = NS_PER_S
    fences_epochs: bool = True
    faults: tuple[Fault, ...] = ()

    def strikes(self, kind: FaultKind, number: int) -> bool:
        """Tell whether the script has a fault befall the order of this number; 0 is no order."""
        return any(fault.kind is kind and fault.befalls(number) for fault in self.faults if number)


class VenueAccount(msgspec.Struct):
    """The venue's own record of an account. ``cash`` is by currency: all that came in less all that went out.

    Positions are per instrument and signed, in units of 1e-8; for perpetuals ``cash`` holds the full notional too,
    so that cash plus positions at any price is the account's gain at that price. Funding is apart, by currency and,
    in ``funding_by``, by instrument.
    """

    positions: dict[str, int] = {}
    cash: dict[str, Decimal] = {}
    fees: dict[str, Decimal] = {}
    funding: dict[str, Decimal] = {}
    funding_by: dict[str, Decimal] = {}


class Bust(msgspec.Struct, frozen=True):
    """A fill of an order that is to be taken back."""

    order_id: str
    fill_id: str


class Action(msgspec.Struct, kw_only=True):
    """A request on its way to the matching engine, due at ``due_ns``; ``window_ns``: how old it may be by then."""

    due_ns: int
    serial: int
    sent_ns: int
    epoch: int
    window_ns: int | None = None
    submit: SubmitRequested | None = None
    cancel: CancelRequested | None = None
    amend: AmendRequested | None = None
    bust: Bust | None = None


class Outgoing(msgspec.Struct, kw_only=True):
    """A report on its way to the client. ``serial`` names it in the record before it has a sequence number."""

    due_ns: int
    serial: int
    report: VenueReport


class VenueState(msgspec.Struct):
    """All that the account side knows. It is rebuilt from the exchange's own record after a crash."""

    orders: dict[str, VenueOrder] = {}
    accounts: dict[str, VenueAccount] = {}
    actions: list[Action] = []
    outgoing: list[Outgoing] = []
    funding_index: dict[str, int] = {}
    now_ns: int = 0
    epoch: int = 0
    serial: int = 0
    order_number: int = 0
    fill_number: int = 0
    report_sequence: int = 0
    last_due_ns: int = 0
    disconnects: int = 0


class VenueChanges:
    """What has happened since the record was last written: orders changed, reports made, and reports sent.

    ``sent`` holds (serial, sequence, report); ``planned`` is what the script has put on its way.
    """

    __slots__ = ("created", "orders", "planned", "sent")

    def __init__(self) -> None:
        self.orders: dict[str, VenueOrder] = {}
        self.created: list[Outgoing] = []
        self.sent: list[tuple[int, int, VenueReport]] = []
        self.planned: list[Action] = []

    def __bool__(self) -> bool:
        return bool(self.orders or self.created or self.sent or self.planned)

    def clear(self) -> None:
        """Forget what has been written down."""
        self.orders.clear()
        self.created.clear()
        self.sent.clear()
        self.planned.clear()


def settle_fill(account: VenueAccount, instrument: InstrumentDefined, signed: int, value: Decimal) -> None:
    """Book a fill in the venue's own record; ``value`` has the sign of ``signed``."""
    currency = instrument.quote_currency
    account.positions[instrument.key] = account.positions.get(instrument.key, 0) + signed
    account.cash[currency] = account.cash.get(currency, ZERO) - value


def settle_fee(account: VenueAccount, currency: str, fee: Decimal) -> None:
    """Book a fee."""
    account.cash[currency] = account.cash.get(currency, ZERO) - fee
    account.fees[currency] = account.fees.get(currency, ZERO) + fee


def settle_funding(account: VenueAccount, instrument: InstrumentDefined, mid: int, times: int) -> Decimal:
    """Charge a position's holder for ``times`` funding times at ``mid``; a negative rate pays him. No position: 0."""
    held = account.positions.get(instrument.key, 0)
    paid = money(notional(mid, held, instrument.multiplier) * instrument.funding_rate * times)
    currency = instrument.quote_currency
    if paid:
        account.funding[currency] = account.funding.get(currency, ZERO) + paid
        account.funding_by[instrument.key] = account.funding_by.get(instrument.key, ZERO) + paid
    return paid
