"""Two experiments that say whether learning can be believed: one that it must pass, and one that it must fail.

Both use the shipped environment, encoder, network, reward and costs; a voter takes part as one more expert. In the
positive control the voter sees the return to the next step, in a market where a trade costs at most a tenth of what a
step moves: a learner that cannot live off that cannot learn. At what trading really costs, and with nobody else who
knows anything, the same knowledge must not earn, or costs are not counted. In the negative control there is nothing to
know: the tape's own returns are demeaned and drawn in another order, so that no expert's vote, no context and no result
of one's own foretells anything, and the leak tells yet another order. Whoever earns there has looked ahead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agents.decider.set_policy import SetPolicy
from agents.sim.tape import Tape
from agents.statistics.sharpe import sharpe_ratio
from streams.training.clairvoyant import foresee
from streams.training.learner import LearningConfig, train
from streams.training.markets import Market, environment_of, tapes_of
from streams.training.playing import Played, play, sharpe_lower_bound
from streams.training.shuffling import shuffled
from streams.training.voters import Voter, leak, mids_of, next_returns, permuted_leak

Floats = NDArray[np.float64]
CHEAP: Final = 0.1
"""At most so many deviations of a step's return a trade costs one way in the controls."""
REAL: Final = 3.5
"""What it costs on Binance's BTC, in deviations of a second's return."""
SHARE_NEEDED: Final = 0.7
INSTRUMENT: Final = "SIM:BTCUSD"


@dataclass(frozen=True, slots=True)
class ControlSize:
    """How large a control is: markets that are learnt from and judged on, and the learning."""

    train: tuple[Market, ...]
    test: tuple[Market, ...]
    learning: LearningConfig


FULL: Final = ControlSize(
    train=tuple(Market("mixed", seed, 600.0) for seed in (301, 302)),
    test=tuple(Market("mixed", seed, 600.0) for seed in (311, 312)),
    learning=LearningConfig(steps=8_000, gamma=0.3, warm_up=1_000, memory=8_000, target_every=250, train_every=2),
)
SHORT: Final = ControlSize(
    train=(Market("mixed", 301, 300.0),),
    test=(Market("mixed", 311, 300.0),),
    learning=LearningConfig(
        steps=4_000,
        gamma=0.3,
        warm_up=500,
        moment_steps=500,
        target_every=250,
        memory=4_000,
        train_every=2,
        quantiles=8,
    ),
)


@dataclass(frozen=True, slots=True)
class Positive:
    """What knowing the next return earned, net, beside who knows all returns: shares of the budget.

    ``lower_bound`` is that of the net Sharpe ratio per step, at 95 %.
    """

    seed: int
    cost_in_sigmas: float
    net: float
    clairvoyant: float
    turnover: float
    lower_bound: float

    @property
    def share(self) -> float:
        """The policy's profit over the clairvoyant's, who earns something wherever there is something to earn."""
        return self.net / self.clairvoyant if self.clairvoyant > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Negative:
    """What was earned where there is nothing to know: net Sharpe ratio per step, and its lower 95 % bound."""

    seed: int
    net: float
    sharpe: float
    lower_bound: float
    turnover: float


def positive(size: ControlSize, seed: int, fee: float = 0.0, settings_file: Path | None = None) -> Positive:
    """Learn with the leak where one way costs the displayed half-spread and ``fee``; judge on unseen tapes."""
    training, unseen = _tapes(size.train, fee, settings_file), _tapes(size.test, fee, settings_file)
    played = _learnt(size, seed, training, unseen, leak)
    return _beside_the_clairvoyant(seed, fee, unseen, played)


def at_real_cost(size: ControlSize, seed: int, settings_file: Path | None = None) -> Positive:
    """Learn with the leak where one way costs ``REAL`` deviations, on shuffled tapes: only the leak knows anything.

    On the tapes as they are the experts know of trends, which are worth more than this costs.
    """
    fee = _real_fee(size, settings_file)
    training = [shuffled(tape, seed) for tape in _tapes(size.train, fee, settings_file)]
    unseen = [shuffled(tape, seed + 1) for tape in _tapes(size.test, fee, settings_file)]
    return _beside_the_clairvoyant(seed, fee, unseen, _learnt(size, seed, training, unseen, leak))


