"""One order against one view: what the single checks share, worked out once."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from agents.limits.exposure import ExposureLine, ExposureView
from agents.limits.limit_set import LimitSet
from agents.limits.totals import Totals, totals_of
from agents.limits.valuation import positive_units, quote_value
from schemas.decisions import CheckResult, DenyReason, OrderApproved
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.values import UNITS_PER_ONE


@dataclass(slots=True)
class Case:
    """An order, the view it is judged on, the limits, and *now* in nanoseconds. Nothing of it changes.

    ``line`` is the order's (strategy, instrument) before it; ``reduces`` says that the order can only bring that
    position nearer to 0; ``mid`` is null unless it is a positive price.
    """

    order: OrderApproved
    view: ExposureView
    limits: LimitSet
    now_ns: int
    mark: MarketMark | None
    mid: int | None
    line: ExposureLine
    reduces: bool
    _totals: Totals | None = None

    @classmethod
    def of(cls, order: OrderApproved, view: ExposureView, limits: LimitSet, now_ns: int) -> "Case":
        """Return the case of an order."""
        key = (order.strategy, order.instrument)
        line = view.lines.get(key) or ExposureLine(strategy=order.strategy, instrument=order.instrument)
        mark = view.marks.get(order.instrument)
        mid = mark.mid if mark is not None and positive_units(mark.mid) else None
        reduces = positive_units(order.quantity) and line.reduced_by(order.side, order.quantity)
        return cls(order, view, limits, now_ns, mark, mid, line, reduces)

    def value(self, instrument: InstrumentDefined, price: int, quantity: int) -> Decimal | None:
        """Return a value in the account's currency, or None when the rate to it is not known."""
        rate = self.limits.rate(instrument.quote_currency)
        return None if rate is None else quote_value(instrument, price, quantity) * rate

    def at_mid(self, name: str, quantity: int) -> Decimal | None:
        """Return what ``quantity`` of an instrument is worth at its mid; None without a definition, mid or rate."""
        instrument, mark = self.view.instruments.get(name), self.view.marks.get(name)
        if instrument is None or mark is None or mark.mid is None or not positive_units(mark.mid):
            return None
        return self.value(instrument, mark.mid, quantity)

    def lines_after(self) -> list[ExposureLine]:
        """Return all lines of the account with the order working."""
        mine = (self.order.strategy, self.order.instrument)
        others = [line for key, line in self.view.lines.items() if key != mine]
        return [*others, self.line.after(self.order.side, self.order.quantity)]

    @property
    def totals(self) -> Totals:
        """Return what the account would hold at worst with the order working; worked out at the first use."""
        if self._totals is None:
            after = self.line.after(self.order.side, self.order.quantity)
            others = (line for line in self.view.lines.values() if line is not self.line)
            self._totals = totals_of((after, *others), self.order.strategy, self.view, self.limits)
        return self._totals


Check = Callable[[Case], CheckResult]


def result(reason: DenyReason, passed: bool, observed: object, limit: object) -> CheckResult:
    """Return one check's result; Decimals are written out without an exponent."""
    return CheckResult(
        reason=reason,
        passed=passed,
        observed=observed if type(observed) is str else _text(observed),
        limit=limit if type(limit) is str else _text(limit),
    )


def _text(value: object) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def units_text(value: int) -> str:
    """Return units of 1e-8 with all their places, as ``to_decimal`` would be written, in a third of the time."""
    whole, rest = divmod(abs(value), UNITS_PER_ONE)
    return f"{'-' if value < 0 else ''}{whole}.{rest:08d}"
