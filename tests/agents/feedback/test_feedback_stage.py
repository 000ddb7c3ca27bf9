"""The feedback stage: scores whichever topic comes first, slices that add up, rewards that are the profit and loss."""

import math
from collections import deque
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_events import INSTRUMENTS, ONE, PERP, SPOT, T0, account_mark, decision, entry, fill, mark, tally

from agents.feedback.config import FeedbackConfig, StrategyFeedback
from agents.feedback.stage import Feedback
from agents.stage import ShardState, run_step
from schemas.decisions import DecisionOutcome
from schemas.event import Event, Heartbeat
from schemas.feedback import BallotVoided, Experience, ExpertScore, OutcomeReported, TradeFeedback, VoidReason
from schemas.opinions import AbstainReason, MarkQuality, VoteTally
from schemas.orders import Fill
from schemas.values import NS_PER_MS, NS_PER_S, ZERO, Side, notional

ALPHA = StrategyFeedback("alpha", "main", "USD", (PERP, SPOT), NS_PER_S, Decimal(1_000))
CONFIG = FeedbackConfig(INSTRUMENTS, {"alpha": ALPHA})


class Bench:
    """One shard of feedback."""

    def __init__(self, config: FeedbackConfig = CONFIG) -> None:
        self.stage = Feedback(config)
        self.state = ShardState()

    def give(self, *events: Event) -> list[Any]:
        found: list[Any] = []
        for event in events:
            found += run_step(self.stage, self.state, event)[1]
        return found


def at(second: float) -> int:
    return T0 + int(second * NS_PER_S)


def heartbeat(second: float) -> Heartbeat:
    return Heartbeat(key="h", event_time_ns=at(second), available_at_ns=at(second))


def ten_second(number: int, at_ns: int, **changes: Any) -> VoteTally:
    return tally(
        number, at_ns, horizon_ns=10 * NS_PER_S, ballot_id=f"ten-{number}", event_id=f"ten-{number}", **changes
    )


def test_each_expert_is_scored_at_the_first_grid_mark_at_or_after_the_horizon() -> None:
    votes = (entry("right", 0.9, 0.05), entry("wrong", 0.05, 0.9), entry("silent", None, None))
    bench = Bench()
    assert bench.give(mark(at_ns=at(0)), tally(1, at(0), entries=votes)) == []
    right, wrong, silent = bench.give(mark(at_ns=at(1), mid=101 * ONE))
    assert (right.outcome, right.move) == (1, ONE)
    assert right.loss < right.base_loss < wrong.loss
    assert silent.abstained
    assert silent.loss == silent.pool_loss
    assert not right.abstained


def test_a_score_says_what_was_said_and_what_the_vote_that_was_pooled_lost() -> None:
    pooled = {"calibrated_down": 0.2, "calibrated_flat": 0.2, "calibrated_up": 0.6}
    spoken = msgspec.structs.replace(entry("sure", 0.9, 0.05), **pooled)
    bench = Bench()
    bench.give(mark(at_ns=at(0)), tally(1, at(0), entries=(spoken, entry("silent", None, None))))
    sure, silent = bench.give(mark(at_ns=at(1), mid=101 * ONE))
    assert (sure.p_down, sure.p_up) == (spoken.p_down, spoken.p_up) == (0.05, 0.9)
    assert sure.calibrated_loss == pytest.approx(math.log(0.6) / math.log(CONFIG.probability_floor))
    assert sure.loss == pytest.approx(math.log(0.9) / math.log(CONFIG.probability_floor))
    assert (silent.p_up, silent.calibrated_loss) == (None, None)


def test_after_a_silence_the_first_mark_counts() -> None:
    bench = Bench()
    bench.give(tally(1, at(0)))
    assert bench.give(mark(at_ns=at(0.5), on_grid=False)) == []
    (score,) = bench.give(mark(at_ns=at(7), mid=99 * ONE))
    assert score.outcome == -1


