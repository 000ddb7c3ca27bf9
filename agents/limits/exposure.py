"""What an account holds and what could still fill, as the limits see it.

An order counts from the step that approved it: between an approval and the first word about it lies a time in
which hundreds of further orders could each fit the limit alone. A *line* is one (strategy, instrument) of the
account; lines are never netted against each other, since each is closed on its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from agents.limits.conduct import Conduct
from agents.limits.day_counts import DayCounts
from agents.limits.limit_set import LimitSet
from agents.limits.windows import PriceRange
from agents.limits.working import WorkingOrder, amended, working_of_approval, working_of_event
from schemas.decisions import OrderApproved
from schemas.market import InstrumentDefined
from schemas.opinions import MarketMark
from schemas.orders import AccountMark, OrderEvent, Position
from schemas.values import NS_PER_MS, ZERO, Level, Side

LineKey = tuple[str, str]
"""(strategy, instrument)."""


class ExposureLine(msgspec.Struct, frozen=True, gc=False):
    """One (strategy, instrument): the signed position, and the unsigned quantities that could still fill."""

    strategy: str
    instrument: str
    position: int = 0
    buys: int = 0
    sells: int = 0

    def after(self, side: Side, quantity: int) -> "ExposureLine":
        """Return the line with one more order working."""
        buys, sells = (quantity, 0) if side is Side.BUY else (0, quantity)
        return msgspec.structs.replace(self, buys=self.buys + buys, sells=self.sells + sells)

    @property
    def highest(self) -> int:
        """The position when every buy fills and no sell does."""
        return self.position + self.buys

    @property
    def lowest(self) -> int:
        """The position when every sell fills and no buy does."""
        return self.position - self.sells

    @property
    def worst(self) -> int:
        """The largest position, unsigned, that the working orders can lead to."""
        return max(abs(self.highest), abs(self.lowest))

    def reduced_by(self, side: Side, quantity: int) -> bool:
        """Return whether an order can only bring the position nearer to 0, whichever of the working orders fill."""
        if side is Side.SELL:
            return self.position > 0 and self.sells + quantity <= self.position
        return self.position < 0 and self.buys + quantity <= -self.position


class AccountExposure(msgspec.Struct, kw_only=True):
    """The state behind a view: what the account's events and our own approvals say. Serialisable.

    ``positions`` is strategy -> instrument -> signed units, ``entry_prices`` their average prices. ``messages_ns`` are
    the times of submits and cancels in the rate window, ``contents_ns`` when each order content was last approved.
    """

    equity: Decimal
    equity_peak: Decimal
    day_pnl: Decimal = ZERO
    positions: dict[str, dict[str, int]] = {}
    working: dict[str, WorkingOrder] = {}
    messages_ns: list[int] = []
    contents_ns: dict[str, int] = {}
    entry_prices: dict[str, dict[str, int]] = {}
    conduct: Conduct = msgspec.field(default_factory=Conduct)
    orders_of_day: DayCounts = msgspec.field(default_factory=DayCounts)

    @classmethod
    def opened_with(cls, capital: Decimal) -> "AccountExposure":
        """Return the exposure of an account that has not traded: its equity is its capital."""
        return cls(equity=capital, equity_peak=capital)

    def apply_order_event(self, event: OrderEvent) -> None:
        """Take what execution says of an order. Position and leaves change together, or sizing would count twice."""
        self.conduct.take_order_event(event)
        self.positions.setdefault(event.strategy, {})[event.instrument] = event.position_after
        if event.final:
            self.working.pop(event.order_id, None)
            return
        self.working[event.order_id] = working_of_event(event, self.working.get(event.order_id))

    def apply_position(self, event: Position) -> None:
        """Take a position's average price; how large it is each OrderEvent says, before this."""
        prices = self.entry_prices.setdefault(event.strategy, {})
        if event.average_price is None:
            prices.pop(event.instrument, None)
        else:
            prices[event.instrument] = event.average_price

    def apply_account_mark(self, mark: AccountMark) -> None:
        """Take a valuation of the account."""
        self.conduct.take_account_mark(mark)
        self.equity, self.equity_peak, self.day_pnl = mark.equity, mark.equity_peak, mark.day_pnl
        self.positions.setdefault(mark.strategy, {})[mark.instrument] = mark.position

    def add_approval(self, order: OrderApproved, limits: LimitSet, now_ns: int) -> None:
        """Count an approved order, and its cancels, from now on."""
        window_ns = max(limits.message_window_ms, limits.duplicate_window_ms) * NS_PER_MS
        self.messages_ns = [time_ns for time_ns in self.messages_ns if time_ns > now_ns - window_ns]
        self.contents_ns = {key: time for key, time in self.contents_ns.items() if time > now_ns - window_ns}
        self.messages_ns += [now_ns] * messages_of(order)
        for order_id in order.cancels:
            if order_id in self.working:
                self.working[order_id].cancelling = True
        if order.quantity == 0:
            return
        self.contents_ns[content_key(order)] = now_ns
        if order.amends is None:
            self.conduct.count_sent(order.strategy, now_ns, limits)
        if order.amends is None:
            self.orders_of_day.add(order.strategy, now_ns)
        target = self.working.get(order.amends or "")
        if target is not None:
            self.working[target.order_id] = amended(target, order)
        elif order.amends is None:
            self.working[order.order_id] = working_of_approval(order)

    def line(self, strategy: str, instrument: str) -> ExposureLine:
        """Return one line, be it that it holds and works nothing."""
        buys = sells = 0
        for order in self.working.values():
            if order.instrument == instrument and order.strategy == strategy:
                if order.side is Side.BUY:
                    buys += order.leaves
                else:
                    sells += order.leaves
        return ExposureLine(strategy, instrument, self.positions.get(strategy, {}).get(instrument, 0), buys, sells)

    def lines(self) -> dict[LineKey, ExposureLine]:
        """Return every line that holds or works anything."""
        # Summed first and made into lines once: this is done for every order that is judged.
        sums = {
            strategy: {instrument: [position, 0, 0] for instrument, position in of_strategy.items()}
            for strategy, of_strategy in self.positions.items()
        }
        buy = Side.BUY
        for order in self.working.values():
            of_strategy = sums.get(order.strategy)
            if of_strategy is None:
                of_strategy = sums[order.strategy] = {}
            line = of_strategy.get(order.instrument)
            if line is None:
                line = of_strategy[order.instrument] = [0, 0, 0]
            line[1 if order.side is buy else 2] += order.leaves
        return {
            (strategy, instrument): ExposureLine(strategy, instrument, *line)
            for strategy, of_strategy in sums.items()
            for instrument, line in of_strategy.items()
        }


