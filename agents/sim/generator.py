"""Randomness as a function of a seed: splitmix64, small enough to checkpoint as one integer.

Algorithm and constants: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014). Only
arithmetic that IEEE 754 defines to the last bit is used, so every machine draws the same numbers.
"""

import hashlib
from typing import Final

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_UNIT: Final = 1.0 / (1 << 53)


class Generator:
    """A stream of pseudo-random numbers; ``state`` is all there is to keep of it."""

    __slots__ = ("state",)

    def __init__(self, state: int) -> None:
        self.state = state & _MASK

    def word(self) -> int:
        """Return 64 random bits."""
        self.state = state = (self.state + _GAMMA) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        return (self.word() >> 11) * _UNIT

    def below(self, bound: int) -> int:
        """Return an integer in [0, bound); the bias is below bound / 2**64."""
        return (self.word() * bound) >> 64

    def normal(self) -> float:
        """Return a nearly normal number of mean 0 and variance 1: the sum of eight 16-bit uniforms.

        Its tails end at 4.9 deviations. No logarithm is taken, since those differ between machines.
        """
        first, second = self.word(), self.word()
        total = (first & 0xFFFF) + (first >> 16 & 0xFFFF) + (first >> 32 & 0xFFFF) + (first >> 48)
        total += (second & 0xFFFF) + (second >> 16 & 0xFFFF) + (second >> 32 & 0xFFFF) + (second >> 48)
        return (total - 262_140) / 53_509.83

    def count(self, mean: float) -> int:
        """Return a whole number in 0..16 with the given mean: how many of sixteen coins fall on heads."""
        threshold = int(mean * 4_096)
        found = 0
        for _ in range(4):
            bits = self.word()
            found += (bits & 0xFFFF) < threshold
            found += (bits >> 16 & 0xFFFF) < threshold
            found += (bits >> 32 & 0xFFFF) < threshold
            found += (bits >> 48) < threshold
        return found


def seeded(*parts: object) -> Generator:
    """Return the generator that belongs to these parts: another part, another stream."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return Generator(int.from_bytes(digest, "big"))
