"""Learning on a buffer of recorded transitions: it learns, it is repeatable, and what spoils it gives no candidate."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from model_artefacts import KEY, KEYS, small_spec, small_weights
from trainer_experiences import BUDGETS, experience, teaching

from agents.decider.encoding import CONTEXT_FEATURES, MAX_VOTES, SCHEMA, VOTE_FEATURES, Encoded
from agents.decider.policy import TARGETS
from agents.decider.set_policy import SetPolicy
from infra.artefacts import read_artefact, write_artefact
from schemas.training import TrainingFailure
from streams.training.job import SNAPSHOT_NAME, Teaching, TrainingJob
from streams.training.replay import Frozen, Replay, empty_arrays
from streams.training.replay_file import save_snapshot
from streams.training.transitions import TransitionTerms

pytestmark = pytest.mark.train

TRANSITIONS = TransitionTerms(BUDGETS)
DIRECTION = VOTE_FEATURES.index("direction")


def lessons(rows: int, seed: int = 1) -> Frozen:
    """One vote, up or down, and a reward of its direction times the target: whoever follows it earns."""
    draws = np.random.default_rng(seed)
    arrays = empty_arrays(rows)
    directions = draws.choice([-1.0, 1.0], rows).astype(np.float32)
    for prefix in ("", "next_"):
        arrays[f"{prefix}present"][:, 0] = 1.0
        arrays[f"{prefix}votes"][:, 0, DIRECTION] = directions if not prefix else draws.choice([-1.0, 1.0], rows)
    arrays["action"][:] = draws.integers(len(TARGETS), size=rows)
    arrays["reward"][:] = directions * np.array(TARGETS)[arrays["action"].astype(int)]
    return Frozen(TRANSITIONS.identity, "lineage", rows, 0, {}, arrays, ("SIM:BTCUSD",))


def champion_weights(seed: int = 3) -> dict[str, np.ndarray]:
    weights = small_weights(len(VOTE_FEATURES), len(CONTEXT_FEATURES), width=16, seed=seed)
    return {name: array * np.float32(0.3) if name.endswith("weight") else array for name, array in weights.items()}


def champion(store: Path) -> str:
    spec = msgspec.structs.replace(
        small_spec(VOTE_FEATURES, CONTEXT_FEATURES, name="first"), schema=SCHEMA, learning={"gamma": 0.5}
    )
    return write_artefact(store, champion_weights(), spec, KEY)


def taught(store: Path, **changes: object) -> Teaching:
    """As always, but so much that something is learnt."""
    enough = {"fewest": 50, "gradient_steps": 100, "learning_rate": 1e-3}
    return teaching(TRANSITIONS.identity, str(store), **enough | changes)


def job_in(folder: Path, how: Teaching, start: str, count: int = 80) -> TrainingJob:
    replay = Replay(1_000, TRANSITIONS)
    for number in range(1, count + 1):
        replay.take(experience(1).event_id, number, experience(number))
    file = save_snapshot(folder, 1, replay.frozen())
    file.rename(folder / SNAPSHOT_NAME)
    return TrainingJob(request_id="0123456789abcdef", ordinal=2, start=start, teaching=how)


def test_gradient_steps_on_recorded_transitions_teach_what_they_show_and_are_repeatable() -> None:
    from streams.training.learner import LearningConfig
    from streams.training.online import learn_online

    start = champion_weights()
    config = LearningConfig(seed=5, gamma=0.0, learning_rate=5e-3, memory=600, phi=(16, 16), rho=(16, 16))
    learned = learn_online(lessons(600), start, config, 400)
    assert learned.loss_after < learned.loss_before
    policy = SetPolicy("learned", learned.weights)
    for direction, best in ((-1.0, 0), (1.0, len(TARGETS) - 1)):
        votes = np.zeros((1, len(VOTE_FEATURES)), np.float32)
        votes[0, DIRECTION] = direction
        q_values = policy.q_values(Encoded(votes, np.zeros(len(CONTEXT_FEATURES), np.float32)))
        assert int(np.argmax(q_values)) == best
        np.testing.assert_allclose(q_values, direction * np.array(TARGETS), atol=0.35)


def test_the_same_transitions_and_seed_give_the_same_bits() -> None:
    from streams.training.learner import LearningConfig
    from streams.training.online import learn_online

    config = LearningConfig(seed=5, memory=100, phi=(16, 16), rho=(16, 16))
    one, again, other = (
        learn_online(lessons(100), champion_weights(), replace(config, seed=seed), 60).weights for seed in (5, 5, 6)
    )
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["head.weight"], other["head.weight"])


def test_a_candidate_is_an_artefact_that_proves_itself_and_names_its_parent(tmp_path: Path) -> None:
    from streams.training.online import train_candidate

    store = tmp_path / "store"
    parent = champion(store)
    outcome = train_candidate(tmp_path, job_in(tmp_path, taught(store, champion=parent), ""))
    assert outcome.failure is None
    assert outcome.transitions == 80
    artefact = read_artefact(store, outcome.sha256, KEYS)
    artefact.refuse_other_schema(SCHEMA, VOTE_FEATURES, CONTEXT_FEATURES)
    assert artefact.spec.parent == parent
    assert artefact.name == outcome.model
    assert (artefact.spec.trials, artefact.spec.seed) == (small_spec().trials + 2, 3)
    own = {part.instrument: part.steps for part in artefact.spec.data[len(small_spec().data) :]}
    assert own == {"SIM:BTCUSD": 40, "SIM:ETHUSD": 40}
    assert artefact.spec.learning["gamma"] == 0.5, "the discount is the champion's"
    assert set(artefact.spec.moments) == {*VOTE_FEATURES, *CONTEXT_FEATURES}
    assert outcome.metrics == artefact.spec.metrics
    assert not np.array_equal(artefact.weights["head.weight"], champion_weights()["head.weight"])


def test_it_starts_from_the_champion_that_a_release_has_named(tmp_path: Path) -> None:
    from streams.training.online import train_candidate

    store = tmp_path / "store"
    named = champion(store)
    how = taught(store, champion="0" * 64)
    outcome = train_candidate(tmp_path, job_in(tmp_path, how, named))
    assert read_artefact(store, outcome.sha256, KEYS).spec.parent == named


def test_without_a_champion_that_can_be_read_there_is_no_candidate(tmp_path: Path) -> None:
    from streams.training.online import Untrainable, train_candidate

    job = job_in(tmp_path, taught(tmp_path / "empty", champion="0" * 64), "")
    with pytest.raises(Untrainable, match="NO_SUCH_ARTEFACT") as raised:
        train_candidate(tmp_path, job)
    assert raised.value.reason is TrainingFailure.NO_START


def test_too_few_transitions_give_no_candidate(tmp_path: Path) -> None:
    from streams.training.online import Untrainable, train_candidate

    store = tmp_path / "store"
    job = job_in(tmp_path, taught(store, champion=champion(store)), "", count=20)
    with pytest.raises(Untrainable, match="20 transitions, of 50") as raised:
        train_candidate(tmp_path, job)
    assert raised.value.reason is TrainingFailure.TOO_FEW


def test_an_exploding_loss_gives_no_candidate() -> None:
    from streams.training.learner import LearningConfig
    from streams.training.online import Untrainable, learn_online

    spoilt = lessons(100)
    spoilt.arrays["reward"][7] = np.inf
    config = LearningConfig(seed=5, memory=100, phi=(16, 16), rho=(16, 16))
    with pytest.raises(Untrainable) as raised:
        learn_online(spoilt, champion_weights(), config, 200)
    assert raised.value.reason is TrainingFailure.DIVERGED


def test_padding_is_not_seen() -> None:
    """What lies in rows that no vote fills changes nothing: buffers may hold anything there."""
    from streams.training.learner import LearningConfig
    from streams.training.online import learn_online

    config = LearningConfig(seed=5, memory=100, phi=(16, 16), rho=(16, 16))
    plain, noisy = lessons(100), lessons(100)
    noisy.arrays["votes"][:, MAX_VOTES - 1] = 3.0
    one, other = (learn_online(frozen, champion_weights(), config, 50).weights for frozen in (plain, noisy))
    assert all(np.array_equal(one[name], other[name]) for name in one)
