"""Why a raw market record cannot be used, if it cannot: what holds for one record alone, whatever came before."""

from operator import gt, lt

from schemas.market import BookSnapshot, DepthUpdate, Quote, Trade, VenueBar

PRICE = "price not above zero"
QUANTITY = "quantity not above zero"
NEGATIVE_QUANTITY = "quantity below zero"
LENGTHS = "as many quantities as prices are needed"
IDS = "update ids out of order"
ORDER = "levels are not best first"
CROSSED = "best bid at or above best ask"
RANGE = "a bar's prices contradict each other"


def flaw_of_trade(trade: Trade) -> str | None:
    """Return what is wrong with a trade, or None."""
    if trade.price <= 0:
        return PRICE
    quantity = trade.quantity
    return QUANTITY if quantity is not None and quantity <= 0 else None


def flaw_of_quote(quote: Quote) -> str | None:
    """Return what is wrong with a quote, or None. A side may be null; a crossed quote is the venue's to answer for."""
    bid, ask = quote.bid_price, quote.ask_price
    if (bid is not None and bid <= 0) or (ask is not None and ask <= 0):
        return PRICE
    bid, ask = quote.bid_quantity, quote.ask_quantity
    if (bid is not None and bid < 0) or (ask is not None and ask < 0):
        return NEGATIVE_QUANTITY
    return None


def flaw_of_update(update: DepthUpdate) -> str | None:
    """Return what is wrong with a diff, or None."""
    if update.first_update_id > update.last_update_id:
        return IDS
    for prices, quantities in (
        (update.bid_prices, update.bid_quantities),
        (update.ask_prices, update.ask_quantities),
    ):
        if len(prices) != len(quantities):
            return LENGTHS
        if prices:
            if min(prices) <= 0:
                return PRICE
            if min(quantities) < 0:
                return NEGATIVE_QUANTITY
    return None


def flaw_of_snapshot(snapshot: BookSnapshot) -> str | None:
    """Return what is wrong with a whole book, or None."""
    bids, asks = snapshot.bid_prices, snapshot.ask_prices
    if len(bids) != len(snapshot.bid_quantities) or len(asks) != len(snapshot.ask_quantities):
        return LENGTHS
    if min(bids, default=1) <= 0 or min(asks, default=1) <= 0:
        return PRICE
    if min(snapshot.bid_quantities, default=1) <= 0 or min(snapshot.ask_quantities, default=1) <= 0:
        return QUANTITY
    if not (all(map(gt, bids, bids[1:])) and all(map(lt, asks, asks[1:]))):
        return ORDER
    return CROSSED if bids and asks and bids[0] >= asks[0] else None


def flaw_of_bar(bar: VenueBar) -> str | None:
    """Return what is wrong with a venue's bar, or None."""
    if bar.low_price <= 0:
        return PRICE
    if not bar.low_price <= min(bar.open_price, bar.close_price) <= max(bar.open_price, bar.close_price):
        return RANGE
    if max(bar.open_price, bar.close_price) > bar.high_price or bar.interval_ns <= 0:
        return RANGE
    return NEGATIVE_QUANTITY if bar.volume is not None and bar.volume < 0 else None
