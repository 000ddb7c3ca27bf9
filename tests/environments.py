"""Tapes and environments for tests: a short simulated market, traded by the settings of the repository."""

from functools import cache
from pathlib import Path
from typing import Any

from agents.sim.env import EnvironmentTerms, TradingEnvironment
from agents.sim.tape import Tape
from infra.settings import load_settings
from streams.composition import Run, compose
from streams.offline.tapes import build_tape

SETTINGS = Path(__file__).resolve().parents[1] / "tradermind.toml"
SECONDS = 72.0


def composed(seed: int = 7, **more: Any) -> Run:
    """Return a run of one simulated instrument."""
    values: dict[str, Any] = {"run.seed": seed, "feed.instruments": ["SIM:BTCUSD"], "sim.regime": "trending"}
    return compose(load_settings(SETTINGS, values | more, environment={}))


@cache
def short_tape(seed: int = 7) -> Tape:
    """Return some 70 steps, made once for all tests of a process."""
    return build_tape(composed(seed), SECONDS)


def environment(seed: int = 3, steps: int | None = 40, **terms: Any) -> TradingEnvironment:
    """Return an environment on two short tapes."""
    return TradingEnvironment([short_tape(7), short_tape(8)], EnvironmentTerms(episode_steps=steps, **terms), seed)
