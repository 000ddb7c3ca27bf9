"""What the simulated exchange lists: a shortable perpetual with funding, and a spot pair that cannot be sold short."""

from decimal import Decimal
from typing import Any, Final

from schemas.market import InstrumentDefined, Session
from schemas.values import NS_PER_S, units

_SHARED: Final[dict[str, Any]] = {
    "event_time_ns": 0,
    "available_at_ns": 0,
    "venue": "SIM",
    "multiplier": Decimal(1),
    "inverse": False,
    "quote_currency": "USD",
    "notional_min": Decimal(10),
    "maker_fee_rate": Decimal("0.0000"),
    "taker_fee_rate": Decimal("0.0002"),
    "session": Session.CONTINUOUS,
    "grid_ns": NS_PER_S,
    "horizons_ns": (NS_PER_S, 10 * NS_PER_S, 60 * NS_PER_S),
}

BTCUSD: Final = InstrumentDefined(
    key="SIM:BTCUSD",
    symbol="BTCUSD",
    tick_size=units("0.5"),
    lot_size=units("0.0001"),
    quantity_min=units("0.0001"),
    quantity_max=units("100"),
    base_currency="BTC",
    funding_rate=Decimal("0.0001"),
    funding_interval_ns=3_600 * NS_PER_S,
    shortable=True,
    **_SHARED,
)
ETHUSD: Final = InstrumentDefined(
    key="SIM:ETHUSD",
    symbol="ETHUSD",
    tick_size=units("0.05"),
    lot_size=units("0.001"),
    quantity_min=units("0.001"),
    quantity_max=units("1000"),
    base_currency="ETH",
    funding_rate=Decimal(0),
    funding_interval_ns=0,
    shortable=False,
    **_SHARED,
)
SIM_INSTRUMENTS: Final = {BTCUSD.key: BTCUSD, ETHUSD.key: ETHUSD}
START_PRICES: Final = {BTCUSD.key: units("60000"), ETHUSD.key: units("3000")}
