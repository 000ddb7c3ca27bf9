"""The worker's decision in numpy is stable-baselines3's: equal Q to 1e-5 on what a decider sees, and equal actions."""

import numpy as np
import pytest

from agents.decider.encoding import MAX_VOTES, encode
from agents.decider.set_policy import SetPolicy
from benchmarks.policy_inference import TOLERANCE, Twin, observations, padded, random_weights, rows, verdict

pytestmark = pytest.mark.train


@pytest.mark.parametrize("voters", [0, 1, 5, MAX_VOTES])
def test_q_and_action_are_those_of_the_learners_own_model(voters: int) -> None:
    weights = random_weights()
    policy, twin = SetPolicy("test", weights), Twin(weights)
    for seen in observations(voters, 50):
        encoded = encode(seen)
        look, found = padded(encoded), policy.q_values(encoded)
        assert np.abs(found - twin.q_values(look)).max() <= TOLERANCE
        first, second = np.sort(found)[-2:]
        assert twin.predict(look) == int(found.argmax()) or second - first < TOLERANCE


def test_other_weights_are_told_apart() -> None:
    weights = random_weights()
    other = weights | {"phi.0.bias": weights["phi.0.bias"] + np.float32(0.1)}
    encoded = encode(observations(5, 1)[0])
    apart = np.abs(SetPolicy("test", other).q_values(encoded) - Twin(weights).q_values(padded(encoded)))
    assert apart.max() > TOLERANCE


def test_the_benchmark_says_what_it_found() -> None:
    weights = random_weights()
    said = verdict(rows(5, 100, weights, Twin(weights)))
    assert "within 1e-05" in said
    assert "equal actions 100" in said
