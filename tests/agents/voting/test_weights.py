"""Weights: the regret bounds hold for any losses, abstaining is neutral, and memory is bounded."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.voting.weights import Weights, WeightsConfig, join, learn, skill, weights_of
from schemas.feedback import ExpertScore

Round = list[float | None]
"""One ballot: each expert's loss, None where it abstained."""


def score(ballot: int, expert: int | str, loss: float | None, pool_loss: float, base_loss: float = 0.25) -> ExpertScore:
    return ExpertScore(
        key="SIM:BTCUSD",
        event_time_ns=ballot,
        available_at_ns=ballot,
        ballot_id=f"ballot-{ballot}",
        expert=str(expert),
        horizon_ns=10**9,
        outcome=0,
        move=0,
        loss=pool_loss if loss is None else loss,
        base_loss=base_loss,
        pool_loss=pool_loss,
        abstained=loss is None,
    )


def weight(config: WeightsConfig, weights: Weights, expert: int | str) -> float:
    names = sorted(weights.standings)
    return weights_of(config, weights, names)[names.index(str(expert))]


def play(config: WeightsConfig, rounds: list[Round], delay: int = 0) -> tuple[Weights, list[float]]:
    """Let the pool pay the weighted mean of who voted, and tell everyone ``delay`` ballots later."""
    weights = Weights()
    for expert in range(len(rounds[0])):
        join(config, weights, str(expert))
    paid: list[float] = []
    for ballot, losses in enumerate(rounds):
        awake = {str(expert): loss for expert, loss in enumerate(losses) if loss is not None}
        shares = weights_of(config, weights, list(awake)) if awake else []
        paid.append(sum(share * loss for share, loss in zip(shares, awake.values(), strict=True)))
        if ballot >= delay:
            for expert, loss in enumerate(rounds[ballot - delay]):
                learn(config, weights, score(ballot - delay, expert, loss, paid[ballot - delay]), delay)
    return weights, paid


def games(abstain: bool) -> st.SearchStrategy[list[Round]]:
    loss = st.floats(0, 1)
    one = st.one_of(st.none(), loss) if abstain else loss
    return st.integers(1, 6).flatmap(
        lambda count: st.lists(st.lists(one, min_size=count, max_size=count), min_size=1, max_size=80)
    )


@settings(max_examples=150, deadline=None)
@given(games(abstain=True), st.floats(0.05, 2.0))
def test_regret_against_every_expert_over_the_ballots_it_voted_on(rounds: list[Round], eta: float) -> None:
    _, paid = play(WeightsConfig(eta=eta, share=0.0), rounds)
    count = len(rounds[0])
    for expert in range(count):
        voted = [
            (pool, losses[expert]) for pool, losses in zip(paid, rounds, strict=True) if losses[expert] is not None
        ]
        regret = sum(pool - loss for pool, loss in voted if loss is not None)
        assert regret <= math.log(count) / eta + eta * len(rounds) / 8 + 1e-9


@settings(max_examples=150, deadline=None)
@given(games(abstain=False), st.floats(0.05, 2.0), st.floats(0.001, 0.3), st.data())
def test_regret_against_every_sequence_of_experts(
    rounds: list[Round], eta: float, share: float, data: st.DataObject
) -> None:
    count, length = len(rounds[0]), len(rounds)
    path = data.draw(st.lists(st.integers(0, count - 1), min_size=length, max_size=length))
    _, paid = play(WeightsConfig(eta=eta, share=share), rounds)
    followed = sum(losses[expert] or 0.0 for losses, expert in zip(rounds, path, strict=True))
    changes = sum(first != second for first, second in itertools.pairwise(path))
    stays = length - 1 - changes
    prior = math.log(count) + changes * math.log(count / share) - stays * math.log(1 - share)
    assert sum(paid) - followed <= prior / eta + eta * length / 8 + 1e-9


@given(games(abstain=True), st.integers(0, 9))
def test_weights_stay_a_distribution(rounds: list[Round], delay: int) -> None:
    config = WeightsConfig()
    weights, _ = play(config, rounds, delay)
    values = weights_of(config, weights, sorted(weights.standings))
    assert all(value > 0 for value in values)
    assert sum(values) == pytest.approx(1)


