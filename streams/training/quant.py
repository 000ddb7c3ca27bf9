"""Grows the trees of the expert quant: ``python -m streams.training.quant`` (or ``make train-quant``), some minutes.

It learns from the simulated market only, on seeds that nothing else uses, so that every figure on recorded data is
out of sample. The features are made by the engine that makes them live. Labels are triple barriers, weighed by their
uniqueness; how often the ballot came true at a score is fitted on scores of stretches that the trees had not seen,
with labels purged and an embargo of the horizon between the two. The same lock on the same machine gives the same
file to the byte.
"""

import argparse
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

import agents.experts
from agents.experts._trees import Booster, Forest, Horizon, Model
from agents.features.engine import apply, current_mid, due_grid_time
from agents.features.scale_free import COLUMNS, SIGNED_COLUMNS, columns_of, mirrored
from agents.features.snapshot import snapshot
from agents.features.state import FeatureConfig, FeatureState, new_state
from agents.sim.instruments import SIM_INSTRUMENTS, START_PRICES
from agents.sim.market import MarketTerms, SimulatedMarket
from schemas.opinions import FeatureSnapshot
from schemas.values import NS_PER_S, units
from streams.training.labels import Floats, Integers, purged_folds, triple_barrier, uniqueness
from streams.training.trees import booster_of, curve_of

TRAINING_SEEDS: Final = tuple(range(91_000_001, 91_000_009))
HELD_OUT_SEEDS: Final = (92_000_001, 92_000_002)
"""Of the simulated market; no evaluation may use the first, and no choice was made on the second."""
SECONDS: Final = 900
HORIZONS_S: Final = (1, 10, 60)
DEPTH: Final = 3
FOLDS: Final = 5
BARRIER_SIGMAS: Final = 1.0
HIDDEN_SHARE: Final = 0.15
GROUPS: Final = (
    ("imbalance_5", "imbalance_10", "ofi_multi_1s"),
    ("trade_flow_1s", "trade_flow_10s", "vpin"),
    ("return_30s", "return_60s"),
)
"""Inputs that come and go together; in training each group is hidden now and then, so that a null is known."""
_VPIN_BUCKETS: Final = {"SIM:BTCUSD": units("5"), "SIM:ETHUSD": units("50")}
_START_NS: Final = 1_700_000_000 * NS_PER_S
_FLOOR: Final = 0.01


@dataclass(frozen=True, slots=True)
class Growing:
    """How trees are grown: few and shallow, each a small step, since the market is mostly noise."""

    rounds: int = 40
    learning_rate: float = 0.1
    leaf_samples: int = 300
    shrinkage: float = 20.0
    seed: int = 5

    def parameters(self) -> dict[str, Any]:
        """Return them in LightGBM's words; a column that has a sign may only speak for its own side."""
        free = len(COLUMNS) - SIGNED_COLUMNS
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "max_depth": DEPTH,
            "num_leaves": 2**DEPTH,
            "min_data_in_leaf": self.leaf_samples,
            "lambda_l2": self.shrinkage,
            "max_bin": 127,
            "monotone_constraints": _monotone() + [0] * free,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }


def _monotone() -> list[int]:
    """More flow to one side never speaks for the other; a past return may, so that reversion can be found."""
    return [0 if name.startswith("return_") else 1 for name in COLUMNS[:SIGNED_COLUMNS]]


@dataclass(frozen=True, slots=True)
class Samples:
    """Snapshots of several tapes at one horizon: rows of ``columns``, and what came of them.

    ``touched`` is the barrier's side, ``ended_ns`` when it was known; ``outcome`` the ballot's own (-1, 0, +1).
    """

    columns: Floats
    tapes: Integers
    starts_ns: Integers
    touched: Integers
    ended_ns: Integers
    outcome: Integers
    weights: Floats


@dataclass(slots=True)
class SimulatedTape:
    """One instrument of one seed: what was seen on the grid, and the path of its mid between."""

    shown: list[FeatureSnapshot]
    times_ns: list[int]
    mids: list[float]


def tapes_of(seed: int, seconds: float) -> dict[str, list[FeatureSnapshot]]:
    """Return the snapshots of the simulated market by instrument, as the stage ``experts`` would take them."""
    return {name: tape.shown for name, tape in simulated(seed, seconds).items()}


