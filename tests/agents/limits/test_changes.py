"""A change is refused for a closed reason, or makes the next version; what loosens needs two, now and later."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import PERP, SPOT, limits
from proposed_changes import T0, TWO, examined, level_change, limits_change

from agents.limits.book import EffectiveLimits, LimitBook, adopted, book_of, effective, lapsed, seeded
from agents.limits.changes import OVERRIDE_MAX_NS, Decided, LevelNow, decide
from agents.limits.strictness import loosened
from schemas.changes import (
    Change,
    ChangeRefusal,
    ControlOutcome,
    OutcomeKind,
    canonical_text,
    change_id,
    parsed_change,
    signed_bytes,
)
from schemas.control import ControlAction, ScopeKind
from schemas.values import NS_PER_S, Level

R = ChangeRefusal
SEEDS = {"main": limits(), "other": limits(order_value_max=500)}
SETS = {
    "GLOBAL|*": {
        "price_collar": "0.01",
        "order_value_max": "1000",
        "position_value_max": "2000",
        "gross_exposure_max": "3000",
        "net_exposure_max": "2500",
        "leverage_max": "2",
        "messages_max": "100",
        "daily_loss_max": "500",
        "drawdown_max": "0.1",
    },
    "ACCOUNT|main": {"permissions.alpha": "*", "permissions.beta": PERP},
    "ACCOUNT|other": {"order_value_max": "500", "permissions.gamma": SPOT},
    f"INSTRUMENT|{PERP}": {"order_quantity_max": "3"},
}
BOOK = seeded(SETS)
LIMITS = EffectiveLimits(SEEDS, BOOK)
HOUR = 3_600 * NS_PER_S


def decided(change: Change, approved_by: tuple[str, ...] = TWO, book: LimitBook = BOOK, **more: Any) -> Decided:
    """Return what a change comes to."""
    now_ns = more.pop("now_ns", T0)
    level = more.pop("level", LevelNow())
    return decide(book, LIMITS, examined(change, approved_by, **more), level, now_ns)


def after(change: Change, approved_by: tuple[str, ...] = TWO, book: LimitBook = BOOK, now_ns: int = T0) -> LimitBook:
    """Return the book after a change that must be accepted."""
    found = decided(change, approved_by, book, now_ns=now_ns)
    assert found.refusal is None, (found.refusal, found.detail)
    assert found.book is not None
    return found.book


def value(book: LimitBook, name: str, account: str = "main") -> Any:
    """Return one effective limit."""
    return getattr(LIMITS.of(book)[account], name)


def smaller(base: str = BOOK.version, **changes: Any) -> Change:
    return limits_change(base, values={"order_value_max": "900"}, **changes)


def larger(base: str = BOOK.version, **changes: Any) -> Change:
    return limits_change(base, **{"values": {"order_value_max": "1100"}} | changes)


def test_a_raise_needs_two_people_and_lowering_only_its_author() -> None:
    assert decided(larger(), ()).refusal is R.NEEDS_TWO_PEOPLE
    assert decided(larger(), ("ann",)).refusal is R.NEEDS_TWO_PEOPLE
    assert decided(larger(), ("ann", "ann")).refusal is R.NEEDS_TWO_PEOPLE
    found = decided(larger())
    assert found.loosens == ("main.order_value_max",)
    assert value(after(larger()), "order_value_max") == 1100
    assert value(after(smaller(), ()), "order_value_max") == 900


def test_a_value_of_an_account_is_weighed_against_the_global_one_that_it_replaces() -> None:
    own = {"values": {"order_value_max": "1001"}}
    assert decided(limits_change(BOOK.version, **own), ()).refusal is R.NEEDS_TWO_PEOPLE
    below = limits_change(BOOK.version, values={"order_value_max": "999"})
    book = after(below, ())
    back = limits_change(book.version, values={"order_value_max": ""}, nonce="2")
    assert decided(back, (), book).refusal is R.NEEDS_TWO_PEOPLE, "to take it away lets the larger one in again"


def test_what_is_raised_for_whoever_comes_later_is_raised() -> None:
    """Both accounts have values of their own, so that nobody has more today; the next account would."""
    book = after(limits_change(BOOK.version, values={"order_value_max": "999"}), ())
    change = limits_change(
        book.version, scope=ScopeKind.GLOBAL, target="*", values={"order_value_max": "5000"}, nonce="3"
    )
    found = decided(change, ("ann",), book)
    assert (found.refusal, found.detail) == (R.NEEDS_TWO_PEOPLE, "*.order_value_max")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (smaller("0" * 16), R.STALE_BASE),
        (smaller(expires_at_ns=T0 - 1), R.EXPIRED),
        (limits_change(BOOK.version, values={"nonsense": "1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"order_value_max": "NaN"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"order_value_max": "-1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"messages_max": "1.5"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"order_value_max": "1e-999999"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"messages_max": "9" * 70_000}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"order_quantity_max": "5", "order_quantity_max.X": "1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"order_quantity_max.X": "1", "order_quantity_max": "5"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={f"order_quantity_max.{PERP}": "lots"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"": "1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"drawdown_max": "1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"capital": "1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"permissions": "*"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, target="nobody"), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, scope=ScopeKind.INSTRUMENT, target=PERP), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, scope=ScopeKind.STRATEGY, target="s", values={"x": "1"}), R.NOT_A_LIMIT),
        (limits_change(BOOK.version, values={"permissions.alpha": "*"}), R.CHANGES_NOTHING),
        (larger(until_ns=T0), R.OVERRIDE_OVER),
        (larger(until_ns=T0 + OVERRIDE_MAX_NS + 1), R.OVERRIDE_TOO_LONG),
        (smaller(until_ns=T0 + HOUR), R.OVERRIDE_LOWERS),
        (limits_change(BOOK.version, values={"order_value_max": ""}, until_ns=T0 + HOUR), R.NOT_A_LIMIT),
        (level_change(target="nobody", scope=ScopeKind.ACCOUNT), R.NOT_A_LIMIT),
    ],
)
def test_each_refusal_has_its_closed_reason(change: Change, refusal: ChangeRefusal) -> None:
    found = decided(change)
    assert (found.refusal, found.book) == (refusal, None)


@pytest.mark.parametrize("refusal", list(ChangeRefusal))
def test_what_the_shell_refused_stays_refused(refusal: ChangeRefusal) -> None:
    assert decided(smaller(), (), refusal=refusal).refusal is refusal


def test_the_same_change_is_applied_once_and_forgotten_only_when_it_is_over() -> None:
    book = after(larger())
    assert decided(larger(), TWO, book).refusal is R.ALREADY_APPLIED
    second = smaller(book.version, nonce="2", expires_at_ns=T0 + 2 * HOUR)
    later = after(second, (), book, now_ns=T0 + HOUR + 1)
    assert change_id(canonical_text(larger())) not in later.applied
    assert decided(larger(), TWO, later, now_ns=T0 + HOUR + 1).refusal is R.EXPIRED


def test_an_override_raises_until_its_end_and_the_version_is_a_new_one_then() -> None:
    book = after(larger(until_ns=T0 + HOUR))
    assert value(book, "order_value_max") == 1100
    assert lapsed(book, T0 + HOUR - 1) is book
    over = lapsed(book, T0 + HOUR)
    assert value(over, "order_value_max") == 1000
    assert len({BOOK.version, book.version, over.version}) == 3
    assert over.under_override == {book.version: T0 + HOUR}
    assert over.sets == BOOK.sets


def test_lowering_ends_the_override_of_the_same_limit_at_once() -> None:
    book = after(larger(until_ns=T0 + HOUR))
    lower = after(limits_change(book.version, values={"order_value_max": "800"}, nonce="2"), (), book)
    assert value(lower, "order_value_max") == 800
    assert lower.overrides == ()
    assert value(lapsed(lower, T0 + HOUR), "order_value_max") == 800


def test_what_would_be_looser_once_an_override_is_over_is_a_raise_already() -> None:
    """Below the override, but above what would hold after it: one person must not turn the one into the other."""
    book = after(larger(until_ns=T0 + HOUR))
    sly = limits_change(book.version, values={"order_value_max": "1050"}, nonce="2")
    assert decided(sly, ("ann",), book).refusal is R.NEEDS_TWO_PEOPLE


def test_overrides_lapse_one_after_the_other_and_by_the_same_names_for_everybody() -> None:
    first = after(larger(until_ns=T0 + HOUR))
    second = after(
        limits_change(first.version, values={"messages_max": "200"}, until_ns=T0 + 2 * HOUR, nonce="2"), TWO, first
    )
    step = lapsed(lapsed(second, T0 + HOUR), T0 + 2 * HOUR)
    assert step == lapsed(second, T0 + 2 * HOUR), "whoever looked meanwhile ends at the same version"
    assert (value(lapsed(second, T0 + HOUR), "messages_max"), value(step, "messages_max")) == (200, 100)
    assert second.under_override[second.version] == T0 + HOUR


def test_a_reset_needs_two_people_who_have_seen_what_set_the_level() -> None:
    reset = level_change(seen=7)
    at_ns = reset.proposed_at_ns
    assert decided(reset, ("ann",), now_ns=at_ns).refusal is R.NEEDS_TWO_PEOPLE
    assert decided(reset, now_ns=at_ns, level=LevelNow(ordinal=8)).refusal is R.STALE_BASE
    assert decided(reset, now_ns=at_ns, level=LevelNow(7, at_ns + 1)).refusal is R.STALE_BASE
    found = decided(reset, now_ns=at_ns, level=LevelNow(7, at_ns))
    assert found.book is not None and found.book.version == BOOK.version
    again = decide(found.book, LIMITS, examined(reset), LevelNow(7), at_ns)
    assert again.refusal is R.ALREADY_APPLIED, "who kept an old reset cannot lift a new kill with it"
    assert decided(level_change(Level.HALTED), (), now_ns=at_ns).refusal is None


def test_sets_and_limits_are_the_same_said_twice() -> None:
    for seeds in (SEEDS, effective(BOOK, SEEDS)):
        assert effective(book_of(seeds), seeds) == dict(seeds)
    canary = {"main": limits(canaries={"alpha": {"orders_per_day_max": 3, "instruments": [PERP]}})}
    assert effective(book_of(canary), canary) == canary


def test_a_set_of_an_instrument_only_caps_further() -> None:
    both = limits_change(BOOK.version, values={f"order_quantity_max.{PERP}": "5"})
    assert value(after(both, ()), "order_quantity_max") == {PERP: Decimal(3)}, "the stricter of the two holds"


def test_who_follows_the_word_of_execution_has_its_book() -> None:
    book = after(larger(until_ns=T0 + HOUR))
    told = ControlOutcome(
        key="*",
        event_time_ns=T0,
        available_at_ns=T0,
        outcome=OutcomeKind.APPLIED,
        command_id="c",
        change_id="x",
        author="ann",
        reason="more room",
        approved_by=TWO,
        action=ControlAction.SET_LIMITS,
        scope=ScopeKind.ACCOUNT,
        target="main",
        version=book.version,
        sets=book.sets,
        overrides=book.overrides,
    )
    follower = adopted(BOOK, told)
    assert LIMITS.of(follower) == LIMITS.of(book)
    assert lapsed(follower, T0 + HOUR).version == lapsed(book, T0 + HOUR).version
    assert follower.under_override == book.under_override


_STEP = st.tuples(
    st.sampled_from(["GLOBAL", "ACCOUNT"]),
    st.sampled_from(["order_value_max", "messages_max", "duplicate_window_ms"]),
    st.sampled_from(["50", "80", "100", "150", ""]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([None, 1, 3]),
)


@pytest.mark.slow
@given(steps=st.lists(_STEP, max_size=12))
def test_no_row_of_changes_loosens_anything_without_two_people(steps: list[tuple[Any, ...]]) -> None:
    """Whatever one person does, at any time: the limits are never looser than without it, now or later."""
    book, now_ns = BOOK, T0
    for number, (scope, name, text, people, hours) in enumerate(steps):
        now_ns += HOUR // 2
        book = lapsed(book, now_ns)
        change = Change(
            action=ControlAction.SET_LIMITS,
            scope=ScopeKind(scope),
            target="*" if scope == "GLOBAL" else "main",
            base=book.version,
            owner="ann",
            reason="r",
            proposed_at_ns=now_ns,
            expires_at_ns=now_ns + HOUR,
            nonce=str(number),
            values={name: text},
            until_ns=None if hours is None else now_ns + hours * HOUR,
        )
        found = decide(book, LIMITS, examined(change, TWO[:people]), LevelNow(), now_ns)
        if found.book is None:
            continue
        for time_ns in range(now_ns, now_ns + 6 * HOUR, HOUR // 4):
            old, new = (effective(lapsed(one, time_ns), SEEDS) for one in (book, found.book))
            assert people == 2 or not loosened(old, new)
        book = found.book


def test_the_canonical_text_is_the_only_one_that_is_read() -> None:
    change = larger()
    text = canonical_text(change)
    assert parsed_change(text) == change
    assert signed_bytes(text).startswith(b"tradermind change 1\n")
    for other in (text + " ", text.replace(":", ": ", 1), "", "{}", text[:-1], text.replace("{", '{"more":1,', 1)):
        with pytest.raises(ValueError, match="change"):
            parsed_change(other)
    swapped = msgspec.structs.replace(change, values={"b": "1", "a": "2"})
    assert canonical_text(swapped) == canonical_text(msgspec.structs.replace(change, values={"a": "2", "b": "1"}))
    assert change_id(text) != change_id(canonical_text(msgspec.structs.replace(change, nonce="2")))


def test_to_take_away_what_holds_for_all_needs_two_people() -> None:
    """Without it there would be nothing that a later, larger value could be compared with."""
    mine = {**BOOK.sets["ACCOUNT|main"], "order_value_max": "50"}
    own = msgspec.structs.replace(BOOK, sets={**BOOK.sets, "ACCOUNT|main": mine})
    change = Change(
        action=ControlAction.SET_LIMITS,
        scope=ScopeKind.GLOBAL,
        target="*",
        base=own.version,
        owner="ann",
        reason="r",
        proposed_at_ns=T0,
        expires_at_ns=T0 + HOUR,
        nonce="1",
        values={"order_value_max": ""},
    )
    alone = decide(own, LIMITS, examined(change, TWO[:1]), LevelNow(), T0)
    assert alone.refusal is ChangeRefusal.NEEDS_TWO_PEOPLE
    assert "'order_value_max' is missing" in alone.detail
    assert decide(own, LIMITS, examined(change, TWO), LevelNow(), T0).book is not None
