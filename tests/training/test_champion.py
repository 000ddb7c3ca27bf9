"""The recipe of the champion in small: the same bytes twice, an artefact that loads, inputs as its spec tells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learnable import LearnableWorld

from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES, Encoded
from agents.decider.set_policy import SetPolicy
from infra.artefacts import read_artefact
from infra.models.keys import development_key
from streams.training.champion import Made, Recipe, make_champion, write_champion
from streams.training.learner import LearningConfig, new_model
from streams.training.markets import Market
from streams.training.network import export
from streams.training.normalisation import fit_normalisation
from streams.training.restandardise import restandardised

pytestmark = pytest.mark.train

SMALL = Recipe(
    learning=LearningConfig(steps=500, warm_up=100, moment_steps=100, memory=500),
    train=(Market("mixed", 1, 60.0),),
    held_out=(Market("trending", 2, 60.0),),
    trials=1,
    input_steps=200,
)


@pytest.fixture(scope="module")
def made() -> Made:
    return make_champion(SMALL, None)


def test_the_same_recipe_gives_the_same_artefact(made: Made, tmp_path: Path) -> None:
    again = make_champion(SMALL, None)
    first, second = (
        write_champion(tmp_path / name, one, development_key()) for name, one in (("a", made), ("b", again))
    )
    assert first == second


def test_another_seed_gives_another_artefact(made: Made, tmp_path: Path) -> None:
    other = make_champion(replace(SMALL, learning=replace(SMALL.learning, seed=2)), None)
    first, second = (write_champion(tmp_path, one, development_key()) for one in (made, other))
    assert first != second


def test_what_is_written_is_a_policy_for_workers(made: Made, tmp_path: Path) -> None:
    key = development_key()
    artefact = read_artefact(tmp_path, write_champion(tmp_path, made, key), {key.name: key.public_key})
    artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
    values = SetPolicy(artefact.name, artefact.weights).q_values(
        Encoded(np.zeros((0, len(VOTE_FEATURES)), np.float32), np.zeros(len(CONTEXT_FEATURES), np.float32))
    )
    assert np.isfinite(values).all()
    assert artefact.spec.metrics.keys() == {f"trending.{name}" for name in ("net", "low", "high", "turnover")}
    assert [part.source for part in artefact.spec.data] == [
        f"SIM:{name}, simulated, mixed, seed 1" for name in ("BTCUSD", "ETHUSD")
    ]


def test_the_spec_tells_the_inputs_that_the_policy_itself_has_met(made: Made) -> None:
    moments = made.spec.moments
    assert set(moments) == {*VOTE_FEATURES, *CONTEXT_FEATURES}
    told = [moments[name].mean for name in CONTEXT_FEATURES]
    assert made.weights["context.mean"] == pytest.approx(np.array(told, np.float32), abs=1e-6)


def test_another_normalisation_changes_no_value() -> None:
    world = LearnableWorld(1)
    weights = export(new_model(world, LearningConfig(), fit_normalisation(world, 300, 1)))
    other = restandardised(weights, fit_normalisation(LearnableWorld(5, length=20), 40, 2))
    assert (other["context.mean"] != weights["context.mean"]).any()
    before, after = SetPolicy("before", weights), SetPolicy("after", other)
    look, _ = world.reset()
    for _ in range(50):
        encoded = Encoded(look["votes"][look["present"] > 0], look["context"])
        assert after.q_values(encoded) == pytest.approx(before.q_values(encoded), abs=1e-5)
        look, *_ = world.step(2)
