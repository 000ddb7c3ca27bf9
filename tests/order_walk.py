"""Every sequence of venue reports on one order, walked breadth first, with the laws held at every step.

Two sequences that lead to the same state go on together: what follows depends on nothing else. So each distinct state
is met by each report once, and the number of sequences that lead to it is carried along; their sum is checked against
what it must be, so that none is left out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from trading_desk import ONE, PERP, SPOT, T0, Desk

from agents.execution.orders import OrderState
from agents.execution.positions import PositionState
from agents.execution.state import AccountState, DeskState
from agents.execution.transitions import LIVE, TERMINAL
from agents.stage import ShardState
from schemas.dead_letters import BadRecord
from schemas.event import Event, Heartbeat
from schemas.orders import (
    AmendRequested,
    ExecType,
    Fill,
    OrderEvent,
    OrderStatus,
    ReportKind,
    SubmitRequested,
    VenueFill,
    VenueReport,
)
from schemas.values import NS_PER_MS, Liquidity, TimeInForce, notional

TENTH: Final = ONE // 10
ORDER: Final = "o1"
CAPITAL: Final = Decimal(100_000)
_FEE: Final = Decimal("0.04")
_S, _K = OrderStatus, ReportKind


def _fill(number: int, tenths: int, price: int, *, busted: bool = False) -> VenueFill:
    return VenueFill(
        fill_id=f"f{number}",
        price=price * ONE,
        quantity=tenths * TENTH,
        fee=_FEE,
        fee_currency="USD",
        liquidity=Liquidity.MAKER,
        event_time_ns=0,
        busted=busted,
    )


PART, REST, WHOLE, FIXED = _fill(1, 4, 99), _fill(2, 6, 100), _fill(3, 10, 101), _fill(4, 3, 98)


def _traded(fill: VenueFill, kind: ReportKind = _K.TRADE, **more: Any) -> dict[str, Any]:
    facts = {"fill_id": fill.fill_id, "last_price": fill.price, "last_quantity": fill.quantity, "fee": fill.fee}
    return {"kind": kind, "fee_currency": fill.fee_currency, "liquidity": fill.liquidity, **facts, **more}


def _status(status: OrderStatus, *fills: VenueFill, **more: Any) -> dict[str, Any]:
    told = sum(fill.quantity for fill in fills if not fill.busted)
    named = {"venue_order_id": "v1", "quantity": ONE, "limit_price": 100 * ONE}
    return {"kind": _K.STATUS, "status": status, "filled_quantity": told, "fills": fills, **named, **more}


AMENDED: Final = {"quantity": 7 * TENTH, "limit_price": 99 * ONE}
"""The terms that the walks' amend asks for."""
REPORTS: Final[dict[str, dict[str, Any]]] = {
    "accepted": {"kind": _K.ACCEPTED, "venue_order_id": "v1"},
    "rejected": {"kind": _K.REJECTED, "venue_order_id": "v1"},
    "canceled": {"kind": _K.CANCELED},
    "canceled-counting": {"kind": _K.CANCELED, "filled_quantity": 4 * TENTH},
    "cancel-rejected": {"kind": _K.CANCEL_REJECTED},
    "expired": {"kind": _K.EXPIRED, "venue_order_id": "v1"},
    "timed-out": {"kind": _K.TIMED_OUT},
    "not-found": {"kind": _K.NOT_FOUND},
    "not-sent": {"kind": _K.NOT_SENT},
    "part": _traded(PART),
    "rest": _traded(REST),
    "whole": _traded(WHOLE),
    "bust": {"kind": _K.TRADE_CANCEL, "refers_to": PART.fill_id},
    "bust-rest": {"kind": _K.TRADE_CANCEL, "refers_to": REST.fill_id},
    "corrected": _traded(FIXED, _K.TRADE_CORRECT, refers_to=PART.fill_id),
    "replaced": {"kind": _K.REPLACED, "amend_id": "a1", **AMENDED},
    "replaced-otherwise": {"kind": _K.REPLACED, "quantity": 9 * TENTH, "limit_price": 100 * ONE},
    "replace-rejected": {"kind": _K.REPLACE_REJECTED, "amend_id": "a1"},
    "status-new": _status(_S.NEW),
    "status-part": _status(_S.PARTIALLY_FILLED, PART),
    "status-filled": _status(_S.FILLED, PART, REST),
    "status-canceled": _status(_S.CANCELED),
    "status-replaced": _status(_S.NEW, **AMENDED),
    "status-busted": _status(_S.NEW, replace(PART, busted=True)),
    "status-stale": _status(_S.NEW, event_time_ns=T0 - 1),
}
SILENCES: Final = {"silence": 1_100, "long-silence": 6_000}
"""Milliseconds in which nobody says anything."""
LETTERS: Final = (*REPORTS, *SILENCES)


