"""The network that is trained is the network that is served: exported tensors give the same Q values with numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from learnable import LearnableWorld

from agents.decider.encoding import CONTEXT_FEATURES, MAX_VOTES, VOTE_FEATURES, Encoded
from agents.decider.policy import TARGETS
from agents.decider.set_policy import SetPolicy
from streams.training.learner import LearningConfig, new_model
from streams.training.network import Weights, export, import_weights
from streams.training.normalisation import FARTHEST, Normalisation, fit_normalisation

pytestmark = pytest.mark.train


def model_of(seed: int) -> Any:
    world = LearnableWorld(seed)
    return new_model(world, LearningConfig(seed=seed), fit_normalisation(world, 200, seed))


def quantile_means(model: Any, seen: dict[str, np.ndarray]) -> np.ndarray:
    tensors = {name: torch.as_tensor(values)[None] for name, values in seen.items()}
    with torch.no_grad():
        return np.asarray(model.policy.quantile_net(tensors).mean(dim=1)[0].numpy())


def looks(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    world = LearnableWorld(seed)
    seen, _ = world.reset()
    found = [seen]
    while len(found) < count:
        found.append(world.step(2)[0])
    return found


def encoded(seen: dict[str, np.ndarray]) -> Encoded:
    return Encoded(votes=seen["votes"][seen["present"] > 0], context=seen["context"])


def with_votes(count: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(count)
    seen = looks(3, 1)[0]
    seen["present"] = (np.arange(MAX_VOTES) < count).astype(np.float32)
    seen["votes"] = draws.standard_normal(seen["votes"].shape).astype(np.float32) * seen["present"][:, None]
    return seen


@pytest.mark.parametrize("seed", [1, 2])
def test_the_served_policy_gives_the_trained_networks_q_values(seed: int) -> None:
    model = model_of(seed)
    policy = SetPolicy("test", export(model))
    for seen in [*looks(seed, 20), *(with_votes(count) for count in (0, 1, MAX_VOTES))]:
        assert policy.q_values(encoded(seen)) == pytest.approx(quantile_means(model, seen), abs=1e-5)


def test_where_votes_stand_changes_nothing() -> None:
    model, seen = model_of(4), with_votes(7)
    turned = np.random.default_rng(0).permutation(MAX_VOTES)
    moved = seen | {"votes": seen["votes"][turned], "present": seen["present"][turned]}
    assert quantile_means(model, moved) == pytest.approx(quantile_means(model, seen), abs=1e-6)


def test_what_stands_in_an_empty_place_is_not_read() -> None:
    model, seen = model_of(4), with_votes(3)
    dirty = seen | {"votes": np.where(seen["present"][:, None] > 0, seen["votes"], np.float32(99))}
    assert (quantile_means(model, dirty) == quantile_means(model, seen)).all()


def test_a_vote_more_is_read() -> None:
    model = model_of(4)
    assert np.abs(quantile_means(model, with_votes(3)) - quantile_means(model, with_votes(4))).max() > 1e-4


def test_tensors_come_back_as_they_were() -> None:
    weights, other = export(model_of(5)), model_of(6)
    import_weights(other, weights)
    returned = export(other)
    assert {name: tensor.tobytes() for name, tensor in returned.items()} == {
        name: tensor.tobytes() for name, tensor in weights.items()
    }


def test_the_target_network_goes_on_from_the_tensors_too() -> None:
    weights, other = export(model_of(5)), model_of(6)
    import_weights(other, weights)
    both = other.policy.quantile_net.state_dict(), other.policy.quantile_net_target.state_dict()
    assert all(torch.equal(values, both[1][name]) for name, values in both[0].items())


def test_a_tensor_of_another_shape_is_refused() -> None:
    weights: Weights = export(model_of(5))
    weights["rho.0.weight"] = weights["rho.0.weight"][:, 1:]
    with pytest.raises(ValueError, match=r"rho\.0"):
        import_weights(model_of(6), weights)


def test_the_shapes_are_those_of_the_contract() -> None:
    votes, context, actions = len(VOTE_FEATURES), len(CONTEXT_FEATURES), len(TARGETS)
    assert {name: tensor.shape for name, tensor in export(model_of(1)).items()} == {
        "phi.0.weight": (32, votes),
        "phi.0.bias": (32,),
        "phi.1.weight": (32, 32),
        "phi.1.bias": (32,),
        "rho.0.weight": (64, 64 + context),
        "rho.0.bias": (64,),
        "rho.1.weight": (64, 64),
        "rho.1.bias": (64,),
        "head.weight": (actions, 64),
        "head.bias": (actions,),
        "votes.mean": (votes,),
        "votes.scale": (votes,),
        "context.mean": (context,),
        "context.scale": (context,),
    }


def test_normalisation_is_that_of_present_votes_and_never_far() -> None:
    fitted: Normalisation = fit_normalisation(LearnableWorld(9), 3_000, 1)
    rows = np.concatenate([encoded(seen).votes for seen in looks(10, 3_000)]).astype(np.float64)
    assert fitted.votes_mean == pytest.approx(rows.mean(axis=0), abs=0.05)
    assert fitted.votes_scale == pytest.approx(rows.std(axis=0), abs=0.05)
    assert (np.abs(rows - fitted.votes_mean) / fitted.votes_scale).max() < 1.5 * FARTHEST
