"""Checks of the order itself: may it be sent, are its numbers numbers, is its price sane, do its increments fit."""

from agents.limits.case import Case, Check, result, units_text
from agents.limits.valuation import positive_units, quote_value
from schemas.decisions import CheckResult, DenyReason
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark, MarkQuality
from schemas.values import NS_PER_MS, to_decimal

_TRADABLE = (MarkQuality.GOOD, MarkQuality.TOP_ONLY)


def _ms(time_ns: int) -> str:
    return f"{time_ns / NS_PER_MS:g} ms"


def _plain(units: object) -> str:
    """Return units of 1e-8 as people write them, and what is no number as it came."""
    return units_text(units).rstrip("0").rstrip(".") if isinstance(units, int) else str(units)


def reference_mid(mark: MarketMark) -> int | None:
    """Return the mid of a mark if it may serve as a reference for prices."""
    return mark.mid if mark.quality in _TRADABLE and positive_units(mark.mid) else None


def permitted(case: Case) -> CheckResult:
    """What a strategy is not expressly allowed to trade it may not trade."""
    order = case.order
    passed = case.limits.permits(order.strategy, order.instrument)
    return result(DenyReason.NOT_PERMITTED, passed, f"{order.strategy} on {order.instrument}", "permissions")


def instrument_known(case: Case) -> CheckResult:
    """Without a definition there is no tick, no lot and no value."""
    passed = case.order.instrument in case.view.instruments
    return result(DenyReason.INSTRUMENT_UNKNOWN, passed, case.order.instrument, "defined instruments")


def numbers_valid(case: Case) -> CheckResult:
    """Quantity and price (of a market order: its protection price) are positive 64-bit integers of 1e-8.

    A stop needs a stop price, too, and no other order may have one.
    """
    order = case.order
    passed = positive_units(order.quantity) and positive_units(order.limit_price)
    observed = f"{_plain(order.quantity)} at {_plain(order.limit_price)}"
    if order.order_type.waits or order.stop_price is not None:
        passed = passed and order.order_type.waits and positive_units(order.stop_price)
        observed = f"{observed}, {order.order_type} from {_plain(order.stop_price)}"
    return result(DenyReason.INVALID_NUMBER, passed, observed, "above 0, 64 bits")


def data_fresh(case: Case) -> CheckResult:
    """A backlog never trades: neither an expired decision nor a market that has not been heard of."""
    limit_ns = case.limits.data_age_max_ms * NS_PER_MS
    overdue_ns = case.now_ns - case.order.expires_at_ns
    if overdue_ns > 0:
        return result(DenyReason.DATA_STALE, False, f"expired {_ms(overdue_ns)} ago", "not expired")
    if case.mark is None:
        return result(DenyReason.DATA_STALE, False, "no mark", _ms(limit_ns))
    age_ns = case.now_ns - case.mark.newest_time_ns
    return result(DenyReason.DATA_STALE, age_ns <= limit_ns, _ms(age_ns), _ms(limit_ns))


def reference_fresh(case: Case) -> CheckResult:
    """The mark that the collar is laid around must exist, be tradable, be a number, and be new."""
    limit_ns = case.limits.reference_age_max_ms * NS_PER_MS
    limit = f"{_ms(limit_ns)}, {' or '.join(_TRADABLE)}"
    if case.mark is None:
        return result(DenyReason.REF_PRICE_STALE, False, "no mark", limit)
    age_ns = case.now_ns - case.mark.available_at_ns
    passed = age_ns <= limit_ns and case.mark.quality in _TRADABLE and case.mid is not None
    mid = "no mid" if case.mid is None else f"mid {_plain(case.mid)}"
    return result(DenyReason.REF_PRICE_STALE, passed, f"{_ms(age_ns)}, {case.mark.quality}, {mid}", limit)


def price_collar(case: Case) -> CheckResult:
    """The price lies within the collar of the mid on both sides; without a reference nothing does.

    A stop lies away from the mid by intention, so its price is compared with its stop price, near which the mid will be
    when it acts; and it must not act at once: a sell lies below the mid, a buy above it.
    """
    order, mid, collar = case.order, case.mid, case.limits.price_collar
    price, stop = order.limit_price, order.stop_price
    if mid is None or price is None or not positive_units(price):
        return result(DenyReason.PRICE_COLLAR, False, f"{price} with mid {mid}", collar)
    observed = f"{units_text(price)} with mid {units_text(mid)}"
    reference = mid
    if order.order_type.waits:
        if stop is None or not positive_units(stop) or order.side.sign * (stop - mid) <= 0:
            return result(DenyReason.PRICE_COLLAR, False, f"{observed}, from {_plain(stop)}", "a stop beyond the mid")
        observed, reference = f"{observed}, from {units_text(stop)}", stop
    # Compared as a product: a quotient would be rounded, and the exact limit must pass.
    return result(DenyReason.PRICE_COLLAR, abs(price - reference) <= collar * reference, observed, collar)


