"""What an account would hold at worst with one more order working, added up once for all checks that look at it.

Sums are whole numbers, exact however many lines there are: quantities by instrument, then price x quantity by
multiplier and currency, so that only a handful of Decimals is made for hundreds of lines.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from agents.limits.exposure import ExposureLine, ExposureView
from agents.limits.limit_set import LimitSet
from agents.limits.valuation import EXACT, positive_units
from schemas.values import UNITS_PER_ONE, ZERO

_SCALE: Final = Decimal(-16)


class _Ends:
    """Sums over lines, or over instruments in one money: of the worst, highest, lowest and the strategy's own ends."""

    __slots__ = ("highest", "lowest", "own", "worst")

    def __init__(self) -> None:
        self.worst = self.highest = self.lowest = self.own = 0


class Totals(NamedTuple):
    """The worst ends of all lines in the account's currency; None where a mid, a definition or a rate is missing.

    ``gross`` adds up the worst positions, ``own`` those of the order's strategy; ``highest`` and ``lowest`` are the
    sums of the signed positions. ``quantities``: the worst positions by instrument, over all strategies, in units of
    1e-8.
    """

    gross: Decimal | None
    highest: Decimal | None
    lowest: Decimal | None
    own: Decimal | None
    quantities: dict[str, int]


def totals_of(lines: Iterable[ExposureLine], strategy: str, view: ExposureView, limits: LimitSet) -> Totals:
    """Return what these lines come to at the mids of a view."""
    by_instrument = _by_instrument(lines, strategy)
    by_money: dict[tuple[str, Decimal], _Ends] = {}
    currency, multiplier, money = "", ZERO, _Ends()
    blind = own_blind = False
    for name, ends in by_instrument.items():
        instrument, mark = view.instruments.get(name), view.marks.get(name)
        mid = None if mark is None else mark.mid
        if instrument is None or mid is None or not positive_units(mid):
            blind, own_blind = True, own_blind or ends.own != 0
            continue
        if instrument.multiplier != multiplier or instrument.quote_currency != currency:
            currency, multiplier = instrument.quote_currency, instrument.multiplier
            money = by_money.setdefault((currency, multiplier), _Ends())
        # An inverse contract is worth the same at any price.
        price = UNITS_PER_ONE if instrument.inverse else mid
        money.worst += price * ends.worst
        money.highest += price * ends.highest
        money.lowest += price * ends.lowest
        money.own += price * ends.own
    gross = highest = lowest = own = ZERO
    for (currency, multiplier), ends in by_money.items():
        rate = limits.rate(currency)
        if rate is None:
            blind, own_blind = True, own_blind or ends.own != 0
            continue
        factor = EXACT.multiply(multiplier, rate)
        gross = EXACT.add(gross, _worth(ends.worst, factor))
        highest = EXACT.add(highest, _worth(ends.highest, factor))
        lowest = EXACT.add(lowest, _worth(ends.lowest, factor))
        own = EXACT.add(own, _worth(ends.own, factor))
    quantities = {name: ends.worst for name, ends in by_instrument.items()}
    seen_own = None if own_blind else own
    if blind:
        return Totals(None, None, None, seen_own, quantities)
    return Totals(gross, highest, lowest, seen_own, quantities)


def _worth(total: int, factor: Decimal) -> Decimal:
    return EXACT.multiply(EXACT.scaleb(Decimal(total), _SCALE), factor)


def _by_instrument(lines: Iterable[ExposureLine], strategy: str) -> dict[str, _Ends]:
    found: dict[str, _Ends] = {}
    for line in lines:
        position = line.position
        high, low = position + line.buys, position - line.sells
        worst = high if high > -low else -low
        if worst == 0:
            # Nothing is held and nothing works: it needs no mid.
            continue
        ends = found.get(line.instrument)
        if ends is None:
            ends = found[line.instrument] = _Ends()
        ends.worst += worst
        ends.highest += high
        ends.lowest += low
        if line.strategy == strategy:
            ends.own += worst
    return found
