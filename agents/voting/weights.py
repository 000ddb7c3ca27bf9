"""Weights that learn: fixed-share Hedge over experts that may sleep, one set per (instrument, horizon).

Each scored vote multiplies its expert's weight by ``exp(-eta x (loss - the pool's loss))``, so that whoever gave no
direction, and is charged the pool's loss, is not moved at all; at each ballot everyone passes on ``share`` of its
weight, so that an expert which was bad can come back when the regime changes. With losses in [0, 1] and the pool
charged the weighted mean, the regret after T ballots against any of N experts, over the ballots it voted on, is at most
``ln(N) / eta + eta T / 8`` for ``share`` 0 (Freund et al. 1997), and against a sequence of experts with k changes
``(ln N + k ln(N / share) + (T - k) ln(1 / (1 - share))) / eta + eta T / 8`` (Herbster and Warmuth 1998).

Who comes later is given a part ``a`` of the whole, and all others keep ``1 - a`` of theirs. Nothing else changes, so
that the bounds stay: against the one who came it is ``ln(1 / a) / eta + eta T / 8`` over the ballots since, and against
anybody who was there it grows by ``ln(1 / (1 - a)) / eta``. Before anything has been learned, when all but begin
together, ``a`` is the equal part 1/N of the N there are then. After that it is ``entry`` of it: what has been learned
is worth more than an unknown voice, and who is good pays ``ln(1 / entry) / eta`` once to be heard a little later.

Losses come late: when a ballot is tallied, those of the last D ballots, whose horizon is not over, are unknown. The
step is therefore ``eta / sqrt(D + 1)``: D + 1 overlapping ballots mostly tell the same thing, and a full step for each
would count it D + 1 times. Each loss is keyed by its vote (ballot and expert) and charged when it comes, in whatever
order: steps add up in log space, and one that is late counts as much as one in time.

Weights are kept as logarithms, so that none is ever lost to underflow. Those that count are ``weights_of``: what is
kept is before the newest ballot's share, since nobody says which of its scores is the last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agents.voting.calibration import Calibrator
from schemas.feedback import ExpertScore


@dataclass(frozen=True)
class WeightsConfig:
    """``eta`` is the learning rate on losses in [0, 1], ``share`` what is passed on per ballot.

    ``experts_max`` bounds how many are remembered, ``ballots_max`` of how many ballots it is known whom they have
    charged; ``skill_memory`` is the number of ballots that skill looks back on, ``skill_min`` from how many it is told.
    ``entry``: who comes to a pool that knows anybody's skill gets this share of the equal part 1/N.
    """

    eta: float = 0.5
    share: float = 0.002
    experts_max: int = 64
    ballots_max: int = 4
    skill_memory: int = 500
    skill_min: int = 20
    entry: float = 0.5

    def __post_init__(self) -> None:
        """Refuse rates under which weights would not be weights."""
        assert self.eta > 0
        assert 0 <= self.share < 1
        assert 0 < self.entry <= 1
        assert min(self.experts_max, self.ballots_max) >= 1


class Standing(msgspec.Struct, gc=False):
    """Where one expert stands: the logarithm of its weight, its running mean losses while voting, its calibrator."""

    log_weight: float
    loss: float = 0.0
    base_loss: float = 0.0
    scored: int = 0
    calibrator: Calibrator = msgspec.field(default_factory=Calibrator)


class Weights(msgspec.Struct):
    """All experts known for one (instrument, horizon). ``charged`` is by ballot, the newest last, who has been."""

    standings: dict[str, Standing] = {}
    charged: dict[str, list[str]] = {}


def join(config: WeightsConfig, weights: Weights, expert: str) -> None:
    """Let an expert in: at 1/N of the N there are with it, or, where somebody's skill is known, at ``entry`` of that.

    At the bound the lightest one leaves.
    """
    standings = weights.standings
    if expert in standings:
        return
    if len(standings) >= config.experts_max:
        lightest = min(standings, key=lambda name: (standings[name].log_weight, name))
        del standings[lightest]
    standings[expert] = Standing(log_weight=_log_sum(weights) + _log_entry(config, weights) if standings else 0.0)


def learn(config: WeightsConfig, weights: Weights, score: ExpertScore, delay: int = 0) -> bool:
    """Take one score; return whether it counted, which a second one of the same vote, or a stranger's, does not.

    ``delay`` is D, in ballots: of how many the losses are unknown whenever one is tallied.
    """
    charged = weights.charged.get(score.ballot_id)
    if charged is None:
        _share_out(config, weights)
        charged = weights.charged[score.ballot_id] = []
        if len(weights.charged) > config.ballots_max:
            del weights.charged[next(iter(weights.charged))]
    standing = weights.standings.get(score.expert)
    if standing is None or score.expert in charged:
        return False
    charged.append(score.expert)
    if score.abstained:
        return True
    loss = score.loss if score.calibrated_loss is None else score.calibrated_loss
    standing.log_weight -= config.eta / math.sqrt(delay + 1) * (loss - score.pool_loss)
    standing.scored = min(standing.scored + 1, config.skill_memory)
    standing.loss += (loss - standing.loss) / standing.scored
    standing.base_loss += (score.base_loss - standing.base_loss) / standing.scored
    return True


def weights_of(config: WeightsConfig, weights: Weights, experts: Sequence[str]) -> list[float]:
    """Return what each of these weighs among them, after all known ones have shared: a distribution."""
    whole = _log_sum(weights)
    logs = [_shared(config, weights, weights.standings[name].log_weight - whole) for name in experts]
    top = max(logs)
    raised = [math.exp(value - top) for value in logs]
    total = sum(raised)
    return [value / total for value in raised]


def skill(config: WeightsConfig, standing: Standing | None) -> float | None:
    """Return the share of the base rate's loss that the expert saves (1 perfect, 0 none, below 0 worse), if known."""
    if standing is None or standing.scored < config.skill_min or standing.base_loss <= 0:
        return None
    return 1 - standing.loss / standing.base_loss


def _log_entry(config: WeightsConfig, weights: Weights) -> float:
    """Return the logarithm of what one more begins with, as a multiple of what all the others have together."""
    known = len(weights.standings)
    if all(standing.scored < config.skill_min for standing in weights.standings.values()):
        return -math.log(known)
    part = config.entry / (known + 1)
    return math.log(part / (1 - part))


def _share_out(config: WeightsConfig, weights: Weights) -> None:
    """Make what the last ballot's scores left the weights of the next one, before that one's scores change them."""
    whole = _log_sum(weights) if weights.standings else 0.0
    for standing in weights.standings.values():
        standing.log_weight = _shared(config, weights, standing.log_weight - whole)


def _shared(config: WeightsConfig, weights: Weights, log_weight: float) -> float:
    """Return the logarithm of a weight after sharing, given that of its part of the whole."""
    if not config.share:
        return log_weight
    return math.log((1 - config.share) * math.exp(log_weight) + config.share / len(weights.standings))


def _log_sum(weights: Weights) -> float:
    logs = [standing.log_weight for standing in weights.standings.values()]
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs))
