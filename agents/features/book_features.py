"""What one state of the book says: micro-price, spread, imbalance. A missing input gives None."""

from agents.market.book import Book


def mid_price(bid: int | None, ask: int | None) -> int | None:
    """Return the mid in units of 1e-8, rounded down."""
    return None if bid is None or ask is None else (bid + ask) // 2


def microprice_offset(bid: int, ask: int, bid_quantity: int, ask_quantity: int) -> float | None:
    """Return (micro-price - mid) / mid, the micro-price being the mid weighted by the opposite quantities.

    Stoikov (2018), first order. As a fraction of the mid; None when nothing is quoted.
    """
    total = bid_quantity + ask_quantity
    if total == 0:
        return None
    # micro - mid = (ask - bid) / 2 x (bid quantity - ask quantity) / total, which loses no digits.
    return (ask - bid) * (bid_quantity - ask_quantity) / (total * (ask + bid))


def share_imbalance(bid_quantity: int, ask_quantity: int) -> float | None:
    """Return (bid - ask) / (bid + ask) of two quantities, in [-1, 1]; None when both are 0."""
    total = bid_quantity + ask_quantity
    return (bid_quantity - ask_quantity) / total if total else None


def depth(book: Book, levels: int) -> tuple[int, int] | None:
    """Return the quantity on the best ``levels`` bids and asks; None when a side is empty."""
    if not book.bid_order or not book.ask_order:
        return None
    return sum(book.top_bids(levels)[1]), sum(book.top_asks(levels)[1])
