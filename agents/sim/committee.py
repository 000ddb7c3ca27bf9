"""Another committee than the one on the tape: some of its experts are away, or others sit with it.

A policy that is to take any committee must see many. Whoever is away has said nothing on the ballot, and whoever sits
with the others counts as one of them, so the ballot is pooled anew by voting's own functions: the pooled probabilities
are then what a platform with just these experts would have seen at these weights.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from agents.voting.pool import PoolConfig, Probabilities, bounded_weights, disagreement, pooled
from schemas.opinions import TallyEntry, VoteTally


class VoteSource(Protocol):
    """An expert that is not on the tape."""

    def entry(self, tape: Any, index: int) -> TallyEntry | None:
        """Return what it says at a step of a ``Tape``, None for nothing.

        ``weight`` is relative to the weights on the tape, which sum to 1 or less.
        """


def directional(tally: VoteTally) -> list[str]:
    """Return the names of those that gave a direction."""
    return [entry.expert for entry in tally.entries if entry.p_up is not None]


def reseated(tally: VoteTally, away: frozenset[str], guests: Sequence[TallyEntry], pool: PoolConfig) -> VoteTally:
    """Return a tally without those who are away and with the guests, pooled anew; the same one if nothing changes.

    The bounds on weights hold among those who are there, none of whom counts as fed by texts (a tally does not say
    who is). Context is no vote: whoever is away still publishes it, as a regime does not end with an opinion.
    """
    if not guests and not any(entry.expert in away for entry in tally.entries):
        return tally
    entries = [*(entry for entry in tally.entries if entry.expert not in away), *guests]
    votes = [vote for entry in entries if (vote := _meant(entry)) is not None]
    voters = [place for place, entry in enumerate(entries) if entry.p_up is not None]
    if not voters:
        none: dict[str, None] = dict.fromkeys(("p_down", "p_flat", "p_up", "disagreement"))
        return replace(tally, entries=tuple(entries), **none)
    weights = bounded_weights(pool, [entries[place].weight for place in voters], [False] * len(voters))
    for place, weight in zip(voters, weights, strict=True):
        entries[place] = replace(entries[place], weight=weight)
    down, flat, up = pooled(pool, votes, weights)
    apart = disagreement(votes, weights)
    return replace(tally, entries=tuple(entries), p_down=down, p_flat=flat, p_up=up, disagreement=apart)


def _meant(entry: TallyEntry) -> Probabilities | None:
    if entry.p_down is None or entry.p_flat is None or entry.p_up is None:
        return None
    if entry.calibrated_down is None or entry.calibrated_flat is None or entry.calibrated_up is None:
        return entry.p_down, entry.p_flat, entry.p_up
    return entry.calibrated_down, entry.calibrated_flat, entry.calibrated_up
