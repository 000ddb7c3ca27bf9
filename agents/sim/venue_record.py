"""The exchange's own record: lines to append, and the venue they add up to after a crash.

A request is written before it is acknowledged, and a batch of changes before anyone is told of them, so a killed
exchange has either done a thing, and knows it, or has not done it.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from agents.sim.engine import VenueOrder
from agents.sim.venue_reports import number_report
from agents.sim.venue_state import Action, Outgoing, VenueChanges, VenueState
from schemas.orders import VenueReport

HISTORY_MAX: Final = 100_000
"""How many reports are kept for clients that resume."""


class Queued(msgspec.Struct, frozen=True, tag="queued"):
    """A request was taken."""

    action: Action


class Totals(msgspec.Struct, frozen=True, tag="totals"):
    """Counters and accounts after a batch (``orders``, ``actions`` and ``outgoing`` are empty here); newest mids."""

    state: VenueState
    mids: dict[str, int]


class Changed(msgspec.Struct, frozen=True, tag="order"):
    """An order as it is now."""

    order: VenueOrder


class Created(msgspec.Struct, frozen=True, tag="report"):
    """A report is on its way."""

    outgoing: Outgoing


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A report has its sequence number and may have been seen."""

    serial: int
    sequence: int


Line = Queued | Totals | Changed | Created | Sent
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Line)


class Restored(msgspec.Struct):
    """What a record adds up to: the venue's state, the sent reports by sequence, and the newest mids."""

    state: VenueState
    history: list[tuple[int, VenueReport]]
    mids: dict[str, int]


def encode_line(line: Line) -> bytes:
    """Return one line of the record."""
    return _ENCODER.encode(line) + b"\n"


def encode_batch(state: VenueState, changes: VenueChanges, mids: dict[str, int]) -> bytes:
    """Return the lines for everything that changed, to be appended in one write."""
    lines: list[Line] = [Changed(order) for order in changes.orders.values()]
    lines.extend(Queued(action) for action in changes.planned)
    lines.extend(Created(outgoing) for outgoing in changes.created)
    lines.extend(Sent(serial, sequence) for serial, sequence, _ in changes.sent)
    lines.append(Totals(msgspec.structs.replace(state, orders={}, actions=[], outgoing=[]), mids))
    return b"".join(encode_line(line) for line in lines)


def restore(record: Iterable[bytes], name: str) -> Restored:
    """Return what the lines of the venue ``name`` add up to.

    A last line without its end was never acted on and is dropped.
    """
    found = Restored(VenueState(), [], {})
    orders: dict[str, VenueOrder] = {}
    actions: dict[int, Action] = {}
    reports: dict[int, Outgoing] = {}
    for raw in record:
        if not raw.endswith(b"\n"):
            break
        line = _DECODER.decode(raw)
        match line:
            case Queued(action):
                actions[action.serial] = action
                found.state.serial = max(found.state.serial, action.serial)
            case Changed(order):
                orders[order.order_id] = order
            case Created(outgoing):
                reports[outgoing.serial] = outgoing
            case Sent(serial, sequence):
                found.history.append((sequence, _numbered(reports.pop(serial), name, sequence)))
            case Totals(state, mids):
                found.state, found.mids = state, {**found.mids, **mids}
    found.state.orders = orders
    found.state.actions = [action for action in actions.values() if _undone(action, orders, found.state)]
    found.state.outgoing = list(reports.values())
    found.history = found.history[-HISTORY_MAX:]
    return found


def _undone(action: Action, orders: dict[str, VenueOrder], state: VenueState) -> bool:
    if action.submit is not None:
        return action.submit.order_id not in orders
    if action.bust is not None:
        done = orders.get(action.bust.order_id)
        return done is not None and any(fill.fill_id == action.bust.fill_id and not fill.busted for fill in done.fills)
    asked = action.cancel or action.amend
    assert asked is not None
    order = orders.get(asked.order_id)
    if order is not None and action.amend is not None and action.amend.amend_id in order.amends:
        return False
    return action.due_ns > state.now_ns and order is not None and order.live


def _numbered(outgoing: Outgoing, name: str, sequence: int) -> VenueReport:
    number_report(outgoing.report, name, sequence)
    return outgoing.report
