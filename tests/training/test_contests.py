"""Short forms of what the closing figures are made by: walking forward, regimes, and experts that join at run time."""

import json
from functools import cache
from pathlib import Path

import pytest

from agents.decider.baseline import BaselinePolicy
from agents.sim.tape import Tape
from benchmarks.contest import NULL
from benchmarks.regimes import Entrants, contest
from benchmarks.regimes import judged as regime_judged
from benchmarks.set_policy import judged as pairs_judged
from benchmarks.set_policy import pairs, shipped_champion
from benchmarks.simulated import simulated_tape
from benchmarks.walk_forward import MARKETS, POOL, SET_POLICY, days_of, judged, learners_of, trials_of, walk

pytestmark = pytest.mark.train

STEPS = 200
DATA = Path(__file__).resolve().parents[2].parent / "shared/data/lean/tick"


@cache
def tape(seed: int, seconds: float = 180.0) -> Tape:
    return simulated_tape("mixed", seed, seconds)


def test_walking_forward_learns_from_the_past_alone() -> None:
    """Another third day changes nothing of what was learnt, chosen and earned on the second."""
    walked = []
    for last in (43, 44):
        tapes = {"a": tape(41), "b": tape(42), "c": tape(last)}
        walked.append((walk(tapes, learners_of(STEPS, 1), None), tapes))
    (found, chosen), tapes = walked[0]
    (other, other_chosen), _ = walked[1]
    assert set(found) == {NULL, "baseline", "best expert", "equal weights", SET_POLICY, POOL}
    for name, days in found.items():
        assert [day.label for day in days] == ["b", "c"]
        assert days[0].net_returns.tolist() == other[name][0].net_returns.tolist()
    assert chosen["b"] == other_chosen["b"]
    assert found["best expert"][1].net_bp != other["best expert"][1].net_bp
    told = judged(found, trials_of(tapes, found, 0))
    assert told["trials"] >= 5 + 3
    assert len(told["verdicts"]) == 5
    assert json.loads(json.dumps(told))["subject"] == SET_POLICY


def test_the_pool_network_is_shown_nobodys_vote() -> None:
    votes, pool = learners_of(STEPS, 1)
    assert all(not tally.entries for tally in pool.seen(tape(41)).tallies)
    assert any(tally.entries for tally in votes.seen(tape(41)).tallies)
    assert pool.config() == votes.config()


def test_regimes_are_told_with_everybody_in_them() -> None:
    found, chosen = contest("trending", (661, 662), 60.0, Entrants(BaselinePolicy(), BaselinePolicy()))
    assert set(found) == {NULL, "baseline", "best expert", "equal weights", "set policy", "pool network"}
    assert [day.net_bp for day in found["set policy"]] == [day.net_bp for day in found["baseline"]]
    told = regime_judged(found, chosen, 5)
    assert any(sentence.startswith("set policy cannot be told from baseline") for sentence in told["verdicts"])


def test_whoever_knows_something_may_join_and_whoever_does_not_costs_little() -> None:
    """Six pairs of three minutes, and an oracle that knows more than the committee, so that chance decides less.

    That the tally gets better is held at what trading costs; that a better tally earns more, for a rule that pays no
    fee. What the champion makes of it is measured, and is no promise (docs/evaluation.md).
    """
    seeds = range(41, 47)
    champion = pairs_judged(pairs([(seed, tape(seed)) for seed in seeds], shipped_champion(), 0.95, 40))
    assert champion["useful"]["log_loss"]["high"] < 0
    assert champion["useless"]["log_loss_percent"] < 5
    free = [(seed, simulated_tape("mixed", seed, 180.0, fee=0.0)) for seed in seeds]
    rule = pairs_judged(pairs(free, BaselinePolicy(), 0.95, 40))
    assert rule["useful"]["net_bp"]["mean"] > 0


@pytest.mark.skipif(not DATA.exists(), reason="the recorded days do not lie beside this checkout")
def test_the_days_of_real_markets_are_whole_trading_days() -> None:
    assert len(days_of(MARKETS["EURUSD"])) == 8
    assert {len(paths) for paths in days_of(MARKETS["BAC"]).values()} == {2}
    assert len(days_of(MARKETS["BAC"])) == 4