def test_a_pool_without_direction_loses_as_the_base_rate_does() -> None:
    bench = Bench()
    silent = entry("silent", None, None)
    bench.give(tally(1, at(0), None, None, entries=(msgspec.structs.replace(silent, abstained=AbstainReason.NO_EDGE),)))
    (score,) = bench.give(mark(at_ns=at(1)))
    assert score.loss == score.pool_loss == score.base_loss


def test_the_base_rate_runs_with_the_outcomes_of_its_own_horizon() -> None:
    bench = Bench()
    losses = [
        score.base_loss
        for number in range(5)
        for score in bench.give(tally(number, at(number)), mark(at_ns=at(number + 1)))
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2
    bench.give(ten_second(9, at(5)))
    scores = bench.give(mark(at_ns=at(15)))
    assert [score.base_loss for score in scores if score.horizon_ns == 10 * NS_PER_S] == [losses[0]]


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ([mark(at_ns=at(0.4), on_grid=False, quality=MarkQuality.GAP), mark(at_ns=at(1))], VoidReason.GAP),
        ([mark(at_ns=at(1), quality=MarkQuality.GAP)], VoidReason.GAP),
        ([mark(at_ns=at(1), mid=None, quality=MarkQuality.ONE_SIDED)], VoidReason.NO_MID),
    ],
)
def test_what_lies_inside_the_horizon_can_void_a_ballot(marks: list[Event], reason: VoidReason) -> None:
    for events in ([tally(1, at(0)), *marks], [*marks, tally(1, at(0))]):
        (voided,) = Bench().give(*events)
        assert isinstance(voided, BallotVoided)
        assert voided.reason is reason


def test_a_gap_outside_the_horizon_does_not_void() -> None:
    gap_before = mark(at_ns=at(0), on_grid=False, quality=MarkQuality.GAP)
    gap_after = mark(at_ns=at(1.5), on_grid=False, quality=MarkQuality.GAP)
    (score,) = Bench().give(gap_before, mark(at_ns=at(1)), gap_after, tally(1, at(0)))
    assert isinstance(score, ExpertScore)


def test_a_tally_without_a_mid_is_voided() -> None:
    (voided,) = Bench().give(tally(1, at(0), mid=None), mark(at_ns=at(1)))
    assert voided.reason is VoidReason.NO_MID


@pytest.mark.parametrize("clock", [heartbeat, lambda second: mark(SPOT, at(second))])
def test_a_mark_that_never_comes_voids_after_the_grace_and_not_before(clock: Any) -> None:
    bench = Bench()
    bench.give(tally(1, at(0)))
    assert bench.give(clock(11)) == []
    (voided,) = bench.give(clock(11.001))
    assert voided.reason is VoidReason.NO_MARK
    assert bench.give(mark(at_ns=at(12))) == []


def test_a_tally_whose_marks_are_forgotten_is_voided_not_guessed() -> None:
    bench = Bench()
    bench.give(*(mark(at_ns=at(second)) for second in range(100)))
    (voided,) = bench.give(tally(1, at(10)))
    assert voided.reason is VoidReason.NO_MARK
    assert len(bench.state[f"ballots/{PERP}"].marks) < 40


def test_advice_is_not_scored() -> None:
    assert Bench().give(tally(1, at(0), advice_for="alpha"), mark(at_ns=at(1))) == []


