"""Games between the committee's weights and sequences of losses, and what theory promises for each.

The weights are those of the voting stage, by its own functions; only who sets the losses differs. Losses are told
``delay`` ballots late. A game's regret is what the weighted mean of the experts lost more than the best of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agents.feedback.regret import Losses, best_fixed
from agents.voting.weights import Weights, WeightsConfig, join, learn, weights_of
from schemas.feedback import ExpertScore

Row = Sequence[float]
Adversary = Callable[[int, "Table"], Row]
"""Gives a ballot's losses, knowing its number and all that has happened."""

_SWING_END: Final = 1.8


@dataclass
class Table:
    """A game so far: whole loss of each expert, and the weights that the next ballot is tallied with."""

    totals: np.ndarray
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Played:
    """A game's end: the losses, a row a ballot, and what the weighted mean lost at each."""

    losses: Losses
    paid: list[float]

    @property
    def regret(self) -> float:
        """Against the best expert."""
        return sum(self.paid) - best_fixed(self.losses).loss


def plain_rate(experts: int, ballots: int, delay: int) -> float:
    """Return the step of the plain Hedge for a game of this size, before the division by sqrt(delay + 1)."""
    del delay
    return math.sqrt(8 * math.log(experts) / ballots)


def stated_bound(experts: int, ballots: int, delay: int) -> float:
    """Return sqrt((D + 1) T ln N / 2), which D + 1 Hedges that take turns keep (Weinberger and Ordentlich 2002)."""
    return math.sqrt((delay + 1) * ballots * math.log(experts) / 2)


def proven_bound(experts: int, ballots: int, delay: int, eta: float) -> float:
    """Return what one Hedge keeps whose losses are late, ``eta`` being the step it really takes.

    Weights that lack the last D losses differ from those that have them by at most eta / 4 a loss and ballot, the
    covariance of two quantities in [0, 1] being at most 1/4: ln N / eta + eta T / 8 + eta T D / 4.
    """
    return math.log(experts) / eta + eta * ballots * (1 + 2 * delay) / 8


def shifting_bound(experts: int, ballots: int, changes: int, config: WeightsConfig) -> float:
    """Return Herbster and Warmuth's bound on the regret against any sequence with so many changes, without delay."""
    stays = ballots - 1 - changes
    prior = math.log(experts) + changes * math.log(experts / config.share) - stays * math.log(1 - config.share)
    return prior / config.eta + config.eta * ballots / 8


def tuned_share(experts: int, ballots: int, changes: int) -> WeightsConfig:
    """Return fixed share as it would be set by who knew how often the best expert changes."""
    share = changes / (ballots - 1)
    unit = WeightsConfig(eta=1.0, share=share)
    prior = shifting_bound(experts, ballots, changes, unit) - ballots / 8
    return WeightsConfig(eta=math.sqrt(8 * prior / ballots), share=share)


def play(config: WeightsConfig, adversary: Adversary, size: tuple[int, int], delay: int = 0) -> Played:
    """Play so many (experts, ballots)."""
    experts, ballots = size
    weights, names = _new(config, experts), [str(number) for number in range(experts)]
    table = Table(np.zeros(experts), [1 / experts] * experts)
    rows, paid = np.empty((ballots, experts)), list[float]()
    for ballot in range(ballots):
        table.weights = weights_of(config, weights, names)
        rows[ballot] = adversary(ballot, table)
        paid.append(float(np.dot(table.weights, rows[ballot])))
        table.totals += rows[ballot]
        if ballot >= delay:
            _tell(config, weights, ballot - delay, (rows[ballot - delay], paid[ballot - delay]), delay)
    return Played(rows, paid)


