"""Tapes: equal to what the stages say, equal from disk, and named by all that they hang on."""

from pathlib import Path
from typing import Any

import environments
import pytest
from captures import CAPTURES
from msgspec.structs import replace

from agents.sim.tape import Tape, decode_step
from infra.settings import SettingsError, load_settings
from schemas.event import Event
from schemas.opinions import AnomalyAlert, MarketMark, VoteTally
from streams.composition import Run, compose
from streams.offline import tapes
from streams.offline.backtest import backtest
from streams.offline.tapes import build_tape, code_digest, tape_digest

SECONDS = 30.0
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
    assert [mark for step in steps for mark in step.marks] == marks
    alerts = [event for event in told if isinstance(event, AnomalyAlert)]
    assert [alert for step in steps for alert in step.alerts] == alerts
    for step in steps:
        if step.tally.closed_by != "ALL":
            continue  # What is displayed is of the tally, which came later than the mark.
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
    assert len(fresh) > SECONDS / 2
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SettingsError, match="is damaged"):
        build_tape(run, SECONDS, cache=tmp_path)
    path.write_bytes(b"\x94\xa1a\xa1b\x01\x90")
    with pytest.raises(SettingsError, match="another one than its name"):
        build_tape(run, SECONDS, cache=tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"sim.regime": "quiet"},
        {"grid.ballot_deadline_ms": 400},
        {"strategies.committee.horizon_s": 1},
        {"instruments": {"SIM:BTCUSD": {"vpin_bucket": 6}}},
        {"staleness.market_ms": 4_000},
    ],
)
def test_its_name_changes_with_what_tallies_hang_on(changes: dict[str, Any]) -> None:
    plain = environments.composed()
    assert tape_digest(environments.composed(**changes), SECONDS) != tape_digest(plain, SECONDS)
    assert tape_digest(environments.composed(seed=8), SECONDS) != tape_digest(plain, SECONDS)
    assert tape_digest(plain, SECONDS + 1) != tape_digest(plain, SECONDS)


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


def recorded(name: str) -> Run:
    """Return a run on one of LEAN's recordings, with a ballot a minute."""
    path = CAPTURES / "lean" / "tick" / name
    values: dict[str, Any] = {
        "feed.kind": "capture",
        "run.clock": "capture",
        "feed.paths": [str(path)],
        "grid.step_ms": 60_000,
        "grid.horizons_s": [60],
        "strategies.committee.horizon_s": 60,
    }
    return compose(load_settings(environments.SETTINGS, values, environment={}))


@pytest.mark.slow
def test_a_recording_is_a_tape_of_quotes(tmp_path: Path) -> None:
    run = recorded("eurusd-fxcm-20140504-quote.zip")
    tape = build_tape(run, 0.0, cache=tmp_path)
    steps = [tape.step(index) for index in range(len(tape))]
    assert len(tape) > 300
    assert all(step.book is None and step.quote is not None for step in steps)
    assert steps[-1].quote is not None
    assert steps[-1].quote.bid_quantity is None
    assert tape_digest(run, 0.0) == tape_digest(run, 5.0) != tape_digest(recorded("bac-20131007-quote.zip"), 0.0)


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