def _stories(prices: list[int], gaps: set[int]) -> tuple[list[Event], list[Event]]:
    marks: list[Event] = []
    tallies: list[Event] = []
    for second, price in enumerate(prices):
        quality = MarkQuality.GAP if second in gaps else MarkQuality.GOOD
        marks.append(mark(at_ns=at(second), mid=price * ONE // 100, quality=quality))
        up = 0.2 + 0.05 * (price % 7)
        for build in (tally, ten_second):
            tallies.append(build(second, at(second), mid=price * ONE // 100, up=up, down=0.7 - up))
    return marks, tallies


def _bodies(events: list[Any]) -> dict[tuple[str, int], list[bytes]]:
    found: dict[tuple[str, int], list[bytes]] = {}
    for event in events:
        bare = msgspec.structs.replace(event, event_id="", cause_id="")
        found.setdefault((type(event).__name__, event.horizon_ns), []).append(msgspec.msgpack.encode(bare))
    return found


@given(
    prices=st.lists(st.integers(9_990, 10_010), min_size=2, max_size=25),
    gaps=st.sets(st.integers(0, 24), max_size=2),
    picks=st.lists(st.booleans(), max_size=120),
)
def test_scores_do_not_depend_on_which_topic_is_ahead(prices: list[int], gaps: set[int], picks: list[bool]) -> None:
    marks, tallies = _stories(prices, gaps)
    expected = _bodies(
        Bench().give(*(event for group in zip(marks, tallies[::2], tallies[1::2], strict=True) for event in group))
    )
    left, right, merged = deque(marks), deque(tallies), []
    for pick in picks:
        queue = left if pick else right
        if queue:
            merged.append(queue.popleft())
    found = _bodies(Bench().give(*merged, *left, *right))
    assert found == expected


def test_a_round_trip_is_attributed_to_its_decisions() -> None:
    buy = fill(1, Side.BUY, 2 * ONE, 100 * ONE, event_time_ns=at(0))
    sell = fill(2, Side.SELL, 2 * ONE, 103 * ONE, event_time_ns=at(5))
    (trade,) = Bench().give(buy, sell)
    assert isinstance(trade, TradeFeedback)
    assert (trade.entry_decision_id, trade.exit_decision_id) == ("decision-1", "decision-2")
    assert (trade.side, trade.gross_pnl, trade.fees, trade.net_pnl) == (
        Side.BUY,
        Decimal(6),
        Decimal("0.06"),
        Decimal("5.94"),
    )
    assert trade.slippage == buy.slippage + sell.slippage


def test_a_short_slice_earns_when_the_price_falls() -> None:
    (trade,) = Bench().give(fill(1, Side.SELL, ONE, 100 * ONE), fill(2, Side.BUY, ONE, 98 * ONE))
    assert (trade.side, trade.gross_pnl) == (Side.SELL, Decimal(2))


def test_a_fee_in_the_base_currency_is_valued_at_the_fill() -> None:
    buy = fill(1, Side.BUY, ONE, 200 * ONE, fee=Decimal("0.001"), fee_currency="BTC")
    (trade,) = Bench().give(buy, fill(2, Side.SELL, ONE, 200 * ONE, fee=ZERO))
    assert trade.fees == Decimal("0.2")


FILLS = st.lists(
    st.tuples(st.sampled_from(list(Side)), st.integers(1, 5_000), st.integers(9_000, 11_000), st.integers(0, 999)),
    min_size=1,
    max_size=30,
)


@given(FILLS)
def test_slices_add_up_to_the_fills_exactly(raw: list[tuple[Side, int, int, int]]) -> None:
    bench, fills, trades = Bench(), [], []
    position = 0
    for number, (side, lots, price, fee) in enumerate(raw):
        fills.append(
            fill(
                number,
                side,
                lots * ONE // 1000,
                price * ONE // 100,
                fee=Decimal(fee) / 997 // Decimal("1e-18") * Decimal("1e-18"),
            )
        )
        position += side.sign * fills[-1].quantity
    if position:
        closing = Side.SELL if position > 0 else Side.BUY
        fills.append(fill(len(raw), closing, abs(position), 100 * ONE))
    for item in fills:
        trades += bench.give(item)
    cash = -sum((notional(item.price, item.side.sign * item.quantity) for item in fills), ZERO)
    assert sum((trade.gross_pnl for trade in trades), ZERO) == cash
    assert sum((trade.fees for trade in trades), ZERO) == sum((item.fee for item in fills), ZERO)
    assert sum((trade.slippage for trade in trades), ZERO) == sum((item.slippage for item in fills), ZERO)
    assert all(trade.net_pnl == trade.gross_pnl - trade.fees for trade in trades)
    assert bench.state[f"line/main|alpha|{PERP}"].lots == []


def _taken_back(number: int, item: Fill) -> Fill:
    """Return the fill that reverses one."""
    other = Side.SELL if item.side is Side.BUY else Side.BUY
    undone = {"fee": -item.fee, "slippage": -item.slippage, "reverses": item.fill_id, "fill_id": f"{item.fill_id}/bust"}
    return fill(number, other, item.quantity, item.price, **undone)


def test_a_fill_that_is_taken_back_is_no_trade_and_leaves_the_others_open() -> None:
    bench = Bench()
    bought = [fill(number, Side.BUY, ONE, (100 + number) * ONE) for number in (1, 2, 3)]
    assert bench.give(*bought, _taken_back(9, bought[1])) == []
    lots = bench.state[f"line/main|alpha|{PERP}"].lots
    assert [lot.fill_id for lot in lots] == ["fill-1", "fill-3"]
    first, second = bench.give(fill(4, Side.SELL, 2 * ONE, 110 * ONE))
    assert (first.entry_price, second.entry_price) == (101 * ONE, 103 * ONE)


def test_an_exit_that_is_taken_back_opens_the_position_again_and_all_sums_hold() -> None:
    bench = Bench()
    buy, sell = fill(1, Side.BUY, ONE, 100 * ONE), fill(2, Side.SELL, ONE, 110 * ONE)
    again = fill(3, Side.SELL, ONE, 107 * ONE)
    trades = bench.give(buy, sell, _taken_back(9, sell), again)
    assert sum((trade.gross_pnl for trade in trades), ZERO) == Decimal(7)
    assert sum((trade.fees for trade in trades), ZERO) == buy.fee + again.fee
    assert bench.state[f"line/main|alpha|{PERP}"].lots == []


def test_first_in_first_out() -> None:
    bench = Bench()
    bench.give(fill(1, Side.BUY, ONE, 100 * ONE), fill(2, Side.BUY, ONE, 110 * ONE))
    first, second = bench.give(fill(3, Side.SELL, 2 * ONE, 120 * ONE))
    assert (first.entry_fill_id, second.entry_fill_id) == ("fill-1", "fill-2")
    assert (first.gross_pnl, second.gross_pnl) == (Decimal(20), Decimal(10))


def test_a_reward_is_quantity_held_times_change_of_mid_less_fees_and_slippage() -> None:
    bench = Bench()
    bench.give(tally(1, at(0)), account_mark(at(0)), decision(0.5, 1, at(0), observation={"x": 1.0}))
    bench.give(fill(1, Side.BUY, 2 * ONE, 100 * ONE + ONE // 10))
    bench.give(tally(2, at(1)), decision(0.5, 2, at(1), outcome=DecisionOutcome.NO_TRADE, observation={"x": 2.0}))
    (experience,) = bench.give(account_mark(at(1), mid=103 * ONE, position=2 * ONE))
    assert isinstance(experience, Experience)
    assert (experience.decision_id, experience.next_decision_id) == ("decision-1", "decision-2")
    assert (experience.pnl, experience.fees, experience.slippage) == (Decimal(6), Decimal("0.03"), Decimal("0.2"))
    assert experience.reward == Decimal("5.77")
    assert (experience.observation, experience.next_observation) == ({"x": 1.0}, {"x": 2.0})
    assert experience.intended == 0.5
    assert experience.effective == pytest.approx(0.206)


def test_funding_lowers_the_reward() -> None:
    bench = Bench()
    bench.give(tally(1, at(0)), account_mark(at(0)), decision(0.0, 1, at(0)), tally(2, at(1)), decision(0.0, 2, at(1)))
    (experience,) = bench.give(account_mark(at(1), funding=Decimal(3)))
    assert experience.reward == Decimal(-3)


def test_funding_that_is_told_after_its_valuation_lowers_the_next_reward_and_is_not_counted_twice() -> None:
    bench = Bench()
    bench.give(
        *(item for number in (1, 2, 3) for item in (tally(number, at(number)), decision(0.0, number, at(number))))
    )
    bench.give(account_mark(at(1), position=ONE))
    (first,) = bench.give(account_mark(at(2), position=ONE))
    assert bench.give(account_mark(at(2), position=ONE, funding=Decimal(3), event_id="told again")) == []
    (second,) = bench.give(account_mark(at(3), mid=104 * ONE, position=ONE))
    assert (first.reward, second.reward) == (Decimal(0), Decimal(1))


def test_advice_earns_no_reward_and_a_decision_without_a_tally_is_given_up() -> None:
    bench = Bench()
    advice = decision(0.5, 9, at(0), outcome=DecisionOutcome.ADVICE)
    bench.give(tally(1, at(0)), decision(0.5, 1, at(0)), advice, decision(0.5, 7, at(0.5)), account_mark(at(0)))
    bench.give(tally(2, at(70)), decision(0.5, 2, at(70)), heartbeat(71))
    (experience,) = bench.give(account_mark(at(70)))
    assert (experience.decision_id, experience.next_decision_id) == ("decision-1", "decision-2")


@given(
    seconds=st.lists(
        st.tuples(
            st.integers(9_000, 11_000),
            st.lists(
                st.tuples(st.sampled_from(list(Side)), st.integers(1, 500), st.integers(9_000, 11_000)), max_size=3
            ),
            st.booleans(),
        ),
        min_size=2,
        max_size=20,
    ),
    picks=st.lists(st.integers(0, 2), max_size=200),
)
def test_rewards_add_up_to_the_profit_and_loss_in_any_order_of_topics(
    seconds: list[tuple[int, list[tuple[Side, int, int]], bool]], picks: list[int]
) -> None:
    """The oracle is a cash account kept here: cash plus position at the mid."""
    tallies: deque[Event] = deque()
    decisions: deque[Event] = deque()
    account: deque[Event] = deque()
    position, cash, number = 0, ZERO, 0
    equities: list[Decimal] = []
    for second, (mid, trades, missing) in enumerate(seconds):
        known = None if missing and 0 < second < len(seconds) - 1 else mid * ONE // 100
        account.append(account_mark(at(second), mid=known, position=position))
        equities.append(cash + notional(mid * ONE // 100, position))
        tallies.append(tally(second, at(second), up=None, down=None))
        decisions.append(decision(0.5, second, at(second) + 20 * NS_PER_MS))
        for side, lots, price in trades:
            number += 1
            done = fill(number, side, lots * ONE // 1000, price * ONE // 100)
            position += side.sign * done.quantity
            cash -= notional(done.price, side.sign * done.quantity) + done.fee
            account.append(done)
    queues = (tallies, decisions, account)
    merged: list[Event] = [queues[pick].popleft() for pick in picks if queues[pick]]
    events = Bench().give(*merged, *account, *decisions, *tallies)
    experiences = [event for event in events if isinstance(event, Experience)]
    assert len(experiences) == len(seconds) - 1
    assert sum((item.reward for item in experiences), ZERO) == equities[-1] - equities[0]


def test_reported_outcomes_are_counted() -> None:
    bench = Bench()
    reported = OutcomeReported(key=PERP, event_time_ns=T0, available_at_ns=T0, decision_id="d", kind="pnl", value=1.0)
    assert bench.give(reported) == []
    assert bench.state[f"ballots/{PERP}"].outcomes_reported == 1


def test_the_state_survives_a_checkpoint_and_stays_bounded() -> None:
    bench = Bench()
    for second in range(700):
        bench.give(tally(second, at(second)), decision(0.5, second, at(second)), mark(at_ns=at(second)))
        bench.give(account_mark(at(second)), ten_second(second, at(second)))
    bench.give(fill(1, Side.BUY, ONE, 100 * ONE))
    for key, value in bench.state.items():
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=bench.stage.state_type(key))
        assert kept == value
    assert sum(len(msgspec.msgpack.encode(value)) for value in bench.state.values()) < 60_000


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FeedbackConfig(INSTRUMENTS, {}, probability_floor=0.5), "floor"),
        (lambda: FeedbackConfig({}, {"alpha": ALPHA}), "not defined"),
        (
            lambda: FeedbackConfig(
                INSTRUMENTS, {"a": StrategyFeedback("a", "main", "EUR", (PERP,), NS_PER_S, Decimal(1))}
            ),
            "no rate for USD",
        ),
    ],
)
def test_what_cannot_be_valued_is_refused_at_the_start(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
