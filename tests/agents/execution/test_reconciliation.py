"""After a claim: the venues' answers in any order and any number give the same books, and nothing new leaves before."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from trading_desk import INSTRUMENTS, ONE, PERP, SPOT, Desk, instrument, wide_limits

from agents.execution.reconciliation_state import Doubt, OrphanPolicy, ReconciliationState
from agents.execution.state import AccountTerms, ExecutionConfig, StrategyTerms
from schemas.client_ids import client_order_id
from schemas.dead_letters import BadRecord
from schemas.decisions import DenyReason
from schemas.event import Event
from schemas.order_ids import order_id_of
from schemas.orders import (
    CancelRequested,
    Fill,
    OrderEvent,
    OrderStatus,
    QueryRequested,
    ReportKind,
    SubmitRequested,
    VenueFill,
)
from schemas.reconciliation import BooksRequested, ToldOrder, VenueBooks
from schemas.values import Liquidity, OrderType, Side, TimeInForce

ELSEWHERE = "ALT:ETHUSD"
TENTH = ONE // 10
FOREIGN = "web_4f7b"
TWO_VENUES = ExecutionConfig(
    limits={"main": wide_limits("alpha", "beta")},
    instruments=INSTRUMENTS | {ELSEWHERE: instrument(ELSEWHERE, shortable=True)},
    accounts={"main": AccountTerms(capital=Decimal(100_000), currency="USD")},
    strategies={
        "alpha": StrategyTerms(account="main", instruments=(PERP, SPOT, ELSEWHERE)),
        "beta": StrategyTerms(account="main", instruments=(PERP,)),
    },
)


def _fill(name: str, quantity: int, price: int = 100 * ONE, at_ns: int = 1) -> VenueFill:
    return VenueFill(
        fill_id=name,
        price=price,
        quantity=quantity,
        fee=Decimal("0.04"),
        fee_currency="USD",
        liquidity=Liquidity.TAKER,
        event_time_ns=at_ns,
    )


def _told(order_id: str, status: OrderStatus, *fills: VenueFill, **changes: Any) -> ToldOrder:
    fields: dict[str, Any] = {
        "order_id": order_id,
        "client_id": f"{order_id}-1",
        "venue_order_id": f"v-{order_id}",
        "instrument": PERP,
        "side": Side.BUY,
        "quantity": ONE,
        "filled_quantity": sum(fill.quantity for fill in fills),
        "status": status,
        "created_at_ns": 1,
        "account": "main",
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "limit_price": 100 * ONE,
        "fills": fills,
    }
    return ToldOrder(**fields | changes)


def _answer(desk: Desk, asked: BooksRequested, *orders: ToldOrder, **changes: Any) -> Sequence[Event]:
    return desk.give(_books(desk, asked, *orders, **changes))


def _books(desk: Desk, asked: BooksRequested, *orders: ToldOrder, **changes: Any) -> VenueBooks:
    positions: dict[str, int] = {}
    for told in orders:
        place = f"main|{told.instrument}"
        positions[place] = positions.get(place, 0) + told.side.sign * told.filled_quantity
    fields: dict[str, Any] = {
        "key": asked.venue,
        "event_time_ns": desk.now_ns,
        "available_at_ns": desk.now_ns,
        "venue": asked.venue,
        "epoch": asked.epoch,
        "attempt": asked.attempt,
        "orders": orders,
        "positions": positions,
    }
    return VenueBooks(**fields | changes)


def _asked(outputs: Sequence[Event]) -> list[BooksRequested]:
    return [event for event in outputs if isinstance(event, BooksRequested)]


def _claimed(desk: Desk, epoch: int = 2) -> BooksRequested:
    (asked,) = _asked(desk.claim(epoch))
    return asked


def _standing(desk: Desk) -> ReconciliationState:
    found = desk.stage.reconciliation(desk.state)
    assert found is not None
    return found


def _kinds(desk: Desk) -> list[tuple[Doubt, str]]:
    return [(item.kind, item.name) for item in _standing(desk).missing()]


def _resting(desk: Desk, order_id: str, **changes: Any) -> None:
    desk.approve(order_id, time_in_force=TimeInForce.GTC, **changes)
    desk.report(
        order_id, ReportKind.ACCEPTED, venue_order_id=f"v-{order_id}", instrument=changes.get("instrument", PERP)
    )


def _denied(outputs: Sequence[Event]) -> bool:
    (event,) = outputs
    assert isinstance(event, OrderEvent)
    return event.status is OrderStatus.DENIED and DenyReason.RECONCILING in event.deny_reasons


def _books_of(desk: Desk) -> dict[str, bytes]:
    """Return all that the books hold: not how often somebody asked."""
    kept = {key: value for key, value in desk.state.items() if key.startswith(("account/", "order/"))}
    return {key: msgspec.msgpack.encode(value) for key, value in kept.items()}


def test_nothing_is_traded_between_a_claim_and_the_venue_s_answer() -> None:
    desk = Desk()
    asked = _claimed(desk, 1)
    assert (asked.venue, asked.instruments, asked.epoch, asked.attempt) == ("SIM", (PERP, SPOT), 1, 1)
    assert _denied(desk.approve("o1"))
    assert _kinds(desk) == [(Doubt.NOT_ANSWERED, "SIM")]
    assert _answer(desk, asked) == []
    assert _standing(desk).clean_at_ns == desk.now_ns
    assert any(isinstance(event, SubmitRequested) for event in desk.approve("o2"))


def test_who_is_not_answered_asks_again_and_takes_only_the_newest_answer_of_its_own_claim() -> None:
    desk = Desk()
    first = _claimed(desk, 1)
    (second,) = _asked(desk.beat(600))
    assert (second.attempt, second.epoch) == (2, 1)
    _answer(desk, second, positions={f"main|{PERP}": 5})
    assert _kinds(desk) == [(Doubt.POSITION, f"main|{PERP}")]
    _answer(desk, first)
    assert _kinds(desk) == [(Doubt.POSITION, f"main|{PERP}")], "it was asked before, and comes late"
    again = _claimed(desk, 2)
    _answer(desk, replace(second, attempt=9))
    assert _standing(desk).epoch == 2
    assert _kinds(desk) == [(Doubt.NOT_ANSWERED, "SIM")]
    _answer(desk, again)
    assert _standing(desk).clean_at_ns


def test_a_silent_venue_keeps_all_venues_waiting() -> None:
    desk = Desk(TWO_VENUES)
    here, there = sorted(_asked(desk.claim(1)), key=lambda asked: asked.venue, reverse=True)
    assert (here.venue, there.venue) == ("SIM", "ALT")
    _answer(desk, here)
    assert _denied(desk.approve("o1"))
    assert _kinds(desk) == [(Doubt.NOT_ANSWERED, "ALT")]
    _answer(desk, there)
    assert not _kinds(desk)


def test_cancels_leave_while_the_books_are_compared() -> None:
    desk = Desk()
    _resting(desk, "o1")
    _claimed(desk)
    outputs = desk.approve("c1", quantity=0, cancels=("o1",))
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == ["o1"]


def test_what_reduces_leaves_once_the_venue_has_answered_and_its_instrument_is_not_in_doubt() -> None:
    desk = Desk()
    desk.approve("o1")
    desk.trade("o1", "f1", ONE)
    asked = _claimed(desk)
    assert _denied(desk.approve("s1", side=Side.SELL))
    held = {f"main|{PERP}": ONE, f"main|{SPOT}": 3}
    _answer(desk, asked, positions=held)
    assert _kinds(desk) == [(Doubt.POSITION, f"main|{SPOT}")]
    assert _denied(desk.approve("o2", quantity=TENTH)), "it adds"
    assert any(isinstance(event, SubmitRequested) for event in desk.approve("s2", side=Side.SELL, quantity=TENTH))
    asked = _claimed(desk, 3)
    _answer(desk, asked, positions={f"main|{PERP}": TENTH})
    assert _denied(desk.approve("s3", side=Side.SELL, quantity=TENTH)), "nobody knows what there is to close"


def test_fills_that_nobody_heard_of_are_booked_and_the_same_answer_again_changes_nothing() -> None:
    desk = Desk()
    _resting(desk, "o1")
    asked = _claimed(desk)
    told = _told("o1", OrderStatus.FILLED, _fill("f2", 4 * TENTH, at_ns=2), _fill("f1", 6 * TENTH, at_ns=1))
    outputs = _answer(desk, asked, told)
    assert [event.fill_id for event in outputs if isinstance(event, Fill)] == ["f1", "f2"]
    assert desk.order("o1").status is OrderStatus.FILLED
    assert _standing(desk).clean_at_ns
    before = _books_of(desk)
    assert _answer(desk, asked, told) == []
    again = _claimed(desk, 3)
    assert _answer(desk, again, told) == []
    assert _books_of(desk) == before


def test_an_intent_that_the_venue_does_not_have_blocks_until_it_cannot_arrive_any_more() -> None:
    desk = Desk()
    desk.approve("o1")
    asked = _claimed(desk)
    assert asked.client_ids == (desk.order("o1").client_order_id or "o1",)
    outputs = _answer(desk, asked)
    assert [event.order_id for event in outputs if isinstance(event, QueryRequested)] == ["o1"]
    assert _kinds(desk) == [(Doubt.ORDER_MISSING, "o1")]
    assert _denied(desk.approve("o2"))
    desk.beat(8_000)
    desk.report("o1", ReportKind.NOT_FOUND)
    assert desk.order("o1").status is OrderStatus.NOT_SENT
    (again,) = _asked(desk.beat(1))
    _answer(desk, again)
    assert _standing(desk).clean_at_ns
    assert any(isinstance(event, SubmitRequested) for event in desk.approve("o3"))


def test_an_order_that_is_over_here_and_works_there_is_cancelled_and_waited_for() -> None:
    desk = Desk()
    _resting(desk, "o1")
    desk.report("o1", ReportKind.CANCELED)
    asked = _claimed(desk)
    outputs = _answer(desk, asked, _told("o1", OrderStatus.NEW))
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == ["o1"]
    assert _kinds(desk) == [(Doubt.ORDER_OPEN_THERE, "o1")]
    (again,) = _asked(desk.beat(6_000))
    _answer(desk, again, _told("o1", OrderStatus.CANCELED))
    assert _standing(desk).clean_at_ns


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (_told("o1", OrderStatus.NEW, quantity=2 * ONE), Doubt.ORDER_DIFFERS),
        (_told("o1", OrderStatus.NEW, limit_price=99 * ONE), Doubt.ORDER_DIFFERS),
        (_told("o1", OrderStatus.NEW, side=Side.SELL), Doubt.ORDER_DIFFERS),
        (_told("o1", OrderStatus.NEW, _fill("f1", TENTH), account="other"), Doubt.ORDER_DIFFERS),
        (_told("o1", OrderStatus.PARTIALLY_FILLED, filled_quantity=TENTH), Doubt.FILL_MISSING_HERE),
    ],
)
def test_what_cannot_be_the_same_order_is_listed_with_both_sides_and_blocks(told: ToldOrder, kind: Doubt) -> None:
    desk = Desk()
    _resting(desk, "o1")
    _answer(desk, _claimed(desk), told, positions={})
    (item,) = _standing(desk).missing()
    assert (item.kind, item.name) == (kind, "o1")
    assert item.ours
    assert item.theirs
    assert not desk.account.positions.get(f"alpha|{PERP}") or not desk.account.positions[f"alpha|{PERP}"].quantity
    assert _denied(desk.approve("o2"))


def test_a_fill_of_ours_that_the_venue_has_not_is_listed() -> None:
    desk = Desk()
    _resting(desk, "o1")
    desk.trade("o1", "f1", TENTH)
    _answer(desk, _claimed(desk), _told("o1", OrderStatus.NEW), positions={f"main|{PERP}": TENTH})
    assert _kinds(desk) == [(Doubt.FILL_MISSING_THERE, "o1")]


def test_less_of_an_asset_than_the_books_hold_is_a_difference_and_more_is_none() -> None:
    desk = Desk()
    desk.approve("o1", instrument=SPOT, quantity=10 * ONE)
    desk.trade("o1", "f1", 10 * ONE, instrument=SPOT, fee=Decimal("0.01"), fee_currency="ETH")
    asked = _claimed(desk)
    _answer(desk, asked, positions=None, balances={"ETH": Decimal("9.9899"), "USD": Decimal(1)})
    assert _kinds(desk) == [(Doubt.BALANCE, "ETH")]
    (again,) = _asked(desk.beat(6_000))
    _answer(desk, again, positions=None, balances={"ETH": Decimal("9.99"), "USD": Decimal(1)})
    assert not _kinds(desk)


def _orphan(strategy: str = "beta") -> str:
    return order_id_of("a decision that nobody remembers", ("main", strategy))


def _under(policy: OrphanPolicy) -> Desk:
    return Desk(replace_config(policy))


def replace_config(policy: OrphanPolicy) -> ExecutionConfig:
    return ExecutionConfig(
        limits=TWO_VENUES.limits,
        instruments=INSTRUMENTS,
        accounts=TWO_VENUES.accounts,
        strategies={
            "alpha": StrategyTerms(account="main", instruments=(PERP, SPOT)),
            "beta": StrategyTerms(account="main", instruments=(PERP,)),
        },
        orphan_orders=policy,
    )


def test_an_orphan_is_adopted_where_its_id_belongs_and_then_followed_like_any_order() -> None:
    desk, name = _under(OrphanPolicy.ADOPT), _orphan()
    told = _told(name, OrderStatus.PARTIALLY_FILLED, _fill("f1", TENTH), client_id=client_order_id(name, 1))
    outputs = _answer(desk, _claimed(desk), told)
    assert _standing(desk).clean_at_ns
    order = desk.order(name)
    assert (order.account, order.strategy, order.status) == ("main", "beta", OrderStatus.PARTIALLY_FILLED)
    assert desk.account.positions[f"beta|{PERP}"].quantity == TENTH
    assert not any(isinstance(event, CancelRequested) for event in outputs)
    outputs = desk.approve("c1", quantity=0, cancels=(name,))
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == [name]


def test_an_orphan_is_cancelled_and_what_it_had_filled_is_booked_when_its_id_says_whose_it_was() -> None:
    desk, name = _under(OrphanPolicy.CANCEL), _orphan()
    told = _told(name, OrderStatus.PARTIALLY_FILLED, _fill("f1", TENTH), client_id=client_order_id(name, 1))
    outputs = _answer(desk, _claimed(desk), told)
    (cancel,) = [event for event in outputs if isinstance(event, CancelRequested)]
    assert (cancel.order_id, cancel.client_order_id) == (name, told.client_id)
    assert desk.account.positions[f"beta|{PERP}"].quantity == TENTH
    assert desk.order(name).status is OrderStatus.PENDING_CANCEL
    assert _standing(desk).clean_at_ns
    desk.report(name, ReportKind.CANCELED)
    assert desk.order(name).final


def test_an_orphan_whose_owner_nobody_knows_is_cancelled_and_waited_for() -> None:
    desk, name = _under(OrphanPolicy.CANCEL), _orphan("a strategy of yore")
    outputs = _answer(desk, _claimed(desk), _told(name, OrderStatus.NEW))
    assert [event.order_id for event in outputs if isinstance(event, CancelRequested)] == [name]
    assert _kinds(desk) == [(Doubt.ORPHAN_ORDER, name)]
    (again,) = _asked(desk.beat(6_000))
    _answer(desk, again, _told(name, OrderStatus.CANCELED))
    assert _standing(desk).clean_at_ns


@pytest.mark.parametrize(
    ("policy", "name"), [(OrphanPolicy.HALT, _orphan()), (OrphanPolicy.ADOPT, _orphan("a strategy of yore"))]
)
def test_an_orphan_that_is_to_be_left_alone_or_is_nobody_s_blocks(policy: OrphanPolicy, name: str) -> None:
    desk = _under(policy)
    outputs = _answer(desk, _claimed(desk), _told(name, OrderStatus.NEW))
    assert not any(isinstance(event, CancelRequested) for event in outputs)
    assert _kinds(desk) == [(Doubt.ORPHAN_ORDER, name)]
    assert _denied(desk.approve("o1"))


def test_an_orphan_that_the_venue_has_under_another_account_is_not_adopted() -> None:
    desk = _under(OrphanPolicy.ADOPT)
    _answer(desk, _claimed(desk), _told(_orphan(), OrderStatus.NEW, account="other"))
    assert _kinds(desk) == [(Doubt.ORPHAN_ORDER, _orphan())]


@pytest.mark.parametrize("policy", list(OrphanPolicy))
def test_an_order_that_is_not_ours_is_told_of_never_touched_and_blocks_nothing(policy: OrphanPolicy) -> None:
    desk = _under(policy)
    outputs = _answer(desk, _claimed(desk), _told(FOREIGN, OrderStatus.NEW, client_id=FOREIGN))
    assert outputs == []
    assert _kinds(desk) == [(Doubt.FOREIGN_ORDER, FOREIGN)]
    assert _standing(desk).clean_at_ns
    assert any(isinstance(event, SubmitRequested) for event in desk.approve("o1"))


def test_an_answer_that_cannot_be_right_is_refused_before_anything_is_booked() -> None:
    told = _told("o1", OrderStatus.PARTIALLY_FILLED, _fill("f1", TENTH))
    for orders in (
        (told, told),
        (replace(told, fills=(_fill("f1", TENTH), _fill("f1", TENTH))),),
        (replace(told, fills=(_fill("f1", 0),)),),
        (replace(told, fills=(_fill("f1", TENTH, price=0),)),),
        (replace(told, instrument="SIM:GONE"),),
    ):
        desk = Desk()
        _resting(desk, "o1")
        asked, before = _claimed(desk), _books_of(desk)
        with pytest.raises(BadRecord):
            _answer(desk, asked, *orders)
        assert _books_of(desk) == before
        _answer(desk, asked, _told("o1", OrderStatus.NEW))
        assert _standing(desk).clean_at_ns


STATUSES = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED, OrderStatus.CANCELED, None)


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[str, Side, OrderStatus | None, list[tuple[int, int]]]]:
    """Orders of ours by (instrument, side, what became of it, fills); None: the venue has never had it."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        status = draw(st.sampled_from(STATUSES))
        fills = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(90, 110)), max_size=3))
        if status is OrderStatus.FILLED:
            fills = [(10 - sum(tenths for tenths, _ in fills), 100), *fills]
        elif status is OrderStatus.PARTIALLY_FILLED:
            fills = fills or [(1, 100)]
        else:
            fills = [] if status in (OrderStatus.NEW, None) else fills
        found.append((draw(st.sampled_from([PERP, ELSEWHERE])), draw(st.sampled_from(list(Side))), status, fills))
    return found


