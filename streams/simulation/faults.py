"""What goes wrong in a run, all of it drawn from the seed, and how often it did."""

import random
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """How likely each fault is at each opportunity; the pauses between strokes against processes are in seconds."""

    commit_lost: float = 0.01
    commit_answer_lost: float = 0.01
    commit_late: float = 0.005
    claim_refused: float = 0.05
    slow_commit: float = 0.01
    send_refused: float = 0.0005
    slow_send: float = 0.02
    redelivered: float = 0.02
    slow_fetch: float = 0.02
    request_lost: float = 0.02
    response_lost: float = 0.05
    query_unanswered: float = 0.2
    query_late: float = 0.2
    report_late: float = 0.05
    report_doubled: float = 0.05
    report_stray: float = 0.02
    feed_broken: float = 0.01
    stroke_every_s: float = 0.35


CALM = Odds(**dict.fromkeys(Odds.__dataclass_fields__, 0.0))


@dataclass(slots=True)
class Dice:
    """All randomness of a run. ``odds`` become ``CALM`` when the faults end; ``injected`` counts what was done."""

    random: random.Random
    odds: Odds = field(default_factory=Odds)
    injected: Counter[str] = field(default_factory=Counter)

    def befalls(self, kind: str) -> bool:
        """Roll for the fault ``kind`` (a field of Odds) and count it when it befalls."""
        odds: float = getattr(self.odds, kind)
        if odds and self.random.random() < odds:
            self.injected[kind] += 1
            return True
        return False

    def delay_s(self, least_s: float, most_s: float) -> float:
        """Return a time between the two."""
        return least_s + (most_s - least_s) * self.random.random()
