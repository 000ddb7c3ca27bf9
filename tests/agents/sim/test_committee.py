"""Other committees than the one on a tape."""

import money_events
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.sim.committee import directional, reseated
from agents.voting.pool import PoolConfig, bounded_weights, pooled
from schemas.opinions import AbstainReason, TallyEntry, VoteTally
from streams.training.voters import entry_of

POOL = PoolConfig()
VOTES = {"calm": (0.2, 0.6, 0.2), "bull": (0.1, 0.2, 0.7), "bear": (0.6, 0.3, 0.1)}


def silent(name: str) -> TallyEntry:
    return replace(money_events.entry(name, None, None), weight=0.0, abstained=AbstainReason.CONTEXT_ONLY)


def tally(weights: dict[str, float]) -> VoteTally:
    entries = (silent("regime"), *(entry_of(name, VOTES[name], weight) for name, weight in weights.items()))
    down, flat, up = pooled(POOL, [VOTES[name] for name in weights], list(weights.values()))
    whole: VoteTally = money_events.tally(
        1, up=up, down=down, p_flat=flat, disagreement=0.1, entries=entries, context={"regime.low": 1.0}
    )
    return whole


WHOLE = tally(dict(zip(VOTES, bounded_weights(POOL, [0.5, 0.3, 0.2], [False] * 3), strict=True)))


def test_with_nobody_away_the_tally_is_the_same() -> None:
    assert reseated(WHOLE, frozenset(), (), POOL) is WHOLE
    assert reseated(WHOLE, frozenset({"nobody"}), (), POOL) is WHOLE
    assert directional(WHOLE) == ["calm", "bull", "bear"]


def test_without_one_who_only_gives_context_the_pool_is_what_it_was_and_the_context_stays() -> None:
    changed = reseated(WHOLE, frozenset({"regime"}), (), POOL)
    assert len(changed.entries) == 3
    assert (changed.p_down, changed.p_up) == (pytest.approx(WHOLE.p_down), pytest.approx(WHOLE.p_up))
    assert changed.context == WHOLE.context


@given(st.sets(st.sampled_from(sorted(VOTES)), max_size=2))
def test_who_is_away_says_and_weighs_nothing(away: set[str]) -> None:
    changed = reseated(WHOLE, frozenset(away), (), POOL)
    assert set(directional(changed)) == set(VOTES) - away
    weights = {item.expert: item.weight for item in changed.entries if item.p_up is not None}
    assert sum(weights.values()) <= 1 + 1e-9
    assert max(weights.values()) <= POOL.weight_cap + 1e-9
    votes = [VOTES[name] for name in weights]
    assert (changed.p_down, changed.p_flat, changed.p_up) == pytest.approx(pooled(POOL, votes, list(weights.values())))
    if away == {"bear"}:
        assert changed.p_up > WHOLE.p_up


def test_a_guest_is_pooled_with_the_others() -> None:
    sure = (0.01, 0.01, 0.98)
    changed = reseated(WHOLE, frozenset(), (entry_of("guest", sure, 0.4),), POOL)
    assert directional(changed)[-1] == "guest"
    assert changed.p_up > WHOLE.p_up
    assert changed.disagreement is not None


def test_with_nobody_left_there_is_no_pool() -> None:
    changed = reseated(WHOLE, frozenset(VOTES), (), POOL)
    assert (changed.p_down, changed.p_flat, changed.p_up, changed.disagreement) == (None, None, None, None)
    assert [item.expert for item in changed.entries] == ["regime"]
