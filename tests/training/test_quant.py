"""The trees as they ship against LightGBM, the curve against scikit-learn, the training against itself."""

import math
from typing import Any

import numpy as np
import pytest

from agents.experts._trees import Forest
from agents.features.scale_free import COLUMNS
from streams.training.trees import booster_of, curve_of

pytestmark = pytest.mark.train
DEPTH = 3


def data(seed: int, rows: int, missing: float) -> tuple[Any, Any]:
    draws = np.random.default_rng(seed)
    columns = draws.normal(size=(rows, 6)).round(2)
    odds = columns[:, 0] - columns[:, 1] * columns[:, 2] + (columns[:, 3] > 0.5)
    columns[draws.random(columns.shape) < missing] = math.nan
    return columns, (odds + draws.normal(size=rows) > 0).astype(float)


def grown(columns: Any, labels: Any, **changes: Any) -> Any:
    import lightgbm

    parameters = {"objective": "binary", "max_depth": DEPTH, "num_leaves": 7, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(parameters | changes, lightgbm.Dataset(columns, label=labels), num_boost_round=50)


@pytest.mark.parametrize("missing_when_grown", [0.0, 0.2])
def test_the_arrays_say_what_lightgbm_says(missing_when_grown: float) -> None:
    columns, labels = data(1, 3_000, missing_when_grown)
    booster = grown(columns, labels)
    forest = Forest([booster_of(booster.dump_model(), DEPTH)], columns.shape[1])
    asked, _ = data(2, 5_000, 0.15)
    asked[:50] *= 1e6
    asked[50:100] = columns[50:100]
    raw = booster.predict(asked, raw_score=True)
    scores = forest.scores(asked)[:, 0]
    assert np.abs(scores - raw).max() <= 1e-12
    assert np.abs(1 / (1 + np.exp(-scores)) - booster.predict(asked)).max() <= 1e-12
    assert np.std(raw) > 0.1


def test_a_tree_that_never_split_is_its_leaf() -> None:
    columns, labels = data(3, 200, 0.0)
    booster = grown(columns, labels, min_data_in_leaf=1_000)
    forest = Forest([booster_of(booster.dump_model(), DEPTH)], columns.shape[1])
    assert forest.scores(columns)[:, 0] == pytest.approx(booster.predict(columns, raw_score=True), abs=1e-12)


def test_reasons_add_up_to_what_lightgbms_own_add_up_to() -> None:
    """Paths and Shapley values share a sum out differently; the sum is the score less the mean for both."""
    columns, labels = data(4, 3_000, 0.1)
    booster = grown(columns, labels)
    arrays = booster_of(booster.dump_model(), DEPTH)
    scores, reasons = Forest([arrays], columns.shape[1]).explained(columns)
    shapley = booster.predict(columns, pred_contrib=True)
    assert scores[:, 0] == pytest.approx(shapley.sum(axis=1), abs=1e-9)
    root = sum(values[0] for values in arrays.values)
    assert reasons[:, 0].sum(axis=1) + root == pytest.approx(scores[:, 0], abs=1e-9)
    agreement = np.corrcoef(reasons[:, 0].ravel(), shapley[:, :-1].ravel())[0, 1]
    assert agreement > 0.9


def test_trees_that_the_arrays_cannot_hold_are_refused() -> None:
    columns, labels = data(5, 2_000, 0.0)
    deep = grown(columns, labels, max_depth=6, num_leaves=40)
    with pytest.raises(ValueError, match="levels"):
        booster_of(deep.dump_model(), DEPTH)
    with pytest.raises(ValueError, match="missing values of type"):
        booster_of(grown(columns, labels, zero_as_missing=True).dump_model(), DEPTH)


def test_the_curve_is_the_isotonic_fit() -> None:
    from sklearn.isotonic import IsotonicRegression

    draws = np.random.default_rng(6)
    scores = draws.normal(size=4_000)
    came = (draws.random(4_000) < 1 / (1 + np.exp(-scores))).astype(float)
    fit = IsotonicRegression(y_min=0.01, y_max=0.99, out_of_bounds="clip").fit(scores, came)
    curve = curve_of(fit.X_thresholds_.tolist(), fit.y_thresholds_.tolist())
    asked = np.concatenate((scores, draws.normal(size=500) * 5))
    assert [curve.at(float(x)) for x in asked] == pytest.approx(fit.predict(asked), abs=1e-12)
    assert len(curve.xs) <= len(fit.X_thresholds_)


def test_a_short_training_gives_the_same_model_twice_and_one_that_votes() -> None:
    from agents.experts._trees import Model
    from agents.experts.quant import Config, Quant
    from streams.training.quant import Growing, tapes_of, train

    growing = Growing(rounds=5, leaf_samples=50)
    first, second = ([*train((1,), (2,), 100.0, growing, (1, 10))][-1] for _ in range(2))
    assert isinstance(first, Model)
    assert first == second
    assert first.columns == COLUMNS
    expert = Quant(Config(), first, "0" * 64)
    shown = tapes_of(3, 30.0)["SIM:BTCUSD"][-1]
    _, assessment = expert.assess(expert.initial(), shown)
    assert [opinion.p_up is not None for opinion in assessment.opinions] == [True, True, False]


def test_the_forward_filter_is_hmmlearns_at_the_last_step() -> None:
    from hmmlearn.hmm import GaussianHMM

    from agents.experts.volatility_regime import Config as RegimeConfig

    chain = RegimeConfig().chain
    states = len(chain.means)
    one_second = [chain.predicted([float(at == state) for at in range(states)], 1.0) for state in range(states)]
    start = (0.2, 0.6, 0.2)
    model = GaussianHMM(n_components=states, covariance_type="diag")
    model.startprob_ = np.array(chain.predicted(start, 1.0))
    model.transmat_ = np.array(one_second)
    model.means_ = np.array(chain.means)
    model.covars_ = np.array(chain.widths) ** 2
    seen, _ = model.sample(120, random_state=3)
    posterior = start
    for step in range(len(seen)):
        posterior = chain.filtered(chain.predicted(posterior, 1.0), seen[step].tolist())
        if step % 7 == 0 or step == len(seen) - 1:
            # hmmlearn smooths: at its last step there is no future to smooth with.
            expected = model.score_samples(seen[: step + 1])[1][-1]
            assert posterior == pytest.approx(expected, abs=1e-9)
