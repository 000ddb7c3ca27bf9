"""A seed as a run: the platform's settings, how its stages are spread over processes, and what the venue does wrong."""

import random
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from agents.sim.market import MarketTerms, SimulatedMarket
from agents.sim.venue_state import Fault, FaultKind, VenueTerms
from infra.settings import Settings
from schemas.values import NS_PER_MS, to_decimal
from streams.composition import Run, compose
from streams.simulation.venue import EndingEngine
from streams.simulation.virtual_time import EPOCH_NS

PARTITIONS: Final = 2
INGRESS: Final = ("ingress.trade", "ingress.vote")
FOREIGN_INSTRUMENT: Final = "EXT:GOLD"
STAGES: Final = ("experts", "voting", "decider", "risk", "execution", "feedback")
_LAYOUTS: Final = (
    (("experts",), ("voting",), ("decider", "risk", "execution", "feedback")),
    (("experts",), ("voting",), ("decider",), ("risk",), ("execution",), ("feedback",)),
    (("experts", "voting"), ("decider", "feedback"), ("risk", "execution")),
)
_VENUE_FAULTS: Final = (
    FaultKind.DROP_ACK,
    FaultKind.DUPLICATE_FILLS,
    FaultKind.DELAY_REPORTS,
    FaultKind.LOSE_REQUEST,
    FaultKind.REJECT,
)
_PROTECTIONS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "stop": {"stop_loss": 0.00006},
    "limit": {"stop_loss": 0.00006, "stop_limit": 0.0001},
    "bracket": {"stop_loss": 0.0001, "take_profit": 0.000005},
}
"""So near that stops are reached and profits are taken within the seconds of a run."""
_STEP_NS: Final = 100 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is: everything that the seed decides before the first event."""

    seed: int
    events: int
    run: Run
    layout: tuple[tuple[str, ...], ...]
    venue_faults: tuple[Fault, ...]
    heartbeat_ms: int
    snapshot_s: float

    def venue_terms(self) -> VenueTerms:
        """Return the venue's settings."""
        settings = self.run.settings.venue
        return VenueTerms(
            instruments=self.run.instruments,
            name="SIM",
            seed=self.seed,
            latency_ns=settings.latency_ms * NS_PER_MS,
            receive_window_ns=settings.receive_window_ms * NS_PER_MS,
            faults=self.venue_faults,
        )

    def engine(self) -> EndingEngine:
        """Return the market that our orders meet."""
        instruments = tuple(self.run.instruments[name] for name in sorted(self.run.fed))
        terms = MarketTerms(
            instruments=instruments,
            start_prices={item.key: START_PRICES[item.key] for item in instruments},
            seed=self.seed,
            start_ns=EPOCH_NS,
            step_ns=_STEP_NS,
        )
        return EndingEngine(SimulatedMarket(terms))


def plan_of(seed: int, events: int) -> Plan:
    """Return the plan of a seed."""
    dice = random.Random(f"plan/{seed}")
    faults = tuple(
        Fault(kind=kind, every=dice.randint(3, 12), delay_ns=dice.randint(50, 900) * NS_PER_MS)
        for kind in _VENUE_FAULTS
        if dice.random() < 0.5
    )
    resting = dice.choice(("GTC", "POST_ONLY", "IOC"))
    layout, heartbeat_ms = dice.choice(_LAYOUTS), dice.choice((50, 100, 200))
    snapshot_s, protection = dice.choice((0.3, 0.7, 1.5)), dice.choice(tuple(_PROTECTIONS))
    return Plan(seed, events, _run(resting, protection), layout, faults, heartbeat_ms, snapshot_s)


@cache
def _run(resting: str, protection: str) -> Run:
    return compose(Settings.model_validate(_settings(resting, _PROTECTIONS[protection])))


def _settings(resting: str, protection: dict[str, Any]) -> dict[str, Any]:
    """A small platform that trades often: a grid of 200 ms, two strategies that flip their target, legs close by."""
    probe: dict[str, Any] = {"account": "main", "policy": "probe", "horizon_s": 1, "instruments": ["*"]}
    return {
        "kafka": {"instrument_partitions": PARTITIONS},
        "feed": {"kind": "simulated"},
        "venue": {"receive_window_ms": 600, "clock_skew_max_ms": 100, "takeover_wait_ms": 1000},
        "grid": {"step_ms": 200, "horizons_s": [1], "ballot_deadline_ms": 150},
        "accounts": {"main": {"currency": "USD", "capital": 100_000}},
        "strategies": {
            "taker": {
                **probe,
                **protection,
                "share": 0.5,
                "risk_budget": 0.05,
                "parameters": {"every": 1, "size": 0.5},
            },
            "rester": {
                **probe,
                **protection,
                "share": 0.5,
                "risk_budget": 0.05,
                "parameters": {"every": 3, "size": 0.3},
                "time_in_force": resting,
            },
        },
        "limits": {"global": {"order_value_max": 10_000, "position_value_max": 20_000, **_LIMITS}},
        "instruments": {
            **{name: _instrument(name) for name in SIM_INSTRUMENTS},
            FOREIGN_INSTRUMENT: _instrument("SIM:ETHUSD") | {"base_currency": "GOLD"},
        },
    }


_LIMITS: Final[dict[str, Any]] = {
    "price_collar": 0.02,
    "gross_exposure_max": 50_000,
    "net_exposure_max": 30_000,
    "leverage_max": 1,
    "messages_max": 50,
    "message_window_ms": 1000,
    "duplicate_window_ms": 500,
    "daily_loss_max": 5000,
    "drawdown_max": 0.1,
}


def _instrument(name: str) -> dict[str, Any]:
    item = SIM_INSTRUMENTS[name]
    units: dict[str, Decimal] = {
        key: to_decimal(getattr(item, key)) for key in ("tick_size", "lot_size", "quantity_min", "quantity_max")
    }
    return {
        **units,
        "notional_min": item.notional_min,
        "base_currency": item.base_currency,
        "quote_currency": item.quote_currency,
        "maker_fee_rate": item.maker_fee_rate,
        "taker_fee_rate": item.taker_fee_rate,
        "shortable": item.shortable,
    }