def _beside_the_clairvoyant(seed: int, fee: float, unseen: Sequence[Tape], played: Sequence[Played]) -> Positive:
    clairvoyant = sum(foresee(*_path(tape, fee)).net for tape in unseen)
    net, turnover = (sum(getattr(one, name) for one in played) for name in ("net", "turnover"))
    bound = sharpe_lower_bound(np.concatenate([one.net_returns for one in played]), seed=seed)
    return Positive(seed, cost_in_sigmas(unseen, fee), net, clairvoyant, turnover, bound)


def negative(size: ControlSize, seed: int, settings_file: Path | None = None) -> Negative:
    """Learn with a leak of other moments on tapes whose moves are shuffled; judge on further ones."""
    training = [shuffled(tape, seed) for tape in _tapes(size.train, 0.0, settings_file)]
    unseen = [shuffled(tape, seed + 1) for tape in _tapes(size.test, 0.0, settings_file)]
    played = _learnt(size, seed, training, unseen, lambda: permuted_leak(seed + 2))
    returns = np.concatenate([one.net_returns for one in played])
    turnover = sum(one.turnover for one in played)
    bound = sharpe_lower_bound(returns, seed=seed)
    return Negative(seed, float(returns.sum()), sharpe_ratio(returns.tolist()), bound, turnover)


def _real_fee(size: ControlSize, settings_file: Path | None) -> float:
    """Return the fee with which one way costs ``REAL`` deviations of a step's return on the tapes judged on."""
    unseen = _tapes(size.test, 0.0, settings_file)
    return (REAL - cost_in_sigmas(unseen, 0.0)) * _deviation(unseen)


def cost_in_sigmas(tapes: Sequence[Tape], fee: float) -> float:
    """Return the mean one-way cost of tapes in deviations of a step's return."""
    costs = np.concatenate([_path(tape, fee)[1] for tape in tapes])
    return float(costs.mean()) / _deviation(tapes)


def _deviation(tapes: Sequence[Tape]) -> float:
    return float(np.concatenate([_path(tape, 0.0)[0] for tape in tapes]).std())


def _tapes(markets: Sequence[Market], fee: float, settings_file: Path | None) -> list[Tape]:
    return [tape for market in markets for tape in tapes_of(replace(market, fee=fee), settings_file, only=INSTRUMENT)]


def _learnt(
    size: ControlSize,
    seed: int,
    training: Sequence[Tape],
    unseen: Sequence[Tape],
    voter: Callable[[], Voter],
) -> list[Played]:
    """Learn on some tapes with the voter as one more expert, and return what the policy does on the others."""
    environment = environment_of(training, seed, voters=(voter(),))
    trained = train(environment, replace(size.learning, seed=seed))
    policy = SetPolicy("control", trained.weights)
    found = []
    for tape in unseen:
        judge = environment_of([tape], seed, voters=(voter(),), episode_steps=None)
        found.append(play(judge, policy, {"tape": 0, "start": 0}))
    return found


def _path(tape: Tape, fee: float) -> tuple[Floats, Floats]:
    """Return a tape's returns [T - 1] and what one way costs at the beginning of each: half the spread, and the fee.

    Where there is no market a return is 0 and nothing can be traded.
    """
    mids = mids_of(tape)
    spreads = np.array([np.nan if tally.spread is None else tally.spread for tally in tape.tallies])
    costs = spreads / mids / 2 + fee
    returns = next_returns(tape)[:-1]
    known = np.isfinite(returns) & np.isfinite(costs[:-1])
    return np.where(known, returns, 0.0), np.where(known, costs[:-1], np.nanmax(costs))
