"""The way to the simulated venue: requests travel for their latency, and what the script plans falls due."""

from heapq import heappop, heappush

from agents.sim.engine import VenueOrder
from agents.sim.venue_rules import latency_of
from agents.sim.venue_state import Action, Bust, FaultKind, VenueChanges, VenueState, VenueTerms
from schemas.orders import VenueFill


class VenueInbox:
    """The actions that are under way to the matching engine."""

    def __init__(self, terms: VenueTerms, state: VenueState, changes: VenueChanges | None) -> None:
        self._terms = terms
        self._state = state
        self._changes = changes
        self._actions = [(item.due_ns, item.serial, item) for item in state.actions]
        self._actions.sort()

    @property
    def due_ns(self) -> int | None:
        """Return when the next action meets the engine, or None."""
        return self._actions[0][0] if self._actions else None

    def send(self, action: Action, order_id: str, now_ns: int) -> Action:
        """Let a request travel; return it with its number and the time at which it arrives."""
        self._state.serial += 1
        action.serial = self._state.serial
        kind = "submit" if action.submit is not None else "cancel" if action.cancel is not None else "amend"
        action.due_ns = now_ns + latency_of(self._terms, order_id, kind)
        heappush(self._actions, (action.due_ns, action.serial, action))
        return action

    def take(self) -> Action:
        """Return the action that is due first."""
        return heappop(self._actions)[2]

    def plan_bust(self, order: VenueOrder, fill: VenueFill) -> None:
        """Let the script take a fill back later."""
        for fault in self._terms.faults:
            if fault.kind is not FaultKind.BUST_FILLS or not fault.befalls(order.number):
                continue
            self._state.serial += 1
            due_ns = fill.event_time_ns + fault.delay_ns
            bust = Bust(order.order_id, fill.fill_id)
            action = Action(due_ns=due_ns, serial=self._state.serial, sent_ns=due_ns, epoch=0, bust=bust)
            heappush(self._actions, (action.due_ns, action.serial, action))
            if self._changes is not None:
                self._changes.planned.append(action)
