"""Which limits risk judges by: those that execution says are in force, and until it has spoken those of the settings.

Execution alone decides what may loosen, since it alone has seen the signatures; risk follows its word. An override ends
here by risk's own clock, so that none outlasts its time because nobody said so.
"""

from typing import Final

from agents.limits.book import LimitBook, adopted, lapsed
from agents.limits.limit_set import LimitSet
from agents.risk.config import RiskConfig
from agents.risk.state import LEVELS_KEY, Levels
from agents.stage import ShardState
from schemas.changes import ControlOutcome

LIMITS_KEY: Final = "limits"


def book_in(state: ShardState, config: RiskConfig) -> LimitBook:
    """Return the limits in force now."""
    kept: LimitBook | None = state.get(LIMITS_KEY)
    if kept is None:
        return config.effective.first
    now_ns: int = state[LEVELS_KEY].now_ns
    book = lapsed(kept, now_ns)
    if book is not kept:
        state[LIMITS_KEY] = book
    return book


def limits_of(state: ShardState, config: RiskConfig, account: str) -> LimitSet:
    """Return an account's limits in force now."""
    return config.effective.of(book_in(state, config))[account]


def follow(state: ShardState, config: RiskConfig, told: ControlOutcome) -> None:
    """Judge by what execution has told from now on."""
    if told.sets:
        state[LIMITS_KEY] = adopted(book_in(state, config), told)


def was_latched_since(state: ShardState, scope: str, time_ns: int) -> bool:
    """Return whether a scope was latched after a time: whoever resets it has not seen that."""
    levels: Levels = state[LEVELS_KEY]
    return levels.since_ns.get(scope, 0) > time_ns