def simulated(seed: int, seconds: float) -> dict[str, SimulatedTape]:
    """Return what was seen of the simulated market, by instrument, without any account trading in it."""
    config = FeatureConfig(instruments=SIM_INSTRUMENTS, vpin_bucket_volumes=_VPIN_BUCKETS)
    states: dict[str, FeatureState] = {name: new_state(name, config) for name in SIM_INSTRUMENTS}
    tapes = {name: SimulatedTape([], [], []) for name in SIM_INSTRUMENTS}
    instruments = tuple(SIM_INSTRUMENTS.values())
    market = SimulatedMarket(
        MarketTerms(instruments=instruments, start_prices=START_PRICES, seed=seed, start_ns=_START_NS)
    )
    while market.next_time_ns <= _START_NS + int(seconds * NS_PER_S):
        now_ns = market.next_time_ns
        for event in market.advance():
            state = states[event.key]
            grid_ns = due_grid_time(state, event.available_at_ns, SIM_INSTRUMENTS[event.key].grid_ns)
            if grid_ns is not None:
                tapes[event.key].shown.append(snapshot(state, grid_ns, config))
            apply(state, event)
        for name, tape in tapes.items():
            tape.times_ns.append(now_ns)
            tape.mids.append(float(current_mid(states[name]) or math.nan))
    return tapes


def samples_of(tapes: Sequence[SimulatedTape], horizon_s: int) -> Samples:
    """Return every snapshot that has columns and whose outcome is known."""
    parts = [part for number, tape in enumerate(tapes) if (part := _labelled(number, tape, horizon_s)) is not None]
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _labelled(number: int, tape: SimulatedTape, horizon_s: int) -> tuple[Any, ...] | None:
    horizon_ns = horizon_s * NS_PER_S
    rows = [(item, columns) for item in tape.shown if item.mid and (columns := columns_of(item.features)) is not None]
    if not rows:
        return None
    starts_ns = np.array([item.grid_time_ns for item, _ in rows])
    mids = np.array([float(item.mid or 0) for item, _ in rows])
    sigmas = np.array([item.features["volatility"] or 0.0 for item, _ in rows])
    bands = np.array(
        [question.flat_band for item, _ in rows for question in item.questions if question.horizon_ns == horizon_ns]
    )
    path = (np.array(tape.times_ns), np.array(tape.mids))
    widths = np.maximum(BARRIER_SIGMAS * sigmas * math.sqrt(horizon_s) * mids, bands + 1.0)
    touches = triple_barrier(path, starts_ns, mids, widths, horizon_ns)
    ends = np.searchsorted(path[0], starts_ns + horizon_ns, side="right") - 1
    moves = path[1][ends] - mids
    known = touches.known & (starts_ns + horizon_ns <= path[0][-1]) & ~np.isnan(moves)
    outcome = np.where(moves > bands, 1, np.where(moves < -bands, -1, 0))
    tapes = np.full(len(rows), number)
    weights = uniqueness(starts_ns[known], touches.ended_ns[known])
    whole = (np.array([columns for _, columns in rows]), tapes, starts_ns, touches.sides, touches.ended_ns, outcome)
    return (*(column[known] for column in whole), weights)


def hidden(columns: Floats, seed: int) -> Floats:
    """Return the rows with some groups of inputs missing at random."""
    draws = np.random.default_rng(seed)
    shown = columns.copy()
    for group in GROUPS:
        gone = draws.random(len(shown)) < HIDDEN_SHARE
        for name in group:
            shown[gone, COLUMNS.index(name)] = math.nan
    return shown


def grown(samples: Samples, rows: NDArray[np.bool_], growing: Growing) -> Any:
    """Return LightGBM's booster for *up is touched first*, grown on the rows and on the same rows upside down."""
    import lightgbm

    columns = hidden(samples.columns[rows], growing.seed)
    touched = samples.touched[rows]
    both = lightgbm.Dataset(
        np.concatenate((columns, mirrored(columns))),
        label=np.concatenate((touched == 1, touched == -1)).astype(float),
        weight=np.tile(samples.weights[rows], 2),
        params={"max_bin": growing.parameters()["max_bin"], "verbosity": -1},
    )
    return lightgbm.train(growing.parameters(), both, num_boost_round=growing.rounds)


