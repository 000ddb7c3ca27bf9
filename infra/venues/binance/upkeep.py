"""What must be known of the venue before an order may leave, and stay known: its clock, its rules, its limits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from infra.settings_venues import BinanceSettings
from infra.venues.binance.budget import Budget
from infra.venues.binance.clock import VenueClock
from infra.venues.binance.filters import FiltersUnusable, SymbolRules, check_definition, rules_of
from infra.venues.binance.orders import symbol_of
from infra.venues.binance.rest import NO_ANSWER, BinanceRest
from infra.venues.simulated import VenueUnreachable
from schemas.market import InstrumentDefined

_LOOKS: Final = 3
_RULES_EVERY: Final = 20
_STEP_S: Final = 0.2
_DOUBTED_S: Final = 1.0
_TRIES: Final = 3
_Found = TypeVar("_Found")


class Upkeep:
    """Keeps ``clock``, the budget of ``rest`` and ``rules`` (by symbol) as the venue has them."""

    def __init__(
        self,
        settings: BinanceSettings,
        instruments: Iterable[InstrumentDefined],
        rest: BinanceRest,
        clock: VenueClock,
        now: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._instruments = {symbol_of(item.key): item for item in instruments}
        self._rest = rest
        self._clock = clock
        self._now = now
        self.rules: dict[str, SymbolRules] = {}

    async def begin(self) -> None:
        """Learn everything. Raises VenueUnreachable when the venue does not answer, or is not as it has to be."""
        await self._look_at_clock()
        reason = self._clock.refusal(self._now())
        if reason is not None:
            raise VenueUnreachable(f"Binance cannot be traded on: {reason}.")
        reason = await self._read_rules()
        if reason is not None:
            raise VenueUnreachable(f"Binance's rules could not be read: {reason.rstrip('.')}.")
        for symbol, instrument in self._instruments.items():
            if symbol not in self.rules:
                raise VenueUnreachable(f"{instrument.key} is not traded on Binance spot.")
            try:
                check_definition(self.rules[symbol], instrument)
            except FiltersUnusable as error:
                raise VenueUnreachable(str(error)) from None
        account, why = await _patiently(self._rest.account)
        if account is None:
            raise VenueUnreachable(f"Binance does not take our key: {why.rstrip('.') or 'its answer cannot be read'}.")
        if not account.canTrade:
            raise VenueUnreachable("The Binance account of our key may not trade.")

    async def run(self) -> None:
        """Look again and again: at the clock sooner when the venue doubts ours or we do, at the rules now and then."""
        looks, waited_s = 0, 0.0
        while True:
            await asyncio.sleep(_STEP_S)
            waited_s += _STEP_S
            doubted = self._clock.refusal(self._now()) is not None and waited_s >= _DOUBTED_S
            due = waited_s * 1000 >= self._settings.clock_interval_ms
            if not (due or doubted or self._rest.clock_doubted):
                continue
            looks, waited_s = looks + 1, 0.0
            await self._look_at_clock()
            if looks % _RULES_EVERY == 0:
                # The rules known so far hold until there are others.
                await self._read_rules()

    async def _look_at_clock(self) -> None:
        self._rest.clock_doubted = False
        self._clock.take(await self._rest.read_clock(_LOOKS))

    async def _read_rules(self) -> str | None:
        """Read limits and rules; return why they could not be."""
        symbols = sorted(self._instruments)
        info, why = await _patiently(lambda: self._rest.exchange_info(symbols))
        if info is None:
            return why or "the answer cannot be read"
        try:
            rules = {item.symbol: rules_of(item) for item in info.symbols}
        except FiltersUnusable as error:
            return str(error).rstrip(".")
        self.rules = rules
        if not self._rest.budget.limited:
            settings = self._settings
            self._rest.budget = Budget(info.rateLimits, float(settings.weight_share), float(settings.cancel_reserve))
        return None


async def _patiently(ask: Callable[[], Awaitable[tuple[_Found | None, str]]]) -> tuple[_Found | None, str]:
    """Ask again, some times, when there was no answer at all; return the last answer, or why there is none."""
    found, why = await ask()
    for _ in range(_TRIES - 1):
        if found is not None or not why.startswith(NO_ANSWER):
            break
        await asyncio.sleep(_STEP_S)
        found, why = await ask()
    return found, why