def _sent(desk: Desk, time_in_force: TimeInForce = TimeInForce.GTC, instrument: str = PERP) -> None:
    desk.approve(ORDER, time_in_force=time_in_force, instrument=instrument)


def _amending(desk: Desk, instrument: str = PERP, tenths: int = 7) -> None:
    _sent(desk, instrument=instrument)
    desk.report(ORDER, _K.ACCEPTED, venue_order_id="v1", instrument=instrument)
    terms: dict[str, Any] = {"quantity": tenths * TENTH, "limit_price": 99 * ONE, "instrument": instrument}
    desk.beat(5)
    desk.approve("a1", amends=ORDER, time_in_force=TimeInForce.GTC, **terms)
    assert desk.order(ORDER).status is _S.PENDING_REPLACE


def _cancelling(desk: Desk) -> None:
    _sent(desk)
    desk.report(ORDER, _K.ACCEPTED, venue_order_id="v1")
    desk.approve("c1", quantity=0, cancels=(ORDER,))
    assert desk.order(ORDER).status is _S.PENDING_CANCEL


def _both(desk: Desk) -> None:
    _amending(desk)
    desk.approve("c1", quantity=0, cancels=(ORDER,))
    assert desk.order(ORDER).status is _S.PENDING_CANCEL


STARTS: Final[dict[str, Callable[[Desk], None]]] = {
    "an order that takes, sent": lambda desk: _sent(desk, TimeInForce.IOC),
    "an order that rests, sent": _sent,
    "the same on a spot pair": lambda desk: _sent(desk, instrument=SPOT),
    "a cancel under way": _cancelling,
    "an amend downwards under way": _amending,
    "an amend upwards under way": lambda desk: _amending(desk, tenths=15),
    "an amend and a cancel under way": _both,
}


@dataclass
class Covered:
    """What a walk has covered: sequences of each length, distinct states, and steps taken (with their time)."""

    sequences: list[int] = field(default_factory=list)
    states: int = 0
    steps: int = 0
    refused: int = 0
    seconds: float = 0.0


Spoil = Callable[[ShardState, list[Event]], None]


class Walk:
    """All sequences from one start. ``spoil`` puts a fault into each step, to see that it is found."""

    def __init__(self, start: Callable[[Desk], None], spoil: Spoil | None = None) -> None:
        self._spoil = spoil
        desk = Desk()
        start(desk)
        self._stage = desk.stage
        self._instrument = desk.order(ORDER).instrument
        self._first = _freeze(desk.state, desk.now_ns)
        self.covered = Covered()

    def run(self, length: int) -> Covered:
        """Walk all sequences of up to ``length`` reports. Raises AssertionError that names the law and the step."""
        began = time.perf_counter()
        frontier = {self._first: 1}
        for depth in range(1, length + 1):
            reached: dict[bytes, int] = {}
            for frozen, ways in frontier.items():
                for letter in LETTERS:
                    # Nothing follows the last report: where it leads to need not be known.
                    found = self._step(frozen, letter, last=depth == length)
                    reached[found] = reached.get(found, 0) + ways
            assert sum(reached.values()) == len(LETTERS) ** depth, "a sequence was left out"
            self.covered.sequences.append(sum(reached.values()))
            self.covered.states += len(frontier)
            frontier = reached
        self.covered.seconds = time.perf_counter() - began
        return self.covered

    def _step(self, frozen: bytes, letter: str, *, last: bool) -> bytes:
        state, now_ns = _thaw(frozen, self._stage.state_type)
        before = Books(state)
        now_ns += SILENCES.get(letter, 0) * NS_PER_MS
        event = self._event(letter, now_ns)
        self.covered.steps += 1
        try:
            outputs = list(self._stage.step(state, event)[1])
            if self._spoil is not None:
                self._spoil(state, outputs)
        except BadRecord:
            self.covered.refused += 1
            assert _freeze(state, now_ns) == frozen, f"{letter} was refused and changed something"
            return frozen
        try:
            hold(before, Books(state), outputs)
        except AssertionError as error:
            raise AssertionError(f"{letter} after {before.order}: {error}") from error
        return b"" if last else _freeze(state, now_ns)

    def _event(self, letter: str, now_ns: int) -> Event:
        times = {"event_time_ns": now_ns, "available_at_ns": now_ns, "event_id": letter}
        if letter in SILENCES:
            return Heartbeat(key="market.event", **times)
        fields = {"key": "main", "order_id": ORDER, "instrument": self._instrument, **times, **REPORTS[letter]}
        return VenueReport(**fields)


