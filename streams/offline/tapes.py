"""Tapes: what market and committee said, worked out once by the real stages and kept on disk.

A tape is a function of the feed, of the settings that tallies hang on, and of the code of the stages that make them; a
digest of all three names its file, so that whatever changes makes another tape and nothing is ever out of date. Money
is no part of it: accounts, strategies, limits, costs and the venue may change under a tape, since no tally depends on
what is traded.
"""

import hashlib
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

import agents
import infra
import schemas
import streams
from agents.decider.policy import Policy
from agents.decider.stage import Decider
from agents.sim.desk import Desk
from agents.sim.impact import ImpactTerms
from agents.sim.tape import Tape, TapeStep, encode_step
from agents.sim.tape_recorder import TapeRecorder
from agents.stage import Stage
from infra.settings import Settings, SettingsError
from infra.settings_limits import LimitSettings
from infra.settings_models import ModelSettings
from infra.settings_sections import VenueSettings
from infra.settings_venues import VenuesSettings
from schemas.values import ZERO
from streams.composition import Run, budget, build_stage, decider_config, traded
from streams.offline.backtest import Backtest, market_terms, quote_fills, venue_terms

STAGES_OF_TALLIES: Final = ("ingestion", "experts", "voting", "feedback")
"""Voting learns from scores, which feedback gives; nothing else comes back to a tally."""
STRATEGY: Final = "committee"
_CODE: Final = (
    *(
        (schemas, f"{part}.py")
        for part in ("event", "feed", "feedback", "market", "opinions", "routing", "topics", "values")
    ),
    *((agents, part) for part in ("stage.py", "pipeline.py", "market", "features", "experts", "voting", "feedback")),
    *((agents, f"sim/{part}.py") for part in ("generator", "market", "matching", "population", "population_engine")),
    *((agents, f"sim/{part}.py") for part in ("population_feed", "regimes", "tape", "tape_recorder")),
    (infra, "feeds"),
    *((streams, part) for part in ("composition.py", "offline/backtest.py", "offline/tapes.py")),
)
"""The code that tallies come from, by package and path."""

_NO_FEES: Final[dict[str, Any]] = dict.fromkeys(("maker_fee_rate", "taker_fee_rate", "funding_rate"), ZERO)

Progress = Callable[[int], Any]


class _File(msgspec.Struct, frozen=True, array_like=True):
    digest: str
    instrument: str
    horizon_ns: int
    steps: list[bytes]


