"""How an exchange's clock stands to ours, estimated as it runs: one of the captures is 1.27 s off.

The estimate is a running median of (event time - receive time): exact over the first samples, then moved a small
step towards each new one, so a single wild time stamp cannot move it.
"""

from bisect import insort
from typing import Final

import msgspec

from schemas.values import NS_PER_MS

EXACT_SAMPLES: Final = 33
_STEP_NS: Final = NS_PER_MS // 2


class FeedClock(msgspec.Struct, kw_only=True):
    """One instrument's exchange clock: ``lead_ns`` is how far it runs ahead of ours, ``newest_ns`` its newest time."""

    lead_ns: int = 0
    newest_ns: int = 0
    samples: list[int] = []
    reported_lead_ns: int = 0

    def learn(self, lead_ns: int) -> None:
        """Take one difference between a venue's time stamp and ours."""
        samples = self.samples
        if len(samples) < EXACT_SAMPLES:
            insort(samples, lead_ns)
            self.lead_ns = samples[(len(samples) - 1) // 2]
        elif lead_ns > self.lead_ns + _STEP_NS:
            self.lead_ns += _STEP_NS
        elif lead_ns < self.lead_ns - _STEP_NS:
            self.lead_ns -= _STEP_NS

    def settled(self) -> bool:
        """Return whether enough has been seen to speak of a skew."""
        return len(self.samples) >= EXACT_SAMPLES