@settings(max_examples=80, deadline=None)
@given(games(abstain=True), st.floats(0.05, 2.0), st.sampled_from([0.0, 0.002, 0.2]))
def test_weights_are_what_products_of_exponentials_are(rounds: list[Round], eta: float, share: float) -> None:
    """The oracle multiplies weights, ballot by ballot, as the paper writes it; ours adds logarithms, score by score."""
    config = WeightsConfig(eta=eta, share=share)
    weights, paid = play(config, rounds)
    plain = [1 / len(rounds[0])] * len(rounds[0])
    for losses, pool in zip(rounds, paid, strict=True):
        plain = [w * math.exp(-eta * (pool if loss is None else loss)) for w, loss in zip(plain, losses, strict=True)]
        plain = [(1 - share) * w / sum(plain) + share / len(plain) for w in plain]
    assert weights_of(config, weights, sorted(weights.standings)) == pytest.approx(plain, rel=1e-9)


@given(games(abstain=False), st.data())
def test_scores_of_one_ballot_count_alike_in_any_order_and_a_late_one_as_much(
    rounds: list[Round], data: st.DataObject
) -> None:
    """Without sharing there is nothing but sums; a score may come after all other ballots and still count whole."""
    config = WeightsConfig(share=0.0, ballots_max=200)
    scores = [score(b, e, loss, 0.3) for b, losses in enumerate(rounds) for e, loss in enumerate(losses)]
    mixed = data.draw(st.permutations(scores))
    sides = []
    for order in (scores, mixed):
        weights = Weights()
        for expert in range(len(rounds[0])):
            join(config, weights, str(expert))
        for one in order:
            assert learn(config, weights, one, delay=3)
            assert not learn(config, weights, one, delay=3)
        sides.append(weights_of(config, weights, sorted(weights.standings)))
    assert sides[0] == pytest.approx(sides[1], rel=1e-9)


def test_no_weight_is_lost_however_long_an_expert_is_wrong() -> None:
    """Products of exponentials would be 0 for good after some hundred ballots; the expert could never come back."""
    config = WeightsConfig(eta=2.0, share=0.0)
    weights, _ = play(config, [[0.0, 1.0]] * 1000)
    assert weight(config, weights, "1") == 0.0
    assert weights_of(config, weights, ["1"]) == [1.0]
    for ballot in range(2000, 3100):
        for expert, loss in (("0", 1.0), ("1", 0.0)):
            learn(config, weights, score(ballot, expert, loss, 0.5))
    assert weight(config, weights, "1") == pytest.approx(1)


def test_the_step_falls_with_the_delay() -> None:
    ratios = []
    for delay in (0, 3, 8):
        config, weights = WeightsConfig(share=0.0), Weights()
        for name in ("0", "1"):
            join(config, weights, name)
        learn(config, weights, score(1, "0", 0.1, 0.3), delay)
        learn(config, weights, score(1, "1", 0.5, 0.3), delay)
        ratios.append(math.log(weight(config, weights, "0") / weight(config, weights, "1")))
    assert ratios == pytest.approx([0.2, 0.2 / 2, 0.2 / 3])


def test_what_is_charged_is_the_loss_of_the_vote_that_was_pooled() -> None:
    config, weights = WeightsConfig(share=0.0), Weights()
    for name in ("0", "1"):
        join(config, weights, name)
    said = score(1, "0", 0.9, 0.3)
    learn(config, weights, msgspec.structs.replace(said, calibrated_loss=0.3))
    assert weight(config, weights, "0") == pytest.approx(0.5)
    assert weights.standings["0"].loss == 0.3


def test_a_regime_change_is_followed() -> None:
    config = WeightsConfig()
    first, _ = play(config, [[0.1, 0.4]] * 300)
    assert weight(config, first, 0) > 0.9
    second, _ = play(config, [[0.1, 0.4]] * 300 + [[0.4, 0.1]] * 60)
    assert weight(config, second, 1) > 0.9


def test_one_that_always_abstains_keeps_its_share() -> None:
    config = WeightsConfig(share=0.0)
    weights, _ = play(config, [[0.3, None, 0.3]] * 200)
    assert weight(config, weights, 1) == pytest.approx(1 / 3)


def test_a_newcomer_gets_a_share_of_the_equal_part_and_an_unknown_score_changes_nothing() -> None:
    config = WeightsConfig(share=0.0)
    weights, _ = play(config, [[0.1, 0.4]] * 50)
    old = weight(config, weights, 0) / weight(config, weights, 1)
    join(config, weights, "new")
    assert weight(config, weights, "new") == pytest.approx(config.entry / 3)
    assert weight(config, weights, 0) / weight(config, weights, 1) == pytest.approx(old)
    before = msgspec.msgpack.encode(weights.standings)
    assert not learn(config, weights, score(49, "nobody", 0.5, 0.2))
    assert msgspec.msgpack.encode(weights.standings) == before


