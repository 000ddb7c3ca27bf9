"""How the simulated market's fair value moves: four regimes whose signal and noise are stated, not tuned by eye.

Per second, in basis points of the price (1 bp = 1e-4); the noise is per square root of a second:

| regime    | drift                        | noise | spread | depth | mean length | signal : noise at 10 s           |
|-----------|------------------------------|-------|--------|-------|-------------|----------------------------------|
| TRENDING  | +0.8 or -0.8               | 1.2   | 1 x    | 1 x   | 40 s        | 8.0 : 3.8 bp                     |
| REVERTING | -0.25 x distance to anchor   | 2.5   | 1 x    | 1 x   | 40 s        | sd 3.5 bp, back by half in 2.8 s |
| QUIET     | 0                            | 0.3   | 1 x    | 1.5 x | 30 s        | 0: the negative control          |
| CRASH     | -15                          | 6.0   | 4 x    | 1/4 x | 4 s         | 60 bp down in 4 s                |

Makers follow the fair value with a lag, and lean with their sizes towards it; informed traders take when it leaves
the spread. That is why imbalance and order flow foretell the next mid move at all. How well, as correlations over
400 s of SIM:BTCUSD (held by ``tests/agents/sim/test_market.py``; *move* is the relative change of the mid):

| regime    | imbalance, next 1 s move | flow, move of the same 1 s | 10 s move, next 10 s move | sd of 10 s moves |
|-----------|--------------------------|----------------------------|---------------------------|------------------|
| TRENDING  | 0.33 to 0.41             | 0.91                       | 0.47 to 0.66              | 8 bp             |
| REVERTING | 0.23 to 0.24             | 0.88                       | -0.50 to -0.39            | 4.5 bp           |
| QUIET     | 0.10 to 0.24             | 0.80                       | -0.17 to -0.03            | 0.9 bp           |
| CRASH     | 0.09 to 0.19             | 0.41                       | none: the mean is -150 bp | 18 bp            |
"""

import enum
import math
from typing import Final, NamedTuple

import msgspec

from agents.sim.generator import Generator

BASIS_POINT: Final = 1e-4


class Regime(enum.StrEnum):
    """What kind of market it is."""

    TRENDING = "TRENDING"
    REVERTING = "REVERTING"
    QUIET = "QUIET"
    CRASH = "CRASH"


class RegimeTerms(NamedTuple):
    """The figures of one regime: see the module's table."""

    drift_bp: float
    pull: float
    noise_bp: float
    spread: float
    depth: float
    length_s: float


REGIMES: Final[dict[Regime, RegimeTerms]] = {
    Regime.TRENDING: RegimeTerms(0.8, 0.0, 1.2, 1.0, 1.0, 40.0),
    Regime.REVERTING: RegimeTerms(0.0, 0.25, 2.5, 1.0, 1.0, 40.0),
    Regime.QUIET: RegimeTerms(0.0, 0.0, 0.3, 1.0, 1.5, 30.0),
    Regime.CRASH: RegimeTerms(-15.0, 0.0, 6.0, 4.0, 0.25, 4.0),
}

_NEXT: Final = (Regime.TRENDING,) * 9 + (Regime.REVERTING,) * 6 + (Regime.QUIET,) * 4 + (Regime.CRASH,)


class FairValue(msgspec.Struct):
    """The value that informed traders know: ``value`` and ``anchor`` in price units (floats of 1e-8 units)."""

    value: float
    anchor: float
    regime: Regime = Regime.TRENDING
    direction: int = 1
    steps_left: int = 0

    @property
    def terms(self) -> RegimeTerms:
        """Return the figures of the regime in force."""
        return REGIMES[self.regime]

    def advance(self, draws: Generator, step_s: float, fixed: Regime | None) -> None:
        """Move by one step; ``fixed`` keeps to one regime (its direction is still drawn anew)."""
        if self.steps_left <= 0:
            self._enter(fixed or _NEXT[draws.below(len(_NEXT))], draws, step_s)
        self.steps_left -= 1
        terms = self.terms
        scale = self.value * BASIS_POINT
        self.value += (
            self.direction * terms.drift_bp * scale * step_s
            + terms.pull * (self.anchor - self.value) * step_s
            + terms.noise_bp * scale * math.sqrt(step_s) * draws.normal()
        )

    def _enter(self, regime: Regime, draws: Generator, step_s: float) -> None:
        length = REGIMES[regime].length_s * (0.5 + draws.uniform())
        self.regime = regime
        self.steps_left = max(1, int(length / step_s))
        self.direction = 1 if regime is Regime.CRASH or draws.below(2) else -1
        self.anchor = self.value
