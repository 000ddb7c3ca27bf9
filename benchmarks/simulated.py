"""Tapes of the simulated market for contests: one instrument, and whatever the settings make of it."""

from pathlib import Path
from typing import Any, Final

from agents.sim.tape import Tape
from infra.servers.fetching import cache_directory
from infra.settings import load_settings
from streams.composition import compose
from streams.offline.tapes import STRATEGY, build_tape

SETTINGS: Final = Path(__file__).resolve().parents[1] / "tradermind.toml"
INSTRUMENT: Final = "SIM:BTCUSD"


def simulated_tape(regime: str, seed: int, seconds: float, fee: float | None = None) -> Tape:
    """Return so many seconds of a regime ("mixed": all of them) from a seed, kept on disk.

    ``fee``: the taker's, as a fraction; None: what the settings say.
    """
    overrides: dict[str, Any] = {
        "feed.kind": "simulated",
        "run.seed": seed,
        "sim.seed": seed,
        "sim.regime": regime,
        f"strategies.{STRATEGY}.policy": "null",  # No tape hangs on who trades.
    }
    if fee is not None:
        overrides["instruments"] = {INSTRUMENT: {"taker_fee_rate": fee}}
    run = compose(load_settings(SETTINGS, overrides, environment={}))
    return build_tape(run, seconds, instrument=INSTRUMENT, cache=cache_directory() / "tapes")