def play_in_turns(config: WeightsConfig, adversary: Adversary, size: tuple[int, int], delay: int) -> Played:
    """Play with D + 1 sets of weights that take turns, so that each knows all of its own losses in time."""
    experts, ballots = size
    sets, names = [_new(config, experts) for _ in range(delay + 1)], [str(number) for number in range(experts)]
    table = Table(np.zeros(experts), [1 / experts] * experts)
    rows, paid = np.empty((ballots, experts)), list[float]()
    for ballot in range(ballots):
        weights = sets[ballot % (delay + 1)]
        table.weights = weights_of(config, weights, names)
        rows[ballot] = adversary(ballot, table)
        paid.append(float(np.dot(table.weights, rows[ballot])))
        table.totals += rows[ballot]
        _tell(config, weights, ballot, (rows[ballot], paid[ballot]), 0)
    return Played(rows, paid)


def _new(config: WeightsConfig, experts: int) -> Weights:
    weights = Weights()
    for number in range(experts):
        join(config, weights, str(number))
    return weights


def _tell(config: WeightsConfig, weights: Weights, ballot: int, told: tuple[np.ndarray, float], delay: int) -> None:
    losses, paid = told
    for expert, loss in enumerate(losses):
        learn(config, weights, score_of(ballot, str(expert), float(loss), paid), delay)


def score_of(ballot: int, expert: str, loss: float | None, pool_loss: float) -> ExpertScore:
    """Return a score with nothing in it but losses; None is an abstention."""
    return ExpertScore(
        key="GAME",
        event_time_ns=ballot,
        available_at_ns=ballot,
        ballot_id=str(ballot),
        expert=expert,
        horizon_ns=1,
        outcome=0,
        move=0,
        loss=pool_loss if loss is None else loss,
        base_loss=pool_loss,
        pool_loss=pool_loss,
        abstained=loss is None,
    )


def coins(seed: int = 7) -> Adversary:
    """Every loss is 0 or 1 by the toss of a coin."""
    generator = np.random.default_rng(seed)
    return lambda _, table: generator.integers(0, 2, len(table.totals)).astype(float).tolist()


def against_the_leader(_: int, table: Table) -> Row:
    """Only who has lost least so far loses: whoever follows the leader loses every ballot."""
    return [float(place == int(table.totals.argmin())) for place in range(len(table.totals))]


def against_the_heaviest(_: int, table: Table) -> Row:
    """Only the heaviest loses: the worst that can be done to the mean in one ballot."""
    heaviest = max(range(len(table.weights)), key=table.weights.__getitem__)
    return [float(place == heaviest) for place in range(len(table.weights))]


def blocks(delay: int, seed: int = 7) -> Adversary:
    """The same losses for D + 1 ballots, then other ones: what is learned is always of the block before."""
    generator = np.random.default_rng(seed)
    kept: list[Row] = []

    def adversary(ballot: int, table: Table) -> Row:
        if ballot % (delay + 1) == 0:
            kept[:] = [generator.integers(0, 2, len(table.totals)).astype(float).tolist()]
        return kept[0]

    return adversary


def swing(ballots: int, delay: int) -> Adversary:
    """Two camps lose by turns, 4 D + 3 ballots each, about as long as late weights take to go the wrong way.

    Found by search: it resonates with the delay. Near the end one camp goes on losing, which makes the other the best.
    """
    run = 4 * delay + 3
    end = ballots - round(_SWING_END * math.sqrt(ballots * (delay + 1)))

    def adversary(ballot: int, table: Table) -> Row:
        loser = (ballot // run) % 2 if ballot < end else 1
        return [float(place % 2 == loser) for place in range(len(table.totals))]

    return adversary


def shifting(ballots: int, changes: int, seed: int = 7) -> Adversary:
    """Another expert is good after each of so many changes: it loses one ballot in five, the others every second."""
    generator = np.random.default_rng(seed)

    def adversary(ballot: int, table: Table) -> Row:
        good = (ballot * (changes + 1) // ballots) % len(table.totals)
        chances = [0.2 if place == good else 0.5 for place in range(len(table.totals))]
        return [float(generator.random() < chance) for chance in chances]

    return adversary


def recorded(losses: Losses) -> Adversary:
    """Losses as they were."""
    return lambda ballot, _: losses[ballot].tolist()