@pytest.mark.parametrize("known", range(1, 25))
def test_whoever_comes_before_anybody_is_known_gets_the_equal_part(known: int) -> None:
    """Warming up takes each expert its own time, and none shall weigh less for it."""
    config = WeightsConfig(share=0.0)
    weights, _ = play(config, [[0.1, 0.4]] * known)
    join(config, weights, "new")
    part = 1.0 if known < config.skill_min else config.entry
    assert weight(config, weights, "new") == pytest.approx(part / 3)


@settings(max_examples=150, deadline=None)
@given(games(abstain=True), st.floats(0.05, 2.0), st.floats(0.05, 1.0), st.data())
def test_regret_holds_with_newcomers(rounds: list[Round], eta: float, entry: float, data: st.DataObject) -> None:
    """Who joins with the part a pays ln(1 / a), over the ballots since; the others pay ln(1 / (1 - a)) each time."""
    count = len(rounds[0])
    late = data.draw(st.lists(st.integers(0, len(rounds)), min_size=count - 1, max_size=count - 1))
    joins = dict(enumerate([0, *late]))
    config = WeightsConfig(eta=eta, share=0.0, entry=entry, skill_min=1)
    weights, paid, owed = Weights(), [], dict.fromkeys(range(count), 0.0)
    for ballot, losses in enumerate(rounds):
        for expert in [name for name, at in joins.items() if at == ballot]:
            join(config, weights, str(expert))
            part = weight(config, weights, expert)
            for name in weights.standings:
                owed[int(name)] += math.log(1 / part) if int(name) == expert else math.log(1 / max(1 - part, 1e-300))
        awake = {name: losses[int(name)] for name in weights.standings if losses[int(name)] is not None}
        shares = weights_of(config, weights, list(awake)) if awake else []
        paid.append(sum(share * (loss or 0.0) for share, loss in zip(shares, awake.values(), strict=True)))
        for name in weights.standings:
            learn(config, weights, score(ballot, name, losses[int(name)], paid[ballot]))
    for expert, since in joins.items():
        regret = sum(
            pool - own
            for pool, losses in zip(paid[since:], rounds[since:], strict=True)
            if (own := losses[expert]) is not None
        )
        assert regret <= owed[expert] / eta + eta * len(rounds) / 8 + 1e-9


def test_a_score_counts_once() -> None:
    config, weights = WeightsConfig(), Weights()
    for name in ("0", "1"):
        join(config, weights, name)
    learn(config, weights, score(1, "0", 0.1, 0.3))
    learn(config, weights, score(1, "0", 0.9, 0.3))
    learn(config, weights, score(1, "1", 0.5, 0.3))
    assert weights.standings["0"].loss == 0.1
    ratio = weight(config, weights, 0) / weight(config, weights, 1)
    assert 1 < ratio <= math.exp(config.eta * 0.4)


def test_the_number_of_experts_is_bounded_and_the_lightest_leaves() -> None:
    config = WeightsConfig(experts_max=8)
    weights, _ = play(config, [[0.1, 0.9]] * 20)
    for name in range(100):
        join(config, weights, f"stranger-{name}")
        assert len(weights.standings) <= 8
        assert sum(weights_of(config, weights, list(weights.standings))) == pytest.approx(1)
    assert "1" not in weights.standings


def test_who_was_charged_is_known_for_the_last_ballots_only() -> None:
    config = WeightsConfig(ballots_max=3)
    weights, _ = play(config, [[0.1, 0.2]] * 50)
    assert list(weights.charged) == ["ballot-47", "ballot-48", "ballot-49"]


def test_skill_is_the_share_of_the_base_rates_loss_that_is_saved() -> None:
    config = WeightsConfig()
    weights, _ = play(config, [[0.2, 0.3]] * 19)
    assert skill(config, weights.standings["0"]) is None
    weights, _ = play(config, [[0.2, 0.3]] * 20)
    assert skill(config, weights.standings["0"]) == pytest.approx(0.2)
    assert skill(config, weights.standings["1"]) == pytest.approx(-0.2)
    assert skill(config, None) is None


@pytest.mark.parametrize("wrong", [{"eta": 0.0}, {"share": 1.0}, {"experts_max": 0}, {"entry": 0.0}])
def test_impossible_rates_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        WeightsConfig(**wrong)  # type: ignore[arg-type]