@dataclass(frozen=True, slots=True)
class ExposureView:
    """All that the limits look at besides the order: pure data, made by risk and by execution each from its own state.

    ``level`` is the strictest level in force for the order's account, strategy and instrument; ``level_source``
    names the latch it comes from. ``marks`` holds the newest mark of each instrument, ``ranges`` between which mids it
    moved of late. ``clock_ns`` is the newest reading of our own clock, 0 where a capture's or a test's clock rules.
    ``override_until``: versions of limits that were in force with an override, and when that ends.
    """

    instruments: Mapping[str, InstrumentDefined]
    marks: Mapping[str, MarketMark]
    lines: Mapping[LineKey, ExposureLine]
    working: Mapping[str, WorkingOrder]
    equity: Decimal
    equity_peak: Decimal
    day_pnl: Decimal
    messages_ns: Sequence[int] = ()
    contents_ns: Mapping[str, int] = field(default_factory=dict)
    level: Level = Level.ACTIVE
    level_source: str = ""
    conduct: Conduct = field(default_factory=Conduct)
    orders_of_day: DayCounts = field(default_factory=DayCounts)
    override_until: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, PriceRange] = field(default_factory=dict)
    clock_ns: int = 0


@dataclass(frozen=True, slots=True)
class MarketView:
    """What the limits look at of the market: see ``ExposureView``."""

    instruments: Mapping[str, InstrumentDefined]
    marks: Mapping[str, MarketMark]
    ranges: Mapping[str, PriceRange]
    clock_ns: int


def view_of(exposure: AccountExposure, market: MarketView, level: tuple[Level, str]) -> ExposureView:
    """Return the view of an account's state under the level in force and the name of its latch."""
    return ExposureView(
        instruments=market.instruments,
        marks=market.marks,
        lines=exposure.lines(),
        working=exposure.working,
        equity=exposure.equity,
        equity_peak=exposure.equity_peak,
        day_pnl=exposure.day_pnl,
        messages_ns=exposure.messages_ns,
        contents_ns=exposure.contents_ns,
        level=level[0],
        level_source=level[1],
        conduct=exposure.conduct,
        orders_of_day=exposure.orders_of_day,
        ranges=market.ranges,
        clock_ns=market.clock_ns,
    )


def content_key(order: OrderApproved) -> str:
    """Return what makes two orders the same intent, whatever their ids.

    An order that protects is only like itself: two parts of a position that are alike get legs that are alike, and how
    many there may be is bounded by the position itself.
    """
    content = (
        f"{order.strategy}|{order.instrument}|{order.side}|{order.quantity}|{order.order_type}"
        f"|{order.limit_price}|{order.time_in_force}|{order.stop_price}|{order.amends}"
    )
    return content if order.leg is None else f"{content}|{order.order_id}"


def messages_of(order: OrderApproved) -> int:
    """Return how many messages to the venue an order costs: its cancels, and itself."""
    return len(order.cancels) + (1 if order.quantity else 0)