def build_tape(
    run: Run,
    seconds: float,
    *,
    strategy: str = STRATEGY,
    instrument: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Tape:
    """Return the tape of one instrument of a run for a strategy: of the whole capture, or of ``seconds`` simulated.

    Without an ``instrument`` the run has one only. With a ``cache`` (a directory) it is read from there, or kept there.
    ``progress`` is told the time (ns) of every record. Raises SettingsError for what cannot be traded, or is damaged.
    """
    name = _instrument(run, instrument)
    desk = desk_of(run, strategy, name)
    narrowed = _narrowed(run, strategy, name)
    if cache is None:
        return Tape(desk, _made(narrowed, desk, seconds, progress))
    digest = _digest(narrowed, desk, seconds)
    path = cache / f"{digest}.tape"
    if not path.exists():
        kept = _File(digest, name, desk.horizon_ns, _made(narrowed, desk, seconds, progress))
        _write(path, msgspec.msgpack.encode(kept))
    return Tape(desk, _read(path, digest))


def tape_digest(run: Run, seconds: float, *, strategy: str = STRATEGY, instrument: str | None = None) -> str:
    """Return the 64 hex digits that name a tape: of its feed, its settings and the code that makes it."""
    name = _instrument(run, instrument)
    return _digest(_narrowed(run, strategy, name), desk_of(run, strategy, name), seconds)


def desk_of(run: Run, strategy: str, instrument: str) -> Desk:
    """Return who trades: this strategy, alone, on this instrument. Raises SettingsError when it cannot."""
    narrowed = _narrowed(run, strategy, instrument)
    terms = narrowed.settings.strategies[strategy]
    if traded(narrowed, terms) != (instrument,):
        raise SettingsError(f"strategies.{strategy}: its account cannot trade {instrument}.")
    config = decider_config(narrowed)
    (line,) = config.strategies

    def decider(policy: Policy) -> Stage:
        return Decider(replace(config, strategies=(replace(line, policy=policy),)))

    fill_max, slippage = quote_fills(narrowed)
    return Desk(
        strategy=strategy,
        account=terms.account,
        instrument=narrowed.instruments[instrument],
        horizon_ns=line.horizon_ns,
        budget=budget(narrowed, terms),
        decider=decider,
        stages=tuple(build_stage(narrowed, name) for name in ("risk", "execution", "feedback")),
        venue=venue_terms(narrowed),
        fill_max=fill_max,
        slippage=slippage,
    )


def impact_terms(run: Run, *, strategy: str = STRATEGY, instrument: str | None = None) -> ImpactTerms:
    """Return the full simulated exchange as a market to train on. Raises SettingsError for any other feed."""
    if run.settings.feed.kind != "simulated":
        raise SettingsError("feed.kind: only the simulated market is moved by what is traded.")
    name = _instrument(run, instrument)
    narrowed = _narrowed(run, strategy, name)
    return ImpactTerms(
        desk=desk_of(run, strategy, name),
        stages=tuple(build_stage(narrowed, stage) for stage in STAGES_OF_TALLIES),
        market=market_terms(narrowed),
    )


def _instrument(run: Run, asked: str | None) -> str:
    if asked is None and len(run.fed) == 1:
        (asked,) = run.fed
    if asked not in run.fed:
        raise SettingsError(f"A tape is of one instrument among {', '.join(sorted(run.fed))}, not of {asked}.")
    return str(asked)


def _narrowed(run: Run, strategy: str, instrument: str) -> Run:
    """Return the run with one instrument and one strategy, whose own policy no longer matters."""
    settings = run.settings
    if strategy not in settings.strategies:
        raise SettingsError(f"There is no strategy {strategy} among {', '.join(sorted(settings.strategies))}.")
    changes = {"instruments": (instrument,), "policy": "null", "parameters": {}}
    own = {key: value for key, value in settings.limits.strategy.items() if key in (strategy, "*")}
    alone = settings.model_copy(
        update={
            "strategies": {strategy: settings.strategies[strategy].model_copy(update=changes)},
            "limits": settings.limits.model_copy(update={"strategy": own}),
        }
    )
    only = {instrument: run.instruments[instrument]}
    return replace(run, settings=alone, instruments=only, fed=frozenset(only))


def _made(run: Run, desk: Desk, seconds: float, progress: Progress | None) -> list[bytes]:
    steps: list[bytes] = []

    def keep(step: TapeStep) -> None:
        steps.append(encode_step(step))

    recorder = TapeRecorder(desk, keep)
    test = Backtest(run, recorder.observe, stages=STAGES_OF_TALLIES)
    for record in test.records(seconds):
        test.take(record)
        if progress is not None and record.events:
            progress(record.events[-1].available_at_ns)
    test.close()
    recorder.close()
    return steps


def _digest(run: Run, desk: Desk, seconds: float) -> str:
    paths = sorted(run.settings.feed.paths, key=lambda path: (path.name, path))
    feed = [str(float(seconds))] if run.capture is None else [_content(path) for path in paths]
    parts = (
        _of_tallies(run.settings, desk.instrument.key).settings_hash(),
        msgspec.json.encode(msgspec.structs.replace(desk.instrument, **_NO_FEES)).decode(),
        str(desk.horizon_ns),
        *feed,
        code_digest(),
        f"python {platform.python_version()} msgspec {msgspec.__version__} numpy {np.__version__}",
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _of_tallies(settings: Settings, instrument: str) -> Settings:
    """Return the settings without what no tally hangs on. Whatever is not named here counts."""
    own = settings.instruments.get(instrument)
    return settings.model_copy(
        update={
            "accounts": {},
            "strategies": {},
            "limits": LimitSettings(),
            "costs": {},
            "venue": VenueSettings(),
            "venues": VenuesSettings(),
            "models": ModelSettings(),
            "instruments": {} if own is None else {instrument: own.model_copy(update=_NO_FEES)},
        }
    )


def code_digest() -> str:
    """Return 64 hex digits of all code, and data beside it, that tallies come from."""
    digest = hashlib.sha256()
    for place in _files():
        digest.update(f"{place.name}\n{_content(place)}\n".encode())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for package, part in _CODE:
        (root,) = package.__path__
        place = Path(root) / part
        found = [place] if place.is_file() else sorted(place.rglob("*"))
        yield from (path for path in found if path.is_file() and path.suffix != ".pyc")


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Put a whole file in its place at once, so that nobody reads half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def _read(path: Path, digest: str) -> list[bytes]:
    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise SettingsError(f"The tape {path} is damaged: remove it, and it is made again.") from error
    if kept.digest != digest:
        raise SettingsError(f"The tape {path} is another one than its name says: remove it, and it is made again.")
    return kept.steps
