"""A shuffled tape moves as much and costs as much as it did, and nothing on it foretells anything."""

import numpy as np
import pytest

from agents.sim.tape import Tape
from streams.training.markets import Market, tapes_of
from streams.training.shuffling import shuffled
from streams.training.voters import mids_of, next_returns


@pytest.fixture(scope="module")
def tape() -> Tape:
    return tapes_of(Market("trending", 5, 120.0))[0]


def test_moves_are_those_of_the_tape_without_their_mean(tape: Tape) -> None:
    tick = tape.desk.instrument.tick_size
    moves, mixed = (np.diff(mids_of(one)[~np.isnan(mids_of(one))]) for one in (tape, shuffled(tape, 1)))
    assert np.sort(mixed) == pytest.approx(np.sort(moves - moves.mean()), abs=tick)
    assert abs(mixed.sum()) <= tick
    assert not np.allclose(mixed, moves - moves.mean(), atol=tick)


def test_displays_stand_around_their_mids_as_before(tape: Tape) -> None:
    other = shuffled(tape, 1)
    for index in range(len(tape)):
        was, now = tape.step(index), other.step(index)
        assert (was.book is None) == (now.book is None)
        if was.book is None or now.book is None or was.tally.mid is None or now.tally.mid is None:
            continue
        offset = now.tally.mid - was.tally.mid
        assert now.book.bid_prices == tuple(price + offset for price in was.book.bid_prices)
        assert now.book.ask_prices == tuple(price + offset for price in was.book.ask_prices)
        assert now.tally.entries == was.tally.entries


def test_marks_tell_the_mid_of_their_tally(tape: Tape) -> None:
    other = shuffled(tape, 2)
    mids = {tally.grid_time_ns: tally.mid for tally in other.tallies}
    marks = [mark for index in range(len(other)) for mark in other.step(index).marks]
    # One off the grid tells of a later moment.
    told = [mark for mark in marks if mark.on_grid and mark.grid_time_ns in mids]
    assert told
    assert all(mark.mid == mids[mark.grid_time_ns] for mark in told)


def test_who_knew_the_next_move_knows_nothing(tape: Tape) -> None:
    known = next_returns(tape)

    def foretold(one: Tape) -> float:
        both = np.stack((known, next_returns(one)))[:, np.isfinite(known)]
        return float(np.corrcoef(both)[0, 1])

    assert foretold(tape) == pytest.approx(1)
    assert abs(np.mean([foretold(shuffled(tape, seed)) for seed in range(8)])) < 0.1


def test_the_same_seed_gives_the_same_bytes(tape: Tape) -> None:
    assert list(shuffled(tape, 3).kept) == list(shuffled(tape, 3).kept)
    assert list(shuffled(tape, 3).kept) != list(shuffled(tape, 4).kept)