def unseen_scores(samples: Samples, horizon_s: int, growing: Growing) -> tuple[Floats, Floats]:
    """Return every row's score, and that of it upside down, by trees that were grown without its stretch."""
    ups, downs = np.full(len(samples.columns), math.nan), np.full(len(samples.columns), math.nan)
    horizon_ns = horizon_s * NS_PER_S
    ends_ns = samples.starts_ns + horizon_ns  # The ballot's outcome, which the curve is fitted on, ends last.
    for train, test in purged_folds(samples.tapes, samples.starts_ns, ends_ns, FOLDS, horizon_ns):
        forest = Forest([booster_of(grown(samples, train, growing).dump_model(), DEPTH)], len(COLUMNS))
        ups[test] = forest.scores(samples.columns[test])[:, 0]
        downs[test] = forest.scores(mirrored(samples.columns[test]))[:, 0]
    return ups, downs


def learned(samples: Samples, horizon_s: int, growing: Growing) -> Horizon:
    """Return the trees grown on all rows, and the isotonic curve fitted on scores of unseen stretches."""
    from sklearn.isotonic import IsotonicRegression

    ups, downs = unseen_scores(samples, horizon_s, growing)
    came = np.concatenate((samples.outcome == 1, samples.outcome == -1)).astype(float)
    fit = IsotonicRegression(y_min=_FLOOR, y_max=1 - _FLOOR, out_of_bounds="clip")
    fit.fit(np.concatenate((ups, downs)), came, sample_weight=np.tile(samples.weights, 2))
    every = np.ones(len(samples.columns), dtype=np.bool_)
    booster: Booster = booster_of(grown(samples, every, growing).dump_model(), DEPTH)
    curve = curve_of(fit.X_thresholds_.tolist(), fit.y_thresholds_.tolist())
    return Horizon(horizon_s * NS_PER_S, booster, curve)


def log_losses(horizon: Horizon, samples: Samples, base: Samples) -> dict[str, float]:
    """Return the mean log-loss (nats) on the samples of what is said, and of the frequencies in ``base``."""
    forest = Forest([horizon.booster], len(COLUMNS))
    scores = [forest.scores(rows)[:, 0] for rows in (samples.columns, mirrored(samples.columns))]
    up, down = (np.array([max(_FLOOR, horizon.chance.at(score)) for score in side]) for side in scores)
    flat = np.maximum(_FLOOR, 1 - up - down)
    said = np.stack((down, flat, up)) / (down + flat + up)
    known = np.array([float(np.average(base.outcome == side, weights=base.weights)) for side in (-1, 0, 1)])
    at = samples.outcome + 1
    return {
        "log_loss": float(-np.log(said[at, np.arange(len(at))]).mean()),
        "base_log_loss": float(-np.log(known[at]).mean()),
        "samples": float(len(at)),
    }


def train(
    seeds: Sequence[int],
    held_out: Sequence[int],
    seconds: float,
    growing: Growing,
    horizons_s: Sequence[int] = HORIZONS_S,
) -> Iterator[str | Model]:
    """Yield lines of progress, and the model last. The tapes must be longer than several horizons."""
    tapes, others = ([t for s in part for t in simulated(s, seconds).values()] for part in (seeds, held_out))
    yield f"{len(tapes)} tapes to learn from, {len(others)} held out"
    horizons, figures = [], dict[str, dict[str, float]]()
    for horizon_s in horizons_s:
        samples = samples_of(tapes, horizon_s)
        horizons.append(learned(samples, horizon_s, growing))
        figures[f"{horizon_s} s"] = log_losses(horizons[-1], samples_of(others, horizon_s), samples)
        yield f"{horizon_s} s: {figures[f'{horizon_s} s']}"
    yield Model(
        COLUMNS,
        tuple(horizons),
        {
            "seeds": list(seeds),
            "held_out_seeds": list(held_out),
            "seconds": seconds,
            "growing": msgspec.to_builtins(growing),
            "lightgbm": importlib.metadata.version("lightgbm"),
            "scikit-learn": importlib.metadata.version("scikit-learn"),
            "held_out": figures,
        },
    )


def main() -> None:
    """Train and write the model into the package ``agents.experts``, or where it is told."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(agents.experts.__path__[0]) / "_quant.json"
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each simulated market")
    arguments = parser.parse_args()
    for told in train(TRAINING_SEEDS, HELD_OUT_SEEDS, arguments.seconds, Growing()):
        if isinstance(told, Model):
            arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=0) + b"\n")
        else:
            print(told, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
