"""Which decision earned what: each closing fill is matched with the oldest open ones, slice by slice.

Fees and slippage are split by quantity, and the last slice of a fill takes what is left, so that the slices add up
to the fills exactly.
"""

from decimal import Decimal

from agents.feedback.state import Line, Lot
from schemas.event import Event
from schemas.feedback import TradeFeedback
from schemas.market import InstrumentDefined
from schemas.orders import Fill
from schemas.values import ZERO, Side, money, notional


def attribute(line: Line, fill: Fill, fee: Decimal, instrument: InstrumentDefined) -> list[Event]:
    """Match a fill against the line's open lots; return one TradeFeedback per slice it closes.

    ``fee`` is the fill's in the quote currency. What is left of the fill opens a lot of its own. A fill that reverses
    another takes that one's open part away.
    """
    rest = Lot(
        quantity=fill.quantity,
        price=fill.price,
        time_ns=fill.event_time_ns,
        decision_id=fill.decision_id,
        fill_id=fill.fill_id,
        fee=fee,
        slippage=fill.slippage,
    )
    if fill.reverses is not None:
        _take_back(line, rest, fill.reverses)
    events: list[Event] = []
    while rest.quantity and line.lots and line.sign != fill.side.sign:
        events.append(_close(line, fill, rest, instrument))
        if line.lots[0].quantity == 0:
            del line.lots[0]
    if rest.quantity:
        line.sign = fill.side.sign
        line.lots.append(rest)
    return events


def _take_back(line: Line, rest: Lot, fill_id: str) -> None:
    """Take what is still open of a fill out of the lots again, without a trade.

    What was closed against it has been told: there the reversal counts as a fill of its own, so that all sums hold.
    """
    for lot in line.lots:
        if lot.fill_id == fill_id:
            quantity = min(lot.quantity, rest.quantity)
            _take(lot, quantity)
            _take(rest, quantity)
    line.lots = [lot for lot in line.lots if lot.quantity]


def resumed_lots(line: Line, quantity: int, price: int, now_ns: int) -> list[Lot]:
    """Return the lots of a line that holds ``quantity`` (signed): its own where they add up to it."""
    if line.sign * sum(lot.quantity for lot in line.lots) == quantity:
        return line.lots
    if quantity == 0:
        return []
    facts = {"decision_id": "", "fill_id": ""}
    return [Lot(quantity=abs(quantity), price=price, time_ns=now_ns, fee=ZERO, slippage=ZERO, **facts)]


def _close(line: Line, fill: Fill, rest: Lot, instrument: InstrumentDefined) -> TradeFeedback:
    lot = line.lots[0]
    quantity = min(lot.quantity, rest.quantity)
    gross = notional(rest.price - lot.price, line.sign * quantity, instrument.multiplier)
    entry_fee, entry_slippage = _take(lot, quantity)
    exit_fee, exit_slippage = _take(rest, quantity)
    fees = entry_fee + exit_fee
    return TradeFeedback(
        key=fill.account,
        event_time_ns=fill.event_time_ns,
        available_at_ns=fill.available_at_ns,
        account=fill.account,
        strategy=fill.strategy,
        instrument=fill.instrument,
        side=Side.BUY if line.sign > 0 else Side.SELL,
        quantity=quantity,
        entry_price=lot.price,
        exit_price=rest.price,
        entry_time_ns=lot.time_ns,
        exit_time_ns=rest.time_ns,
        entry_decision_id=lot.decision_id,
        exit_decision_id=rest.decision_id,
        entry_fill_id=lot.fill_id,
        exit_fill_id=rest.fill_id,
        gross_pnl=gross,
        fees=fees,
        slippage=entry_slippage + exit_slippage,
        net_pnl=gross - fees,
        currency=instrument.quote_currency,
    )


def _take(lot: Lot, quantity: int) -> tuple[Decimal, Decimal]:
    """Return the share of fee and slippage that goes with ``quantity``, and take all three off the lot."""
    fee, slippage = lot.fee, lot.slippage
    if quantity < lot.quantity:
        fee, slippage = (money(amount * quantity / lot.quantity) for amount in (fee, slippage))
    lot.quantity -= quantity
    lot.fee -= fee
    lot.slippage -= slippage
    return fee, slippage
