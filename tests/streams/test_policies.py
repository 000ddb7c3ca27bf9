"""Released models from a store: verified once, a function of their digest, and refused with one sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from model_artefacts import KEY, KEYS, MARKETS, small_spec
from money_events import INSTRUMENTS, PERP, mark, tally

from agents.decider.config import Follows
from agents.decider.encoding import CONTEXT_FEATURES, SCHEMA, VOTE_FEATURES
from agents.decider.policy import TARGETS, PolicyContext
from agents.decider.policy_source import LoadedPolicy, NoModels, PolicyRefused
from agents.decider.releases import is_withheld
from agents.decider.set_policy import tensor_shapes
from infra.artefacts import ArtefactRefused, write_artefact
from infra.models.store import ModelStore
from infra.settings import SettingsError, load_settings
from streams.composition import compose, decider_config
from streams.policies import StoredPolicies

SETTINGS = Path(__file__).resolve().parents[2] / "tradermind.toml"


def model(store: Path, name: str = "small", schema: str = SCHEMA, seed: int = 1) -> str:
    """Write a model that reads what the decider gives; return its digest."""
    draws = np.random.default_rng(seed)
    weights = {key: draws.normal(size=shape).astype(np.float32) for key, shape in tensor_shapes().items()}
    for key in ("votes.scale", "context.scale"):
        weights[key] = np.ones_like(weights[key])
    spec = small_spec(tuple(VOTE_FEATURES), tuple(CONTEXT_FEATURES), name)
    return write_artefact(store, weights, msgspec.structs.replace(spec, schema=schema), KEY)


@pytest.fixture
def heard() -> list[tuple[str, ArtefactRefused]]:
    return []


@pytest.fixture
def store(tmp_path: Path, heard: list[tuple[str, ArtefactRefused]]) -> Iterator[ModelStore]:
    yield ModelStore(tmp_path, KEYS, lambda sha256, refused: heard.append((sha256, refused)), tmp_path / "none")


def test_a_model_of_the_store_decides(store: ModelStore, tmp_path: Path) -> None:
    sha256 = model(tmp_path)
    loaded = StoredPolicies(store).policy(sha256)
    assert isinstance(loaded, LoadedPolicy)
    seen = {"target": 0.0, "spread_relative": 0.0002, "volatility": 0.0002, "horizon_s": 1.0}
    context = PolicyContext(tally(0), mark(), INSTRUMENTS[PERP], 0.0, 0)
    assert loaded.policy.decide(seen, context).target in TARGETS
    assert loaded.policy.name == "small"


def test_what_is_watched_is_of_the_market_and_always_as_long(store: ModelStore, tmp_path: Path) -> None:
    loaded = StoredPolicies(store).policy(model(tmp_path))
    assert isinstance(loaded, LoadedPolicy)
    assert loaded.standardised is not None
    features = (*VOTE_FEATURES, *CONTEXT_FEATURES)
    with_vote = {"vote.a.p_up": 0.5, "vote.a.p_down": 0.2, "target": 1.0, "alert": 2.0, "volatility": 0.1}
    for seen in ({}, with_vote):
        found = dict(zip(features, loaded.standardised(seen), strict=True))
        assert found["target"] is None
        assert found["alert_high"] is None
        assert found["log_volatility"] is not None
        assert (found["direction"] is None) == (not seen)


def test_the_same_digest_is_the_same_policy_whatever_becomes_of_the_files(store: ModelStore, tmp_path: Path) -> None:
    sha256 = model(tmp_path)
    policies = StoredPolicies(store)
    first = policies.policy(sha256)
    for file in (tmp_path / sha256).iterdir():
        file.write_bytes(b"")
    assert policies.policy(sha256) is first
    assert isinstance(StoredPolicies(store).policy(sha256), PolicyRefused)


def test_an_artefact_that_is_refused_is_not_loaded_and_told_aloud(
    store: ModelStore, tmp_path: Path, heard: list[tuple[str, ArtefactRefused]]
) -> None:
    sha256 = model(tmp_path)
    weights = tmp_path / sha256 / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    found = StoredPolicies(store).policy(sha256)
    assert isinstance(found, PolicyRefused)
    assert "WRONG_DIGEST" in found.sentence
    assert [told for told, _ in heard] == [sha256]


def test_a_model_of_another_schema_is_refused_aloud(
    store: ModelStore, tmp_path: Path, heard: list[tuple[str, ArtefactRefused]]
) -> None:
    sha256 = model(tmp_path, schema="set.v0")
    found = StoredPolicies(store).policy(sha256)
    assert isinstance(found, PolicyRefused)
    assert "WRONG_SCHEMA" in found.sentence
    assert [told for told, _ in heard] == [sha256]


def test_what_was_refused_is_looked_at_again(store: ModelStore, tmp_path: Path) -> None:
    policies = StoredPolicies(store)
    sha256 = model(tmp_path)
    hidden = (tmp_path / sha256).rename(tmp_path / "elsewhere")
    assert isinstance(policies.policy(sha256), PolicyRefused)
    hidden.rename(tmp_path / sha256)
    assert isinstance(policies.policy(sha256), LoadedPolicy)


def settings(tmp_path: Path, **changes: Any) -> Any:
    values = {"models.directory": str(tmp_path)} | {key.replace("__", "."): value for key, value in changes.items()}
    return load_settings(SETTINGS, values, environment={})


def test_a_strategy_that_follows_the_champion_begins_with_the_settings(tmp_path: Path) -> None:
    sha256 = model(tmp_path, "first")
    run = compose(
        settings(tmp_path, strategies__committee__policy="champion", models__champion=sha256, models__loss_max="0.1")
    )
    config = decider_config(run)
    (committee,) = [item for item in config.strategies if item.name == "committee"]
    assert (committee.follows, committee.policy.name) == (Follows.CHAMPION, "baseline")
    assert config.models.champion is not None
    assert (config.models.champion.model, config.models.champion.sha256) == ("first", sha256)
    assert config.models.loss_max == 0.1
    assert isinstance(config.source.policy(sha256), LoadedPolicy)


@pytest.mark.parametrize("champion", ["0" * 64, "schema"])
def test_a_champion_that_is_refused_is_one_sentence_at_the_start(tmp_path: Path, champion: str) -> None:
    sha256 = model(tmp_path, schema="set.v0") if champion == "schema" else champion
    with pytest.raises(SettingsError) as refused:
        compose(settings(tmp_path, strategies__committee__policy="champion", models__champion=sha256))
    assert str(refused.value).startswith("models.champion: Refused: ")
    assert "\n" not in str(refused.value)


def test_a_canary_needs_no_champion_and_may_have_another_fallback(tmp_path: Path) -> None:
    run = compose(settings(tmp_path, strategies__committee__policy="canary", strategies__committee__fallback="null"))
    config = decider_config(run)
    (trial,) = [item for item in config.strategies if item.name == "committee"]
    assert (trial.follows, trial.policy.name) == (Follows.CANARY, "null")


def test_where_nobody_follows_models_there_is_no_store(tmp_path: Path) -> None:
    changes = {"strategies__committee__policy": "baseline", "strategies__pulse__policy": "probe"}
    config = decider_config(compose(settings(tmp_path, **changes)))
    assert isinstance(config.source, NoModels)
    assert isinstance(config.source.policy("0" * 64), PolicyRefused)


def test_a_model_acts_where_its_spec_says_that_it_was_trained_and_a_setting_changes_that(tmp_path: Path) -> None:
    sha256 = model(tmp_path)
    following = {"strategies__committee__policy": "champion", "models__champion": sha256}
    config = decider_config(compose(settings(tmp_path, **following)))
    (champion,) = [config.models.champion]
    assert champion is not None
    assert not is_withheld(config, champion, MARKETS[0])
    assert is_withheld(config, champion, "DERIV:EURUSD")
    everywhere = decider_config(compose(settings(tmp_path, **following, models__act_outside_training=True)))
    assert not is_withheld(everywhere, champion, "DERIV:EURUSD")


def test_watching_inputs_can_be_turned_off(tmp_path: Path) -> None:
    sha256 = model(tmp_path)
    following = {"strategies__committee__policy": "champion", "models__champion": sha256}
    watched = decider_config(compose(settings(tmp_path, **following, models__drift_tolerance="1.5"))).models.drift
    assert watched is not None
    assert watched.tolerance == 1.5
    assert decider_config(compose(settings(tmp_path, **following, models__watch_inputs=False))).models.drift is None
