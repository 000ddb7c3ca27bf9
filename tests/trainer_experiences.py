"""Experiences for the trainer's tests: numbered, each unlike the others, as feedback writes them."""

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from agents.decider.observation import vote_keys
from agents.decider.policy import TARGETS
from schemas.event import derive_id
from schemas.feedback import Experience
from schemas.values import NS_PER_S
from streams.training.job import Teaching

BUDGET = Decimal(4000)
BUDGETS = {"committee": BUDGET, "pulse": BUDGET}
STEP_NS = NS_PER_S
_EXPERTS = ("momentum", "order_flow", "mean_reversion")


def teaching(identity: str, store: str = "", **changes: Any) -> Teaching:
    """Return what a training is told: one gradient step on anything, with the key that everybody has."""
    usual = Teaching(
        store=store,
        keys_file=None,
        allow_development_key=True,
        key_file=None,
        champion="shipped",
        identity=identity,
        fewest=1,
        gradient_steps=1,
        learning_rate=1e-4,
        seed=1,
        nice=0,
    )
    return msgspec.structs.replace(usual, **changes)


def observation(draws: np.random.Generator, target: float) -> dict[str, float | None]:
    """Return what a policy might see: three experts, of which now and then one says nothing."""
    seen: dict[str, float | None] = {
        "p_down": 0.3,
        "p_flat": 0.3,
        "p_up": 0.4,
        "disagreement": float(draws.random()),
        "volatility": 1e-4,
        "spread_relative": 1e-5,
        "horizon_s": 10.0,
        "target": target,
        "exposure": target,
        "alert": 0.0,
        "mark_age_s": 0.1,
        "cost.excess": 0.0,
        "cost.fee": 2e-4,
        "allowed.low": -1.0,
        "allowed.high": 1.0,
        "moment.mean": 0.0,
        "moment.square": 1e-8,
    }
    for expert in _EXPERTS:
        up = float(draws.uniform(0.1, 0.5)) if draws.random() > 0.2 else None
        down = None if up is None else 0.6 - up
        seen |= dict(zip(vote_keys(expert), (down, up, down, up, 1 / 3, 0.1, 0.02), strict=True))
    return seen


def experience(number: int, *, generation: int = 1, strategy: str = "committee", seed: int = 0) -> Experience:
    """Return experience ``number``, counted from 1; its time is its number in seconds, and so is its place in the log.

    Who follows the first vote that is there earns, who goes against it loses.
    """
    draws = np.random.default_rng((seed, number))
    target = TARGETS[int(draws.integers(len(TARGETS)))]
    seen, following = observation(draws, target), observation(draws, target)
    lean = next((seen[vote_keys(name)[1]] for name in _EXPERTS if seen[vote_keys(name)[1]] is not None), 0.3)
    assert lean is not None
    pnl = Decimal(str(round((lean - 0.3) * target * 10, 6)))
    return Experience(
        key="main",
        event_time_ns=number * STEP_NS,
        available_at_ns=number * STEP_NS,
        event_id=derive_id(f"{seed}", "feedback", number),
        source="feedback/0",
        generation=generation,
        seq=number,
        decision_id=f"d{number}",
        next_decision_id=f"d{number + 1}",
        account="main",
        strategy=strategy,
        instrument="SIM:BTCUSD" if number % 2 else "SIM:ETHUSD",
        policy="baseline",
        policy_stage="baseline",
        observation=seen,
        next_observation=following,
        intended=target,
        effective=target,
        pnl=pnl,
        fees=Decimal("0.1"),
        slippage=Decimal("0.05"),
        reward=pnl - Decimal("0.15"),
        horizon_ns=10 * NS_PER_S,
    )