def price_move(case: Case) -> CheckResult:
    """An instrument whose mid has moved too far within the window may only be reduced, until the move is over."""
    window_ms, limit = case.limits.price_move_window_ms, case.limits.price_move_max
    kept = case.view.ranges.get(case.order.instrument)
    bounds = None if kept is None else kept.within(case.now_ns, window_ms)
    told = f"{limit} in {window_ms} ms"
    if bounds is None:
        # Whether there is a reference at all is another check's question.
        return result(DenyReason.PRICE_MOVE, True, "no mids yet", told)
    low, high = bounds
    observed = f"{units_text(low)} to {units_text(high)}"
    return result(DenyReason.PRICE_MOVE, case.reduces or high - low <= limit * high, observed, told)


def clock_true(case: Case) -> CheckResult:
    """The mark is not ahead of our own clock by more than clocks may differ: else no age here means anything."""
    limit_ns = case.limits.clock_drift_max_ms * NS_PER_MS
    if case.view.clock_ns == 0 or case.mark is None:
        return result(DenyReason.CLOCK_DRIFT, True, "no clock of ours" if case.mark else "no mark", _ms(limit_ns))
    ahead_ns = case.mark.available_at_ns - case.view.clock_ns
    return result(DenyReason.CLOCK_DRIFT, ahead_ns <= limit_ns, f"{_ms(ahead_ns)} ahead", _ms(limit_ns))


ALWAYS: tuple[Check, ...] = (
    permitted,
    instrument_known,
    numbers_valid,
    data_fresh,
    clock_true,
    reference_fresh,
    price_collar,
    price_move,
)
"""Checks that can judge any order, whatever it holds."""


def _instrument(case: Case) -> InstrumentDefined:
    return case.view.instruments[case.order.instrument]


def _price(case: Case) -> int:
    price = case.order.limit_price
    assert price is not None, "checks of increments run on valid numbers only"
    return price


def tick_size(case: Case) -> CheckResult:
    """The price is a multiple of the tick, and a stop price, too."""
    tick, stop = _instrument(case).tick_size, case.order.stop_price
    passed = tick > 0 and _price(case) % tick == 0 and (stop is None or stop % tick == 0)
    observed = units_text(_price(case)) if stop is None else f"{units_text(_price(case))} from {units_text(stop)}"
    return result(DenyReason.TICK_SIZE, passed, observed, units_text(tick))


def lot_size(case: Case) -> CheckResult:
    """The quantity is a multiple of the lot."""
    lot = _instrument(case).lot_size
    quantity = case.order.quantity
    return result(DenyReason.LOT_SIZE, lot > 0 and quantity % lot == 0, units_text(quantity), units_text(lot))


def quantity_min(case: Case) -> CheckResult:
    """The quantity is at least the venue's minimum."""
    limit = _instrument(case).quantity_min
    quantity = case.order.quantity
    return result(DenyReason.ORDER_QTY_MIN, quantity >= limit, units_text(quantity), units_text(limit))


def quantity_max(case: Case) -> CheckResult:
    """The quantity is at most the venue's maximum and our own."""
    limit = to_decimal(_instrument(case).quantity_max)
    own = case.limits.order_quantity_max.get(case.order.instrument)
    limit = limit if own is None else min(limit, own)
    quantity = to_decimal(case.order.quantity)
    return result(DenyReason.ORDER_QTY_MAX, quantity <= limit, quantity, limit)


def notional_min(case: Case) -> CheckResult:
    """The value in the quote currency is at least the venue's minimum."""
    limit = _instrument(case).notional_min
    value = quote_value(_instrument(case), _price(case), case.order.quantity)
    return result(DenyReason.NOTIONAL_MIN, value >= limit, value, limit)


def order_value(case: Case) -> CheckResult:
    """The value, at the dearest of price, stop price and mid, is at most the limit; without a rate it is unknown."""
    price = max(_price(case), case.order.stop_price or 0, case.mid or 0)
    value = case.value(_instrument(case), price, case.order.quantity)
    if value is None:
        observed = f"no rate from {_instrument(case).quote_currency} to {case.limits.currency}"
        return result(DenyReason.ORDER_VALUE_MAX, False, observed, case.limits.order_value_max)
    return result(DenyReason.ORDER_VALUE_MAX, value <= case.limits.order_value_max, value, case.limits.order_value_max)


MEASURED: tuple[Check, ...] = (tick_size, lot_size, quantity_min, quantity_max, notional_min, order_value)
"""Checks that need a known instrument and valid numbers."""
