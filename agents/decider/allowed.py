"""Which targets may be wanted now, and the one function that holds a wanted target to them.

The decider and the training environment call the same ``project``, so a policy learns under the very rule that it
will be held to. It stands before risk: what is projected here is never asked for; what risk refuses is.
"""

from typing import Final, NamedTuple

from schemas.decisions import NoTradeReason


class Allowed(NamedTuple):
    """The closed interval of targets that may be wanted, -1 <= low <= high <= 1, and why it is narrower than usual."""

    low: float = -1.0
    high: float = 1.0
    reason: NoTradeReason | None = None


ANY_TARGET: Final = Allowed()


def project(target: float, allowed: Allowed) -> float:
    """Return the target of ``allowed`` that lies nearest to ``target``; what is no number stays none."""
    return min(max(target, allowed.low), allowed.high)


def allowed_now(target_in_force: float, *, short: bool, reason: NoTradeReason | None) -> Allowed:
    """Return what may be wanted beside a target in force.

    ``short``: whether a target below 0 may be. With a ``reason`` to restrict the line, only less of the target in
    force on its side of 0, or what is left of that.
    """
    low, high = -1.0 if short else 0.0, 1.0
    if reason is None:
        return Allowed(low, high)
    if target_in_force >= 0:
        return Allowed(0.0, min(high, target_in_force), reason)
    return Allowed(max(low, target_in_force), 0.0, reason)