def _after(history: Any, seed: int) -> tuple[dict[str, Any], int]:
    """Return the books after a take-over in which everything that the venues say comes in an order of the seed's."""
    draws = Random(seed)
    desk = Desk(TWO_VENUES)
    told: dict[str, list[ToldOrder]] = {"SIM": [], "ALT": []}
    absent: list[tuple[str, str]] = []
    at_ns = 0
    for number, (key, side, status, fills) in enumerate(history):
        name = f"o{number}"
        desk.beat(2)  # The same order twice in one moment is denied, as is one that would meet another of ours.
        terms: dict[str, Any] = {"instrument": key, "side": side, "limit_price": (100 - 10 * side.sign) * ONE}
        desk.approve(name, time_in_force=TimeInForce.GTC, **terms)
        if status is None:
            absent.append((name, key))
            continue
        listed = []
        for serial, (tenths, price) in enumerate(fills):
            at_ns += 1
            listed.append(_fill(f"{name}-{serial}", tenths * TENTH, price * ONE, (at_ns * 7_919) % 1_009))
        draws.shuffle(listed)
        told[key.partition(":")[0]].append(_told(name, status, *listed, **terms))
    asked = {item.venue: item for item in _asked(desk.claim(2))}
    answers = []
    for venue, orders in told.items():
        draws.shuffle(orders)
        answers.append(_books(desk, asked[venue], *orders))
    draws.shuffle(answers)
    for answer in answers + draws.sample(answers, len(answers)):
        desk.give(answer)
    desk.beat(8_000)
    draws.shuffle(absent)
    for name, key in absent + absent:
        desk.report(name, ReportKind.NOT_FOUND, instrument=key)
    for request in _asked(desk.beat(6_000)):
        desk.give(_books(desk, request, *told[request.venue]))
    return _settled(_books_of(desk)), _standing(desk).clean_at_ns


