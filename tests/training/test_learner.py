"""The learner learns what is there to be learnt, nothing where nothing is, and the same again from the same seed."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import STEP_COST, LearnableWorld

from agents.decider.encoding import Encoded
from agents.decider.set_policy import SetPolicy
from streams.training.learner import LearningConfig, train
from streams.training.network import Weights

pytestmark = pytest.mark.train

SHORT = LearningConfig(
    steps=4_000,
    gamma=0.3,
    warm_up=500,
    memory=4_000,
    target_every=250,
    moment_steps=500,
    quantiles=8,
    explore_share=0.3,
)
TEST_STEPS = 1_000


def earned(weights: Weights, *, seen: bool) -> float:
    """Return what a policy earns a step, net, in a world that it has not been trained in."""
    world, policy = LearnableWorld(77, seen=seen, length=TEST_STEPS), SetPolicy("test", weights)
    look, _ = world.reset()
    total = 0.0
    for _ in range(TEST_STEPS):
        q = policy.q_values(Encoded(votes=look["votes"][look["present"] > 0], context=look["context"]))
        look, net, _, _, _ = world.step(int(np.argmax(q)))
        total += net
    return total / TEST_STEPS


def test_it_finds_the_vote_that_knows() -> None:
    possible = np.sqrt(2 / np.pi) - STEP_COST
    assert earned(train(LearnableWorld(1), SHORT).weights, seen=True) > 0.7 * possible


def test_where_nothing_can_be_known_nothing_is_earned() -> None:
    weights = train(LearnableWorld(1, seen=False), SHORT).weights
    assert earned(weights, seen=False) < 2 / np.sqrt(TEST_STEPS)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    config = replace(SHORT, steps=1_000)
    first, again = (train(LearnableWorld(1), config).weights for _ in range(2))
    other = train(LearnableWorld(1), replace(config, seed=2)).weights
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert any(first[name].tobytes() != other[name].tobytes() for name in first)


def test_it_goes_on_from_tensors_and_keeps_their_normalisation() -> None:
    weights = train(LearnableWorld(1), replace(SHORT, steps=1_000)).weights
    further = train(LearnableWorld(2), replace(SHORT, steps=1_000, seed=5), start=weights).weights
    assert (further["votes.mean"] == weights["votes.mean"]).all()
    assert (further["phi.0.weight"] != weights["phi.0.weight"]).any()


def test_progress_is_told() -> None:
    told: list[int] = []
    train(LearnableWorld(1), replace(SHORT, steps=2_000, train_every=50), progress=told.append)
    assert told == [1_000, 2_000]
