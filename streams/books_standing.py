"""How far the comparison with the venues is, as execution's own commits say: for who wonders why nothing trades."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agents.execution.reconciliation_state import STATE_KEY, ReconciliationState
from infra.postgres.queries import Connection, Row
from infra.postgres.queries_standing import kept_value
from schemas.values import NS_PER_S

COLUMNS: Final = "kind instrument name ours theirs"


class BooksStanding(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of the newest claim. ``clean``: all venues agreed, and trading is not blocked by it."""

    epoch: int
    clean: bool
    began_at: str
    clean_at: str | None
    attempts: dict[str, int]
    missing: list[dict[str, Any]]

    @property
    def sentence(self) -> str:
        """Return it in one sentence."""
        if self.clean:
            return f"start-up: the books were the venues' under epoch {self.epoch} at {self.clean_at}"
        tries = ", ".join(f"{name} asked {count} times" for name, count in self.attempts.items())
        return (
            f"start-up: NOT reconciled under epoch {self.epoch} since {self.began_at} ({tries}): nothing new is traded"
        )

    def rows(self) -> list[Row]:
        """Return what is not as it should be, one row a thing."""
        return list(self.missing)


def books_standing(connection: Connection) -> BooksStanding | None:
    """Return how the comparison stands; None before execution's first claim."""
    value = kept_value(connection, "execution", "0", STATE_KEY)
    if value is None:
        return None
    state = msgspec.msgpack.decode(value, type=ReconciliationState)
    return BooksStanding(
        epoch=state.epoch,
        clean=bool(state.clean_at_ns),
        began_at=_time(state.began_at_ns),
        clean_at=_time(state.clean_at_ns) if state.clean_at_ns else None,
        attempts={name: one.attempt for name, one in state.venues.items()},
        missing=[msgspec.to_builtins(item) for item in state.missing()],
    )


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).isoformat()
