"""The rebuilt book against the venue's own top of book, at every update id that both have: the feed's oracle.

Read back from ``market_data``, so that what is checked is what every other reader of the run has got.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from agents.market.book import Book
from schemas.market import BookSnapshot, DepthUpdate

Top = tuple[int | None, int | None, int | None, int | None]

_QUERY = """
SELECT kind, (bid_price * 100000000)::bigint, (bid_quantity * 100000000)::bigint,
       (ask_price * 100000000)::bigint, (ask_quantity * 100000000)::bigint,
       last_update_id, bid_prices, bid_quantities, ask_prices, ask_quantities
FROM market_data
WHERE instrument = %s AND kind IN ('BOOK', 'DEPTH', 'QUOTE')
ORDER BY source, generation, seq
"""


@dataclass(slots=True)
class BookCheck:
    """How many tops could be compared and were equal, and how many books were crossed."""

    compared: int = 0
    equal: int = 0
    books: int = 0
    crossed: int = 0


def check_book(dsn: str, instrument: str) -> dict[str, Any]:
    """Return the counts for one instrument; all zero when its book was never synchronised."""
    check, book = BookCheck(), Book()
    tops: dict[int, Top] = {}
    quotes: dict[int, Top] = {}
    with psycopg.connect(dsn) as connection, connection.cursor(name="book_check") as cursor:
        cursor.execute(_QUERY, (instrument,))
        for kind, bid, bid_quantity, ask, ask_quantity, update_id, *sides in cursor:
            if kind == "QUOTE":
                if update_id is not None:
                    quotes[update_id] = (bid, bid_quantity, ask, ask_quantity)
                continue
            _apply(book, kind, update_id, sides)
            check.books += 1
            check.crossed += book.crossed
            tops[update_id] = _top(book)
    for update_id, top in tops.items():
        if (quote := quotes.get(update_id)) is not None:
            check.compared += 1
            check.equal += quote == top
    return asdict(check)


def _apply(book: Book, kind: str, update_id: int, sides: Sequence[Sequence[int] | None]) -> None:
    bid_prices, bid_quantities, ask_prices, ask_quantities = (tuple(side or ()) for side in sides)
    levels: dict[str, Any] = {
        "bid_prices": bid_prices,
        "bid_quantities": bid_quantities,
        "ask_prices": ask_prices,
        "ask_quantities": ask_quantities,
    }
    times: dict[str, Any] = {"key": "", "event_time_ns": 0, "available_at_ns": 0}
    if kind == "BOOK":
        book.replace_all(BookSnapshot(update_id=update_id, **times, **levels))
    else:
        book.apply(DepthUpdate(first_update_id=update_id, last_update_id=update_id, **times, **levels))


def _top(book: Book) -> Top:
    bid, ask = book.best_bid, book.best_ask
    return bid, book.bids.get(bid or 0), ask, book.asks.get(ask or 0)
