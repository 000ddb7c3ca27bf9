"""Weights that learn: fixed-share Hedge over experts that may sleep, one set per (instrument, horizon).

Each scored ballot multiplies an expert's weight by ``exp(-eta x loss)``; whoever gave no direction is charged the
pool's loss, so abstaining neither pays nor costs; then everyone passes on ``share`` of its weight, so that an
expert which was bad can come back when the regime changes. With losses in [0, 1] and the pool charged the weighted
mean, the regret after T ballots against any of N experts, over the ballots it voted on, is at most
``ln(N) / eta + eta T / 8`` for ``share`` 0 (Freund et al. 1997), and against a sequence of experts with k changes
``(ln N + k ln(N / share) + (T - k) ln(1 / (1 - share))) / eta + eta T / 8`` (Herbster and Warmuth 1998).

Scores come late, one event per (ballot, expert); all of one ballot come together. The step of a ballot is closed
when the first score of another one arrives.
"""

import math
from dataclasses import dataclass

import msgspec

from schemas.feedback import ExpertScore


@dataclass(frozen=True)
class WeightsConfig:
    """``eta`` is the learning rate on losses in [0, 1], ``share`` what is passed on per ballot.

    ``experts_max`` bounds how many are remembered; ``skill_memory`` is the number of ballots that skill looks back
    on, ``skill_min`` from how many it is told.
    """

    eta: float = 0.5
    share: float = 0.002
    experts_max: int = 64
    skill_memory: int = 500
    skill_min: int = 20

    def __post_init__(self) -> None:
        """Refuse rates under which weights would not be weights."""
        assert self.eta > 0
        assert 0 <= self.share < 1
        assert self.experts_max >= 1


class Standing(msgspec.Struct, gc=False):
    """Where one expert stands: its weight among all known ones, and its running mean losses while voting."""

    weight: float
    loss: float = 0.0
    base_loss: float = 0.0
    scored: int = 0


class Weights(msgspec.Struct):
    """All experts known for one (instrument, horizon); their weights sum to 1. ``charged`` is the ballot in hand."""

    standings: dict[str, Standing] = {}
    ballot_id: str = ""
    pool_loss: float = 0.0
    charged: dict[str, float] = {}


def join(config: WeightsConfig, weights: Weights, expert: str) -> None:
    """Let an expert in at the prior weight 1/N of the N there are with it; at the bound the lightest one leaves."""
    standings = weights.standings
    if expert in standings:
        return
    if len(standings) >= config.experts_max:
        lightest = min(standings, key=lambda name: (standings[name].weight, name))
        del standings[lightest]
        weights.charged.pop(lightest, None)
        _normalise(weights)
    prior = 1 / (len(standings) + 1)
    for standing in standings.values():
        standing.weight *= 1 - prior
    standings[expert] = Standing(weight=prior)


def learn(config: WeightsConfig, weights: Weights, score: ExpertScore) -> None:
    """Take one score. A second one of the same (ballot, expert) counts for nothing."""
    if score.ballot_id != weights.ballot_id:
        close_ballot(config, weights)
        weights.ballot_id = score.ballot_id
        weights.pool_loss = score.pool_loss
    standing = weights.standings.get(score.expert)
    if standing is None or score.expert in weights.charged:
        return
    weights.charged[score.expert] = score.pool_loss if score.abstained else score.loss
    if not score.abstained:
        standing.scored = min(standing.scored + 1, config.skill_memory)
        standing.loss += (score.loss - standing.loss) / standing.scored
        standing.base_loss += (score.base_loss - standing.base_loss) / standing.scored


def close_ballot(config: WeightsConfig, weights: Weights) -> None:
    """Charge what the ballot in hand cost each expert, then share. Does nothing when no score of one has come."""
    charged = weights.charged
    if not charged:
        return
    standings = weights.standings
    for name, standing in standings.items():
        standing.weight *= math.exp(-config.eta * (charged.get(name, weights.pool_loss) - weights.pool_loss))
    _normalise(weights)
    if config.share:
        passed_on = config.share / len(standings)
        for standing in standings.values():
            standing.weight = (1 - config.share) * standing.weight + passed_on
    weights.charged = {}


def skill(config: WeightsConfig, standing: Standing | None) -> float | None:
    """Return the share of the base rate's loss that the expert saves (1 perfect, 0 none, below 0 worse), if known."""
    if standing is None or standing.scored < config.skill_min or standing.base_loss <= 0:
        return None
    return 1 - standing.loss / standing.base_loss


def _normalise(weights: Weights) -> None:
    total = sum(standing.weight for standing in weights.standings.values())
    for standing in weights.standings.values():
        standing.weight /= total
