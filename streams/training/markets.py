"""Simulated markets as tapes and environments, made one way for the champion, the controls and the benchmarks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.sim.committee import VoteSource
from agents.sim.env import EnvironmentTerms, TradingEnvironment
from agents.sim.tape import Tape
from infra.servers.fetching import cache_directory
from infra.settings import load_settings
from streams.composition import Run, compose
from streams.offline.tapes import STRATEGY, build_tape, desk_of

EPISODE_STEPS: Final = 512
_CACHE: Final = "tapes"


@dataclass(frozen=True, slots=True)
class Market:
    """So many seconds of the simulated market in a regime ("mixed": all of them), from a seed.

    ``fee``: the taker's fee on every instrument, as a fraction; None: what the settings say.
    """

    regime: str
    seed: int
    seconds: float
    fee: float | None = None


def tapes_of(market: Market, settings_file: Path | None = None, *, only: str | None = None) -> list[Tape]:
    """Return a tape for each simulated instrument, or for ``only`` one, as the committee trades it; kept on disk.

    Raises SettingsError.
    """
    plain = _run(market, settings_file, {})
    cache = cache_directory() / _CACHE
    names = sorted(plain.fed) if only is None else [only]
    tapes = [build_tape(plain, market.seconds, instrument=name, cache=cache) for name in names]
    if market.fee is None:
        return tapes
    # No tally hangs on what a trade costs, so that the same steps serve a desk with other fees.
    charged = {name: {"taker_fee_rate": market.fee} for name in plain.fed}
    other = _run(market, settings_file, {"instruments": charged})
    return [Tape(desk_of(other, STRATEGY, tape.desk.instrument.key), tape.kept) for tape in tapes]


def environment_of(
    tapes: Sequence[Tape],
    seed: int,
    *,
    dropout: float = 0.0,
    voters: tuple[VoteSource, ...] = (),
    episode_steps: int | None = EPISODE_STEPS,
) -> TradingEnvironment:
    """Return the environment that policies are trained and judged in; ``episode_steps`` None: whole tapes."""
    shortest = min(len(tape) - 1 for tape in tapes)
    steps = None if episode_steps is None else min(episode_steps, shortest)
    return TradingEnvironment(tapes, EnvironmentTerms(episode_steps=steps, dropout=dropout, voters=voters), seed)


def _run(market: Market, settings_file: Path | None, more: Mapping[str, Any]) -> Run:
    overrides = {
        "feed.kind": "simulated",
        "sim.seed": market.seed,
        "run.seed": market.seed,
        "sim.regime": market.regime,
    }
    # No tape hangs on who trades, and the champion may be what is to be trained.
    overrides[f"strategies.{STRATEGY}.policy"] = "null"
    return compose(load_settings(settings_file, overrides | dict(more)))