class Books:
    """Order, account and position at one moment, copied as far as the laws look at them."""

    def __init__(self, state: ShardState) -> None:
        self.order: OrderState = msgspec.structs.replace(state[f"order/{ORDER}"])
        self.booked = {name: replace(fill) for name, fill in self.order.booked.items()}
        account: AccountState = state["account/main"]
        self.balances = dict(account.balances)
        self.open_orders = tuple(account.open_orders)
        found = account.positions.get(f"alpha|{self.order.instrument}")
        self.position = PositionState() if found is None else replace(found)


def hold(before: Books, after: Books, outputs: Sequence[Event], *, amends: bool = False) -> None:
    """Raise AssertionError, in words, for a law that does not hold."""
    order = after.order
    sent = [event for event in outputs if isinstance(event, SubmitRequested | AmendRequested)]
    assert not sent or (amends and len(sent) == 1 and isinstance(sent[0], AmendRequested)), "it was sent again"
    _hold_fills(before, after, [event for event in outputs if isinstance(event, Fill)])
    _hold_money(before, after, [event for event in outputs if isinstance(event, Fill)])
    live = order.status in LIVE
    assert (after.open_orders == (ORDER,)) is live, "the open orders are not those that are live"
    for event in (item for item in outputs if isinstance(item, OrderEvent)):
        works = 0 if event.final else max(event.quantity - event.filled_quantity, 0)
        assert event.leaves_quantity == works, "leaves are not what is ordered less what is filled"
        # Only the newest event of a step tells of the state that is looked at here.
    _hold_outcome(before, after, [event for event in outputs if isinstance(event, OrderEvent)])
    waits = order.status in (_S.UNKNOWN, _S.PENDING_NEW, _S.PENDING_CANCEL, _S.PENDING_REPLACE)
    assert not waits or order.timer_ns > 0, "nobody will ask about it"
    assert not live or order.exposed_quantity >= order.leaves_quantity, "it counts for less than it may fill"
    if order.amend is None:
        assert order.status is not _S.PENDING_REPLACE, "it waits for an amend that is over"
    elif live:
        assert order.status in (_S.PENDING_REPLACE, _S.PENDING_CANCEL, _S.UNKNOWN), "an amend is forgotten"


def _hold_fills(before: Books, after: Books, fills: list[Fill]) -> None:
    """What is filled is what the fills say, each booked once and taken back once."""
    order = after.order
    kept = [fill for fill in after.booked.values() if not fill.busted]
    assert order.filled_quantity == sum(fill.quantity for fill in kept), "filled is not what the fills say"
    gone = sum(fill.quantity for fill in after.booked.values() if fill.busted)
    assert order.busted_quantity >= gone, "what was taken back is not counted"
    assert order.busted_early or order.busted_quantity == gone, "more was taken back than was booked"
    changed = sum(-fill.quantity if fill.reverses else fill.quantity for fill in fills)
    assert order.filled_quantity - before.order.filled_quantity == changed, "the fills told are not those booked"
    for fill in fills:
        if fill.reverses is None:
            assert fill.fill_id not in before.booked, "a fill was booked twice"
        else:
            known = before.booked.get(fill.reverses)
            assert known is not None, "what was never booked was taken back"
            assert not known.busted, "a fill was taken back twice"
            assert (fill.quantity, fill.price, fill.fee) == (known.quantity, known.price, -known.fee)
    value = sum((Decimal(fill.price * fill.quantity).scaleb(-16) for fill in kept), Decimal(0))
    assert order.filled_notional == value, "the average price is not that of the fills"


