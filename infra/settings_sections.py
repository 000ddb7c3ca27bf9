"""The sections of the settings, one frozen model each.

Every model refuses keys it does not know, so that a misspelt limit stops the start instead of being ignored. No
field holds a secret: secrets are named by file and read when they are used.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.cloudevents import CloudEventsOn
from schemas.market import InstrumentDefined, Session
from schemas.values import NS_PER_MS, NS_PER_S, units


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _whole_units(value: Decimal) -> Decimal:
    units(value)
    return value


Whole = Annotated[int, BeforeValidator(_not_bool)]
Number = Annotated[Decimal, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Increment = Annotated[Positive, AfterValidator(_whole_units)]
"""A price or quantity that is a multiple of 1e-8."""
Rate = Annotated[Number, Field(ge=Decimal("-0.05"), le=Decimal("0.05"))]
Share = Annotated[Number, Field(gt=0, le=1)]
Milliseconds = Annotated[Whole, Field(gt=0, le=86_400_000)]
Seconds = Annotated[Whole, Field(gt=0, le=86_400)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
InstrumentName = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,32}:[A-Za-z0-9_./-]{1,64}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z0-9]{2,12}$")]
Horizons = Annotated[tuple[Seconds, ...], Field(min_length=1, max_length=16)]


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def read_secret(path: Path) -> str:
    """Return the stripped content of a secret's file. Raises OSError when it cannot be read."""
    return path.read_text(encoding="utf-8").strip()


class RunSettings(Section):
    """One run: where its files lie, what seeds it, whose clock it goes by, how often its shards are kept whole."""

    directory: Path = Path(".tradermind")
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 1
    clock: Literal["wall", "capture"] = "wall"
    snapshot_interval_s: Annotated[Whole, Field(ge=0, le=86_400)] = 300


class KafkaSettings(Section):
    """The broker. Without ``bootstrap`` the embedded one is started. Credentials are files.

    A worker that is behind on a partition and has not moved on it for ``stuck_after_s`` ends, to be started again.
    """

    bootstrap: str | None = None
    instrument_partitions: Annotated[Whole, Field(ge=1, le=512)] = 4
    replication: Annotated[Whole, Field(ge=1, le=9)] = 1
    stuck_after_s: Seconds = 120
    cloudevents: CloudEventsOn = CloudEventsOn.MONEY
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = "PLAINTEXT"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol == "SASL_SSL" and not (self.sasl_username and self.sasl_password_file):
            raise ValueError("SASL_SSL needs sasl_username and sasl_password_file")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


class PostgresSettings(Section):
    """The database. Without ``dsn`` the embedded one is started."""

    dsn: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _password_in_file(self) -> Self:
        if self.dsn is not None:
            try:
                parts = conninfo_to_dict(self.dsn)
            except Exception as error:
                raise ValueError("dsn is not a connection string that libpq understands") from error
            if parts.get("password"):
                raise ValueError("dsn must not hold a password; name a file in password_file")
        return self

    def conninfo(self) -> str | None:
        """Return the connection string with the password from its file; None when the database is embedded."""
        if self.dsn is None or self.password_file is None:
            return self.dsn
        return make_conninfo(self.dsn, password=read_secret(self.password_file))


class InfluxSettings(Section):
    """Where metric points go: a server (``url``) or, without one, line-protocol files in ``directory``."""

    url: str | None = None
    org: str = "tradermind"
    bucket: str = "tradermind"
    token_file: Path | None = None
    directory: Path | None = None
    queue_events: Annotated[Whole, Field(ge=100, le=10_000_000)] = 100_000
    timeout_ms: Milliseconds = 5_000

    @model_validator(mode="after")
    def _token(self) -> Self:
        if self.url is not None and self.token_file is None:
            raise ValueError("url needs token_file")
        return self


class FeedSettings(Section):
    """Where market data comes from. ``instruments`` narrows it; empty means all that the feed has."""

    kind: Literal["simulated", "capture", "binance"] = "simulated"
    paths: tuple[Path, ...] = ()
    speed: Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=1e6)] | Literal["max"] = 1.0
    instruments: tuple[InstrumentName, ...] = ()
    websocket_url: str | None = None
    rest_url: str | None = None

    @model_validator(mode="after")
    def _has_paths(self) -> Self:
        if self.kind == "capture" and not self.paths:
            raise ValueError("kind 'capture' needs paths")
        return self


