"""The way back from the simulated venue: each report travels, is delayed or lost by the script, and gets its number."""

from heapq import heappop, heappush

import msgspec

from agents.sim.engine import VenueOrder
from agents.sim.venue_reports import number_report
from agents.sim.venue_rules import latency_of
from agents.sim.venue_state import FaultKind, Outgoing, VenueChanges, VenueState, VenueTerms
from schemas.orders import ReportKind, VenueReport

_LOST_BY = {ReportKind.ACCEPTED: FaultKind.DROP_ACK, ReportKind.REPLACED: FaultKind.DROP_REPLACED}


class VenuePost:
    """The reports that are under way."""

    def __init__(self, terms: VenueTerms, state: VenueState, changes: VenueChanges | None) -> None:
        self._terms = terms
        self._state = state
        self._changes = changes
        self._outgoing = [(item.due_ns, item.serial, item) for item in state.outgoing]
        self._outgoing.sort()

    @property
    def due_ns(self) -> int | None:
        """Return when the next report arrives, or None."""
        return self._outgoing[0][0] if self._outgoing else None

    def send(self, report: VenueReport, order: VenueOrder | None) -> None:
        """Put a report on its way; reports keep their order save where the script delays them."""
        state, terms = self._state, self._terms
        number = order.number if order is not None else 0
        lost_by = _LOST_BY.get(report.kind)
        if terms.strikes(FaultKind.DROP_REPORTS, number) or (lost_by is not None and terms.strikes(lost_by, number)):
            return
        due_ns = max(state.last_due_ns, report.event_time_ns + latency_of(terms, report.order_id, report.kind))
        state.last_due_ns = due_ns
        due_ns += sum(
            fault.delay_ns for fault in terms.faults if fault.kind is FaultKind.DELAY_REPORTS and fault.befalls(number)
        )
        state.serial += 1
        arrived = msgspec.structs.replace(report, available_at_ns=due_ns)
        outgoing = Outgoing(due_ns=due_ns, serial=state.serial, report=arrived)
        heappush(self._outgoing, (due_ns, state.serial, outgoing))
        if self._changes is not None:
            self._changes.created.append(outgoing)

    def take_arrived(self, now_ns: int) -> list[VenueReport]:
        """Return the reports that have come back by ``now_ns``, numbered and in order."""
        arrived: list[VenueReport] = []
        while self._outgoing and self._outgoing[0][0] <= now_ns:
            _, _, outgoing = heappop(self._outgoing)
            self._state.report_sequence += 1
            number_report(outgoing.report, self._terms.name, self._state.report_sequence)
            if self._changes is not None:
                self._changes.sent.append((outgoing.serial, self._state.report_sequence, outgoing.report))
            arrived.append(outgoing.report)
        return arrived
