"""A tape on which nothing foretells anything: its own moves, demeaned and in another order.

Displays, spreads, votes and alerts stay at their steps, the prices are moved as a whole to the new path. What trades
cost and how votes look is therefore as it was, and any bond between them and the next move is cut: the experts' skill,
the drift of a regime, and what a line could learn from its own results.
"""

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from agents.sim.tape import Tape, TapeStep, encode_step
from schemas.market import BookSnapshot, Quote
from schemas.opinions import MarketMark

Offsets = NDArray[np.int64]


def shuffled(tape: Tape, seed: int) -> Tape:
    """Return the tape with its moves of the mid demeaned and drawn in another order, on the instrument's ticks.

    A step without a mid keeps the offset of the one before it, and its moves take no part.
    """
    tallies = list(tape.tallies)
    offsets = _offsets([tally.mid for tally in tallies], tape.desk.instrument.tick_size, seed).tolist()
    of_grid = {tally.grid_time_ns: offset for tally, offset in zip(tallies, offsets, strict=True)}
    steps = [_moved(tape.step(index), offset, of_grid) for index, offset in enumerate(offsets)]
    return Tape(tape.desk, [encode_step(step) for step in steps])


def _offsets(mids: list[int | None], tick: int, seed: int) -> Offsets:
    """Return by how much each step's prices are moved: whole ticks, 0 at the first."""
    known = np.array([index for index, mid in enumerate(mids) if mid is not None], dtype=np.int64)
    path = np.array([mids[index] for index in known], dtype=np.int64)
    moves = np.diff(path).astype(np.float64)
    drawn = np.random.default_rng(seed).permutation(moves - moves.mean() if len(moves) else moves)
    wanted = path[:1].astype(np.float64) + np.concatenate(([0.0], np.cumsum(drawn)))
    ticks = np.rint((wanted - path) / tick).astype(np.int64) * tick if len(path) else path
    offsets = np.zeros(len(mids), dtype=np.int64)
    if len(known):
        places = np.maximum(np.searchsorted(known, np.arange(len(mids)), side="right") - 1, 0)
        offsets = ticks[places]
    return offsets


def _moved(step: TapeStep, offset: int, of_grid: Mapping[int, int]) -> TapeStep:
    """Return the step with its prices moved; a mark goes with its own grid time, which may be another step's."""
    return replace(
        step,
        marks=tuple(_moved_mark(mark, of_grid.get(mark.grid_time_ns, offset)) for mark in step.marks),
        tally=replace(step.tally, mid=_sum(step.tally.mid, offset)),
        book=None if step.book is None else _moved_book(step.book, offset),
        quote=None if step.quote is None else _moved_quote(step.quote, offset),
        later_books=tuple(_moved_book(book, offset) for book in step.later_books),
        later_quotes=tuple(_moved_quote(quote, offset) for quote in step.later_quotes),
    )


def _sum(price: int | None, offset: int) -> int | None:
    return None if price is None else price + offset


def _moved_mark(mark: MarketMark, offset: int) -> MarketMark:
    bid, ask = _sum(mark.bid_price, offset), _sum(mark.ask_price, offset)
    return replace(mark, mid=_sum(mark.mid, offset), bid_price=bid, ask_price=ask)


def _moved_book(book: BookSnapshot, offset: int) -> BookSnapshot:
    bids = tuple(price + offset for price in book.bid_prices)
    asks = tuple(price + offset for price in book.ask_prices)
    return replace(book, bid_prices=bids, ask_prices=asks)


def _moved_quote(quote: Quote, offset: int) -> Quote:
    return replace(quote, bid_price=_sum(quote.bid_price, offset), ask_price=_sum(quote.ask_price, offset))
