"""Tapes: equal to what the stages say, equal from disk, and named by all that they hang on."""

import gzip
import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments
import msgspec
import pytest
from captures import CAPTURES, USDM_20240808
from msgspec.structs import replace

from agents.decider.policy import TARGETS
from agents.sim.env import EnvironmentTerms, TradingEnvironment
from agents.sim.tape import Tape, decode_step
from infra.settings import SettingsError, load_settings
from schemas.decisions import Decision
from schemas.event import Event
from schemas.opinions import AnomalyAlert, MarketMark, VoteTally
from schemas.orders import AccountMark, Fill, OrderEvent, Position
from streams.composition import Run, compose
from streams.offline import tapes
from streams.offline.backtest import backtest
from streams.offline.tapes import build_tape, code_digest, tape_digest

SECONDS = 12.0
HORIZON_NS = 10_000_000_000


def said(events: list[Event]) -> list[VoteTally]:
    """Return the tallies of the committee's horizon, without what experts cite."""
    return [
        replace(event, entries=tuple(replace(entry, evidence={}) for entry in event.entries))
        for event in events
        if isinstance(event, VoteTally) and event.horizon_ns == HORIZON_NS
    ]


@pytest.mark.slow
def test_a_tape_says_what_a_whole_run_says_step_by_step() -> None:
    run = environments.composed(**{"strategies.committee.policy": "null", "strategies.pulse.instruments": ["EXT:DEMO"]})
    told: list[Event] = []
    backtest(run, seconds=SECONDS, observe=told.append)
    tape = build_tape(run, SECONDS)
    steps = [tape.step(index) for index in range(len(tape))]
    assert [step.tally for step in steps] == said(told) == list(tape.tallies)
    marks = [event for event in told if isinstance(event, MarketMark) and event.on_grid]
    assert [mark for step in steps for mark in step.marks if mark.on_grid] == marks
    alerts = [event for event in told if isinstance(event, AnomalyAlert)]
    assert [alert for step in steps for alert in step.alerts] == alerts
    for step in steps:
        if step.tally.closed_by != "ALL":
            assert not step.marks[-1].on_grid  # Time has passed since.
            continue
        assert step.book is not None
        assert (step.book.bid_prices[0], step.book.ask_prices[0]) == (
            step.marks[-1].bid_price,
            step.marks[-1].ask_price,
        )
        assert list(step.book.bid_prices) == sorted(step.book.bid_prices, reverse=True)


@pytest.mark.slow
def test_from_disk_it_is_the_same_to_the_byte(tmp_path: Path) -> None:
    run = environments.composed()
    fresh = build_tape(run, SECONDS)
    made = build_tape(run, SECONDS, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{tape_digest(run, SECONDS)}.tape"
    written = path.stat().st_mtime_ns
    read = build_tape(run, SECONDS, cache=tmp_path)
    assert path.stat().st_mtime_ns == written
    assert list(fresh.kept) == list(made.kept) == list(read.kept)
    assert len(fresh) == SECONDS
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SettingsError, match="is damaged"):
        build_tape(run, SECONDS, cache=tmp_path)
    path.write_bytes(b"\x94\xa1a\xa1b\x01\x90")
    with pytest.raises(SettingsError, match="another one than its name"):
        build_tape(run, SECONDS, cache=tmp_path)


def test_its_name_changes_with_what_tallies_hang_on() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"sim.regime": "quiet"},
        {"grid.ballot_deadline_ms": 400},
        {"strategies.committee.horizon_s": 1},
        {"instruments": {"SIM:BTCUSD": {"vpin_bucket": 6}}},
        {"run.seed": 8},
    ]
    names = [tape_digest(environments.composed(**change), SECONDS) for change in changes]
    names.append(tape_digest(environments.composed(), SECONDS + 1))
    assert len(set(names)) == len(changes) + 1


def test_its_name_does_not_hang_on_money() -> None:
    other = environments.composed(
        **{
            "accounts.main.capital": 5,
            "limits.global": {"daily_loss_max": 7},
            "strategies.committee.share": "0.1",
            "instruments": {"SIM:BTCUSD": {"taker_fee_rate": 0}},
            "venue.latency_ms": 9,
        }
    )
    assert tape_digest(other, SECONDS) == tape_digest(environments.composed(), SECONDS)


def test_its_name_hangs_on_code_that_there_is() -> None:
    places = [str(place) for place in tapes._files()]
    assert code_digest() == code_digest()
    for part in ("agents/experts/momentum.py", "agents/voting/tally.py", "schemas/opinions.py", "agents/sim/tape.py"):
        assert any(place.endswith(part) for place in places), part


