"""What the quant expert is trained on is what it sees live."""

from pathlib import Path

import pytest
from msgspec.structs import force_setattr

from agents.pipeline import Pipeline
from infra.settings import load_settings
from schemas.event import Event, derive_id
from schemas.opinions import FeatureSnapshot
from schemas.values import NS_PER_S
from streams.composition import build_stage, compose
from streams.offline.backtest import Backtest
from streams.training.quant import HELD_OUT_SEEDS, HORIZONS_S, TRAINING_SEEDS, samples_of, simulated, tapes_of

SETTINGS = Path(__file__).resolve().parents[3] / "tradermind.toml"
SEED, SECONDS = 91_999_999, 75.0


@pytest.mark.slow
def test_the_training_sees_the_features_of_a_run() -> None:
    run = compose(load_settings(SETTINGS, {"run.seed": SEED}, environment={}))
    seen: list[Event] = []
    stages = [build_stage(run, name) for name in ("ingestion", "experts")]
    pipeline = Pipeline(stages, perform=lambda _: (), observe=seen.append)
    for record in Backtest(run).records(SECONDS):
        for ordinal, event in enumerate(record.events):
            force_setattr(event, "event_id", derive_id(str(record.position), "feed", ordinal))
            pipeline.feed("ingestion", event)
    shown = [event for event in seen if isinstance(event, FeatureSnapshot)]
    trained_on = tapes_of(SEED, SECONDS)
    for name, tape in trained_on.items():
        live = {one.grid_time_ns: one for one in shown if one.key == name}
        assert len(tape) > 60
        for one in tape[:70]:
            assert one.features == live[one.grid_time_ns].features
            assert one.mid == live[one.grid_time_ns].mid


def test_training_seeds_are_their_own() -> None:
    assert not set(TRAINING_SEEDS) & set(HELD_OUT_SEEDS)
    assert min(TRAINING_SEEDS) > 90_000_000, "small seeds are what people type, and what evaluations use"


@pytest.mark.slow
def test_samples_know_no_more_than_their_horizon() -> None:
    tapes = list(simulated(SEED, SECONDS).values())
    for horizon_s in HORIZONS_S[:2]:
        samples = samples_of(tapes, horizon_s)
        assert len(samples.columns) > 50
        lives = samples.ended_ns - samples.starts_ns
        assert (lives > 0).all()
        assert (lives <= horizon_s * NS_PER_S).all()
        assert ((samples.weights > 0) & (samples.weights <= 1)).all()
        assert set(samples.outcome.tolist()) <= {-1, 0, 1}
        assert len(set(samples.outcome.tolist())) == 3
