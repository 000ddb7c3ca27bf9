"""How much may still be asked of the venue: its limits, what it says is used of them, and the pauses it orders.

The venue counts by its own clock, in whole intervals; what it says in the headers of an answer stands in place of our
own count. Only a part of each limit is used, and of that part something is kept for cancels, since a request too many
gets all of them refused, and going on then gets the whole address banned.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from infra.venues.binance.wire import RateLimit
from schemas.values import NS_PER_S

WEIGHT: Final = "REQUEST_WEIGHT"
ORDERS: Final = "ORDERS"
_SECONDS: Final = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}
_LETTERS: Final = {"S": "SECOND", "M": "MINUTE", "H": "HOUR", "D": "DAY"}
_HEADER: Final = re.compile(r"x-mbx-(used-weight|order-count)-(\d+)([smhd])", re.IGNORECASE)
_FIRST_PAUSE_S: Final = 10.0
_PAUSE_MAX_S: Final = 7 * 86_400.0


class Window(msgspec.Struct):
    """One limit: ``used`` of ``limit`` within the interval that ``number`` counts."""

    kind: str
    length_ns: int
    limit: int
    number: int = -1
    used: int = 0


class Budget:
    """Counts what is asked. Times are ns by the venue's clock."""

    def __init__(self, limits: Iterable[RateLimit], share: float, reserve: float) -> None:
        self._share = share
        self._reserve = reserve
        self._windows = [
            Window(item.rateLimitType, _SECONDS[item.interval] * item.intervalNum * NS_PER_S, item.limit)
            for item in limits
            if item.rateLimitType in (WEIGHT, ORDERS) and item.interval in _SECONDS
        ]
        self.paused_until_ns = 0
        self.refusals = 0

    @property
    def limited(self) -> bool:
        """Whether the venue's limits are known."""
        return bool(self._windows)

    def refusal(self, now_ns: int, weight: int, *, order: bool = False, cancel: bool = False) -> str | None:
        """Return why a request of this weight may not be made now, or None. Nothing may be made during a pause."""
        if now_ns < self.paused_until_ns:
            return f"the venue has asked for a pause of another {(self.paused_until_ns - now_ns) / NS_PER_S:.1f} s"
        for window in self._windows:
            # Cancels are no orders: of that limit there is nothing to keep for them.
            part = self._share * (1.0 if cancel or window.kind == ORDERS else 1.0 - self._reserve)
            more = self._more(window, weight, order=order)
            if more and self._used(window, now_ns) + more > window.limit * part:
                return f"{window.used} of {window.limit} {window.kind} per {window.length_ns // NS_PER_S} s are used"
        return None

    def spend(self, now_ns: int, weight: int, *, order: bool = False) -> None:
        """Count a request that is being made."""
        for window in self._windows:
            self._used(window, now_ns)
            window.used += self._more(window, weight, order=order)

    def read(self, headers: Mapping[str, str], now_ns: int) -> None:
        """Take the venue's own count from an answer; never lower than ours, for others may be under way."""
        for name, value in headers.items():
            match = _HEADER.fullmatch(name)
            if match is None or not value.isdecimal():
                continue
            kind = WEIGHT if match[1].lower() == "used-weight" else ORDERS
            length_ns = int(match[2]) * _SECONDS[_LETTERS[match[3].upper()]] * NS_PER_S
            for window in self._windows:
                if (window.kind, window.length_ns) == (kind, length_ns):
                    window.used = max(self._used(window, now_ns), int(value))

    def pause(self, headers: Mapping[str, str], now_ns: int) -> None:
        """Obey a 429 or 418: nothing is sent before ``Retry-After`` is over, or, without one, for some seconds."""
        text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
        wait_s = min(float(text), _PAUSE_MAX_S) if text.isdecimal() else _FIRST_PAUSE_S
        self.refusals += 1
        self.paused_until_ns = max(self.paused_until_ns, now_ns + int(wait_s * NS_PER_S))

    def exhaust_orders(self, now_ns: int) -> None:
        """Take it that no further order is taken within the shortest interval in which orders are counted."""
        orders = [window for window in self._windows if window.kind == ORDERS]
        for window in sorted(orders, key=lambda window: window.length_ns)[:1]:
            window.used = max(self._used(window, now_ns), window.limit)

    @staticmethod
    def _more(window: Window, weight: int, *, order: bool) -> int:
        return weight if window.kind == WEIGHT else int(order)

    @staticmethod
    def _used(window: Window, now_ns: int) -> int:
        number = now_ns // window.length_ns
        if number != window.number:
            window.number, window.used = number, 0
        return window.used