def recorded(path: Path, grid_s: int, **more: Any) -> Run:
    """Return a run on a recording, with a ballot every ``grid_s`` seconds on the next 60 or 10."""
    horizon_s = max(grid_s, 10)
    values: dict[str, Any] = {
        "feed.kind": "capture",
        "run.clock": "capture",
        "feed.paths": [str(path)],
        "grid.step_ms": grid_s * 1_000,
        "grid.horizons_s": [horizon_s],
        "strategies.committee.horizon_s": horizon_s,
        "strategies.pulse.instruments": ["EXT:DEMO"],
        "strategies.pulse.horizon_s": horizon_s,
    }
    return compose(load_settings(environments.SETTINGS, values | more, environment={}))


def evening(folder: Path, lines: int = 1_500) -> Path:
    """Write the first quotes of an evening of EURUSD, without sizes, as a recording of its own."""
    whole = zipfile.ZipFile(CAPTURES / "lean" / "tick" / "eurusd-fxcm-20140504-quote.zip")
    (name,) = whole.namelist()
    path = folder / "eurusd-quote.zip"
    with zipfile.ZipFile(path, "w") as part:
        part.writestr(name, b"\n".join(whole.read(name).splitlines()[:lines]) + b"\n")
    return path


def minute(folder: Path) -> Path:
    """Write most of the first minute of BTCUSDT on USD-M, with depth, as a recording of its own."""
    path = folder / "usdm-btcusdt.gz"
    with gzip.open(USDM_20240808) as whole:
        path.write_bytes(gzip.compress(b"".join(itertools.islice(whole, 12_000))))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("record", "grid_s", "deep"), [(evening, 60, False), (minute, 1, True)])
def test_on_a_recording_an_episode_does_what_a_whole_backtest_does(
    tmp_path: Path, record: Callable[[Path], Path], grid_s: int, deep: bool
) -> None:
    probe = {"strategies.committee.policy": "probe", "strategies.committee.parameters": {"every": 2, "size": 1}}
    run = recorded(record(tmp_path), grid_s, **probe)
    told: list[Event] = []
    backtest(run, observe=told.append)
    tape = build_tape(run, 0.0)
    assert {step.quote is None for step in map(tape.step, range(5, len(tape)))} == {deep}
    environment = TradingEnvironment([tape], EnvironmentTerms(episode_steps=None), 1)
    mine: list[Event] = []
    environment.observe = mine.append
    environment.reset(options={"tape": 0, "start": 0})
    decisions = [event for event in told if isinstance(event, Decision)]
    for decision in decisions[: len(tape) - 1]:
        environment.step(TARGETS.index(decision.target))
    for kind in (OrderEvent, Fill, Position, AccountMark):
        made = [msgspec.json.encode(event) for event in mine if type(event) is kind]
        assert made == [msgspec.json.encode(event) for event in told if type(event) is kind][: len(made)]
        assert len(made) > 5
    decided = [event for event in mine if isinstance(event, Decision)]
    assert list(map(timeless, decided)) == list(map(timeless, decisions))[: len(decided)]


def test_its_name_hangs_on_the_recording_alone_and_not_on_seconds(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    run = recorded(evening(whole), 60)
    assert tape_digest(run, 0.0) == tape_digest(run, 5.0) == tape_digest(recorded(evening(tmp_path), 60), 0.0)
    assert tape_digest(run, 0.0) != tape_digest(recorded(evening(part, 1_499), 60), 0.0)


def timeless(decision: Decision) -> Decision:
    """Return a decision without its policy's name, and without what a valuation may tell before or after the tally.

    Both come from the same mark by two topics, and a run takes them in either order.
    """
    told = {"unrealised_pnl", "moment.mean", "moment.square"}
    seen = {name: value for name, value in decision.observation.items() if name not in told}
    return replace(decision, policy="", observation=seen)


@pytest.mark.slow
def test_a_tape_takes_other_tallies_for_the_same_market() -> None:
    tape = environments.short_tape()
    flat = [replace(tally, p_up=0.0) for tally in tape.tallies]
    changed = tape.with_tallies(flat)
    assert list(changed.tallies) == flat
    assert changed.step(3).marks == tape.step(3).marks
    with pytest.raises(ValueError, match="shorter"):
        tape.with_tallies(flat[1:])
    assert isinstance(changed, Tape)
    assert decode_step(tape.kept[5]) == tape.step(5)
    assert list(tape.tallies[3:5]) == list(tape.tallies)[3:5]
