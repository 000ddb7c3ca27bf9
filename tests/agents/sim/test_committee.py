"""Other committees than the one on a tape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sim.committee import directional, reseated
from agents.voting.pool import PoolConfig, bounded_weights, pooled
from schemas.opinions import AbstainReason, TallyEntry, VoteTally

POOL = PoolConfig()
VOTES = {"calm": (0.2, 0.6, 0.2), "bull": (0.1, 0.2, 0.7), "bear": (0.6, 0.3, 0.1)}


def entry(name: str, said: tuple[float, float, float] | None, weight: float) -> TallyEntry:
    down, flat, up = said or (None, None, None)
    return TallyEntry(
        expert=name,
        weight=weight,
        skill=None,
        p_down=down,
        p_flat=flat,
        p_up=up,
        abstained=None if said else AbstainReason.CONTEXT_ONLY,
        evidence={},
        calibrated_down=down,
        calibrated_flat=flat,
        calibrated_up=up,
    )


def tally(weights: dict[str, float]) -> VoteTally:
    entries = [entry("regime", None, 0.0), *(entry(name, VOTES[name], weight) for name, weight in weights.items())]
    counting = list(weights.values())
    down, flat, up = pooled(POOL, [VOTES[name] for name in weights], counting)
    return VoteTally(
        key="SIM:BTCUSD",
        event_time_ns=1,
        available_at_ns=1,
        ballot_id="b",
        snapshot_id="s",
        horizon_ns=1,
        flat_band=1,
        grid_time_ns=1,
        mid=1,
        p_down=down,
        p_flat=flat,
        p_up=up,
        disagreement=0.1,
        volatility=None,
        spread=None,
        closed_by="ALL",
        late=(),
        entries=tuple(entries),
        context={"regime.low": 1.0},
    )


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
    changed = reseated(WHOLE, frozenset(), (entry("guest", sure, 0.4),), POOL)
    assert directional(changed)[-1] == "guest"
    assert changed.p_up > WHOLE.p_up
    assert changed.disagreement is not None


def test_with_nobody_left_there_is_no_pool() -> None:
    changed = reseated(WHOLE, frozenset(VOTES), (), POOL)
    assert (changed.p_down, changed.p_flat, changed.p_up, changed.disagreement) == (None, None, None, None)
    assert [item.expert for item in changed.entries] == ["regime"]