def _hold_money(before: Books, after: Books, fills: list[Fill]) -> None:
    """The ledger sums to 0 in every asset, changes by what is told, and adds up with the position to the fills."""
    totals: dict[str, Decimal] = {}
    for key, amount in after.balances.items():
        asset = key.rpartition("|")[2]
        totals[asset] = totals.get(asset, Decimal(0)) + amount
    assert not any(totals.values()), "the ledger does not sum to 0"
    told = dict(before.balances)
    for posting in (posting for fill in fills for posting in fill.postings):
        key = f"{posting.ledger_account}|{posting.asset}"
        told[key] = told.get(key, Decimal(0)) + posting.amount
    assert told == after.balances, "the ledger changed by what nobody was told"
    position, side = after.position, after.order.side
    kept = [fill for fill in after.booked.values() if not fill.busted]
    assert position.quantity == side.sign * sum(fill.quantity for fill in kept), "the position is not its fills"
    spent = sum((notional(fill.price, side.sign * fill.quantity) for fill in kept), Decimal(0))
    assert position.realised_pnl - position.cost == -spent, "cost and result are not what the fills cost"
    assert position.fees == sum((fill.fee for fill in kept), Decimal(0)), "the fees are not those of the fills"
    cash = after.balances.get("cash|USD", Decimal(0))
    moved = position.realised_pnl if after.order.instrument == PERP else -spent
    assert cash == CAPITAL + moved - position.fees, "cash is not what came in less what went out"
    if fills:
        assert fills[-1].position_after == position.quantity


def _hold_outcome(before: Books, after: Books, told: list[OrderEvent]) -> None:
    """An order ends once: after its end only a late fill may still complete it."""
    was, became = before.order.status, after.order.status
    if was in TERMINAL:
        traded = [event for event in told if event.exec_type is ExecType.TRADE]
        completed = became is _S.FILLED and any(event.filled_quantity >= event.quantity for event in traded)
        assert became is was or completed, f"{was} became {became}"
    if became in TERMINAL and was not in TERMINAL:
        ended = {event.status for event in told if event.final}
        assert became in ended, "its end was not told"
        late = any("ANOMALY" in (event.reason or "") for event in told)
        assert len(ended) == 1 or late or became is _S.FILLED, "two ends were told"
    if became is not was:
        assert any(event.status is became for event in told), "a change of status was not told"


def _freeze(state: ShardState, now_ns: int) -> bytes:
    """Return a state as bytes, without what nothing that follows depends on."""
    account: AccountState = state["account/main"]
    account.messages_ns, account.contents_ns = [], {}
    account.conduct, account.orders_of_day = type(account.conduct)(), type(account.orders_of_day)()
    order: OrderState = state[f"order/{ORDER}"]
    order.anomalies = min(order.anomalies, 1)
    # The pauses between questions grow no further than this.
    order.attempts = min(order.attempts, 4)
    # Reports speak of now, or of before the beginning: when it was that the terms changed is all one.
    order.terms_at_ns = min(order.terms_at_ns, T0)
    if order.final:
        order.finished_at_ns = 0
        desk: DeskState = state["desk"]
        desk.next_timer_ns = 0
        if order.amend is None:
            # Nothing about an order that is over depends on the time, save when it is forgotten.
            now_ns = desk.now_ns = T0
    order.fill_ids.sort()
    order.busted_early.sort()
    return msgspec.msgpack.encode((now_ns, {key: state[key] for key in sorted(state)}))


def _thaw(frozen: bytes, type_of: Callable[[str], type]) -> tuple[ShardState, int]:
    now_ns, raws = _DECODER.decode(frozen)
    state = ShardState()
    for key, raw in raws.items():
        state.restore(key, _decoder(type_of(key)).decode(raw))
    return state, now_ns


_DECODER: Final = msgspec.msgpack.Decoder(tuple[int, dict[str, msgspec.Raw]])
_DECODERS: dict[type, msgspec.msgpack.Decoder[Any]] = {}


def _decoder(kind: type) -> msgspec.msgpack.Decoder[Any]:
    found = _DECODERS.get(kind)
    if found is None:
        found = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    return found


def report(name: str, covered: Covered) -> str:
    """Return one line on a walk."""
    return (
        f"{name:<34} {sum(covered.sequences):>15,} sequences, {covered.states:>9,} states, {covered.steps:>11,} steps,"
        f" {covered.refused:,} refused, {covered.seconds:.1f} s"
    )