def _settled(books: dict[str, bytes]) -> dict[str, Any]:
    """Return the books without when somebody is to be asked, which is no part of what is known."""
    found = {}
    for key, content in books.items():
        value = msgspec.msgpack.decode(content)
        for name in ("timer_ns", "attempts", "messages_ns"):
            value.pop(name, None)
        found[key] = value
    return found


@settings(max_examples=60, deadline=None)
@given(history=_histories(), seeds=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)))
def test_the_same_answers_in_any_order_and_any_number_give_the_same_books(history: Any, seeds: tuple[int, int]) -> None:
    first, second = (_after(history, seed) for seed in seeds)
    assert first[0] == second[0]
    assert first[1], "everything was told, so the books are the venues'"
    assert second[1]


def test_the_standing_outlives_its_process() -> None:
    desk = Desk()
    _answer(desk, _claimed(desk), positions={f"main|{PERP}": 5})
    content = msgspec.msgpack.encode(desk.state["reconciliation"])
    assert msgspec.msgpack.decode(content, type=desk.stage.state_type("reconciliation")) == _standing(desk)


def _tags() -> Iterator[str]:
    for number in range(200):
        yield order_id_of(f"decision {number}", ("main", "alpha"))


def test_an_id_says_whose_it_is_and_no_two_are_alike() -> None:
    names = list(_tags())
    assert len(set(names)) == len(names)
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