class VenueSettings(Section):
    """The venue port. Without ``url`` the simulated exchange is started as a process of the run.

    The simulated exchange refuses a request that is ``receive_window_ms`` old, or from more than ``clock_skew_max_ms``
    in the future. ``takeover_wait_ms`` after it was due, an order that no venue knows was never there and never will
    be.
    """

    url: str | None = None
    receive_window_ms: Annotated[Whole, Field(ge=100, le=60_000)] = 2_000
    clock_skew_max_ms: Annotated[Whole, Field(ge=10, le=10_000)] = 1_000
    takeover_wait_ms: Milliseconds = 5_000
    latency_ms: Annotated[Whole, Field(ge=0, le=10_000)] = 5
    # What is done, after a claim, with an order of ours that works at a venue and that the books do not know.
    orphan_orders: Literal["cancel", "adopt", "halt"] = "cancel"
    # With both, requests to the simulated exchange are signed, and it hears no others.
    api_key_file: Path | None = None
    secret_file: Path | None = None

    @property
    def arrives_within_ms(self) -> int:
        """Return how long after it was made a request might still be taken by the exchange, at the worst."""
        return self.receive_window_ms + self.clock_skew_max_ms


class GridSettings(Section):
    """When snapshots are taken, which horizons are asked about, and when a ballot closes at the latest."""

    step_ms: Milliseconds = 1_000
    horizons_s: Horizons = (1, 10, 60)
    ballot_deadline_ms: Milliseconds = 500


class StalenessSettings(Section):
    """How old is too old: a mark, the market data behind it, a decision; and how far in the future is an error."""

    mark_ms: Milliseconds = 2_000
    market_ms: Milliseconds = 5_000
    decision_ms: Milliseconds = 2_000
    future_ms: Milliseconds = 5_000


class SimSettings(Section):
    """The simulated feed: its seed (by default the run's) and its regime: one of four, or a seeded mixture."""

    seed: Annotated[Whole, Field(ge=0, lt=2**63)] | None = None
    regime: Literal["mixed", "trending", "reverting", "quiet", "crash"] = "mixed"


class AccountSettings(Section):
    """One account: the currency of its money and the capital it starts with.

    ``conversion_rates``: what one unit of another quote currency is worth in ``currency``; what is quoted in a
    currency that is not listed cannot be traded.
    """

    name: Name
    currency: Currency = "USD"
    capital: Positive
    conversion_rates: dict[Currency, Positive] = {}


class InstrumentSettings(Section):
    """One instrument, in the units people use: prices and quantities as decimals, rates as fractions.

    ``vpin_bucket`` is the volume of one VPIN bucket; ``quote_fill_max`` the quantity that fills at a quote
    which comes without sizes. ``grid_ms`` and ``horizons_s`` are ``[grid]``'s unless given.
    """

    name: InstrumentName
    tick_size: Increment
    lot_size: Increment
    quantity_min: Increment
    quantity_max: Increment
    notional_min: NotNegative = Decimal(0)
    multiplier: Positive = Decimal(1)
    inverse: bool = False
    base_currency: Currency
    quote_currency: Currency
    maker_fee_rate: Rate
    taker_fee_rate: Rate
    funding_rate: Rate = Decimal(0)
    funding_interval_s: Annotated[Whole, Field(ge=0, le=604_800)] = 0
    shortable: bool = False
    session: Session = Session.CONTINUOUS
    grid_ms: Milliseconds
    horizons_s: Horizons
    vpin_bucket: Increment | None = None
    quote_fill_max: Increment | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.quantity_max < self.quantity_min:
            raise ValueError("quantity_max is below quantity_min")
        if self.quantity_min % self.lot_size or self.quantity_max % self.lot_size:
            raise ValueError("quantity_min and quantity_max must be multiples of lot_size")
        if list(self.horizons_s) != sorted(set(self.horizons_s)):
            raise ValueError("horizons_s must rise")
        if bool(self.funding_rate) and not self.funding_interval_s:
            raise ValueError("funding_rate needs funding_interval_s")
        return self

    def to_event(self, at_ns: int = 0) -> InstrumentDefined:
        """Return the definition as an event of time ``at_ns``, without identity."""
        venue, symbol = self.name.split(":", 1)
        return InstrumentDefined(
            key=self.name,
            event_time_ns=at_ns,
            available_at_ns=at_ns,
            venue=venue,
            symbol=symbol,
            tick_size=units(self.tick_size),
            lot_size=units(self.lot_size),
            quantity_min=units(self.quantity_min),
            quantity_max=units(self.quantity_max),
            notional_min=self.notional_min,
            multiplier=self.multiplier,
            inverse=self.inverse,
            base_currency=self.base_currency,
            quote_currency=self.quote_currency,
            maker_fee_rate=self.maker_fee_rate,
            taker_fee_rate=self.taker_fee_rate,
            funding_rate=self.funding_rate,
            funding_interval_ns=self.funding_interval_s * NS_PER_S,
            shortable=self.shortable,
            session=self.session,
            grid_ns=self.grid_ms * NS_PER_MS,
            horizons_ns=tuple(horizon * NS_PER_S for horizon in self.horizons_s),
        )
