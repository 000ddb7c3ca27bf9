"""Weights: the regret bounds hold for any losses, abstaining is neutral, and memory is bounded."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.voting.weights import Weights, WeightsConfig, close_ballot, join, learn, skill
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


def play(config: WeightsConfig, rounds: list[Round]) -> tuple[Weights, list[float]]:
    """Let the pool pay the weighted mean of who voted, and tell everyone. Return the pool's losses."""
    weights = Weights()
    for expert in range(len(rounds[0])):
        join(config, weights, str(expert))
    paid = []
    for ballot, losses in enumerate(rounds):
        close_ballot(config, weights)
        awake = {str(expert): loss for expert, loss in enumerate(losses) if loss is not None}
        mass = sum(weights.standings[name].weight for name in awake)
        paid.append(sum(weights.standings[name].weight * loss for name, loss in awake.items()) / mass if awake else 0.0)
        for expert, loss in enumerate(losses):
            learn(config, weights, score(ballot, expert, loss, paid[-1]))
    close_ballot(config, weights)
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


@given(games(abstain=True))
def test_weights_stay_a_distribution(rounds: list[Round]) -> None:
    weights, _ = play(WeightsConfig(), rounds)
    values = [standing.weight for standing in weights.standings.values()]
    assert all(value > 0 for value in values)
    assert sum(values) == pytest.approx(1)


def test_a_regime_change_is_followed() -> None:
    config = WeightsConfig()
    first, _ = play(config, [[0.1, 0.4]] * 300)
    assert first.standings["0"].weight > 0.9
    second, _ = play(config, [[0.1, 0.4]] * 300 + [[0.4, 0.1]] * 60)
    assert second.standings["1"].weight > 0.9


def test_one_that_always_abstains_keeps_its_share() -> None:
    weights, _ = play(WeightsConfig(share=0.0), [[0.3, None, 0.3]] * 200)
    assert weights.standings["1"].weight == pytest.approx(1 / 3)


def test_a_newcomer_gets_the_prior_and_an_unknown_score_changes_nothing() -> None:
    config = WeightsConfig()
    weights, _ = play(config, [[0.1, 0.4]] * 50)
    join(config, weights, "new")
    assert weights.standings["new"].weight == pytest.approx(1 / 3)
    before = msgspec.msgpack.encode(weights)
    weights.ballot_id = "ballot-99"
    learn(config, weights, score(99, "nobody", 0.5, 0.2))
    weights.ballot_id = "ballot-49"
    assert msgspec.msgpack.encode(weights) == before


def test_a_score_counts_once() -> None:
    config, weights = WeightsConfig(), Weights()
    for name in ("0", "1"):
        join(config, weights, name)
    learn(config, weights, score(1, "0", 0.1, 0.3))
    learn(config, weights, score(1, "0", 0.9, 0.3))
    learn(config, weights, score(1, "1", 0.5, 0.3))
    close_ballot(config, weights)
    assert weights.standings["0"].loss == 0.1
    ratio = weights.standings["0"].weight / weights.standings["1"].weight
    assert 1 < ratio <= math.exp(config.eta * 0.4)


def test_the_number_of_experts_is_bounded_and_the_lightest_leaves() -> None:
    config = WeightsConfig(experts_max=8)
    weights, _ = play(config, [[0.1, 0.9]] * 20)
    for name in range(100):
        join(config, weights, f"stranger-{name}")
        assert len(weights.standings) <= 8
        assert sum(standing.weight for standing in weights.standings.values()) == pytest.approx(1)
    assert "1" not in weights.standings


def test_skill_is_the_share_of_the_base_rates_loss_that_is_saved() -> None:
    config = WeightsConfig()
    weights, _ = play(config, [[0.2, 0.3]] * 19)
    assert skill(config, weights.standings["0"]) is None
    weights, _ = play(config, [[0.2, 0.3]] * 20)
    assert skill(config, weights.standings["0"]) == pytest.approx(0.2)
    assert skill(config, weights.standings["1"]) == pytest.approx(-0.2)
    assert skill(config, None) is None


@pytest.mark.parametrize("wrong", [{"eta": 0.0}, {"share": 1.0}, {"experts_max": 0}])
def test_impossible_rates_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        WeightsConfig(**wrong)  # type: ignore[arg-type]
