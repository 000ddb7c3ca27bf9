"""When the simulated venue charges funding, and what each account has paid then."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agents.sim.engine import Engine
from agents.sim.venue_reports import funding_report
from agents.sim.venue_state import VenueState, settle_funding
from schemas.market import InstrumentDefined
from schemas.orders import VenueReport

_NEVER_NS: Final = 1 << 63


class FundingClock:
    """Charges every perpetual position at each funding time, at the mid that the venue has then."""

    def __init__(self, instruments: Mapping[str, InstrumentDefined]) -> None:
        self._perpetuals = [item for _, item in sorted(instruments.items()) if item.funding_interval_ns]
        self.due_ns = 0

    def charge(self, state: VenueState, engine: Engine, now_ns: int) -> Iterable[VenueReport]:
        """Charge what has fallen due by now, and return what there is to tell of it."""
        return () if now_ns < self.due_ns else list(self._charge(state, engine, now_ns))

    def _charge(self, state: VenueState, engine: Engine, now_ns: int) -> Iterator[VenueReport]:
        indices = state.funding_index
        for item in self._perpetuals:
            index = now_ns // item.funding_interval_ns
            times = index - indices.setdefault(item.key, index)
            mid = engine.mid(item.key) if times > 0 else None
            if mid is not None:
                indices[item.key] = index
                for name, account in state.accounts.items():
                    if settle_funding(account, item, mid, times):
                        yield funding_report(name, item.key, account.funding_by[item.key], now_ns)
        due_ns = [(indices[item.key] + 1) * item.funding_interval_ns for item in self._perpetuals]
        self.due_ns = min(due_ns, default=_NEVER_NS)
